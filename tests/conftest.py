"""What every room's tests share: where the clone is, the command line as a user has it, and real data where it is."""

from __future__ import annotations

import fcntl
import gc
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
os.environ.pop("COLUMNS", None)  # pytest-xdist sets it for its workers; edgekit goes by it, as on a terminal
RUNTIME_NOISE = {"TF_CPP_MIN_LOG_LEVEL": "3", "COLUMNS": "160"}


@pytest.fixture(scope="session", autouse=True)
def _state_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What edgekit learns of a machine and keeps of interrupted runs stays out of the user's state folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_is_heard() -> None:
    """A script's background job ignores SIGINT, and so would all it starts: tests send it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class Ended:
    """A finished command line."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the clone."""
    return ROOT


@pytest.fixture(scope="session")
def edgekit_program() -> str:
    """The installed program beside this interpreter."""
    return str(Path(sys.executable).with_name("edgekit"))


@pytest.fixture
def edgekit_cli(edgekit_program: str, tmp_path: Path) -> Callable[..., Ended]:
    """Runs ``edgekit ARGUMENTS`` in a process of its own, in ``tmp_path``; never raises for an exit code."""

    def run(*arguments: str | Path, env: dict[str, str] | None = None, timeout: float = 300, **options: Any) -> Ended:
        return run_program([edgekit_program, *map(str, arguments)], cwd=tmp_path, env=env, timeout=timeout, **options)

    return run


@pytest.fixture(scope="module")
def kept_workers() -> Iterator[None]:
    """What this file runs on the default device runs in workers kept from test to test: a start costs more than
    a small file. Not for tests of workers, of their environment, or of what a verb starts."""
    from edgekit import devices

    with devices.kept_workers():
        yield


@pytest.fixture
def edgekit_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """As :func:`edgekit_cli`, in this process: for all but signals, streams and what an import of edgekit costs."""
    from edgekit.cli import main

    def run(*arguments: str | Path, env: dict[str, str] | None = None) -> Ended:
        monkeypatch.chdir(tmp_path)
        for name, value in {**RUNTIME_NOISE, **(env or {})}.items():
            monkeypatch.setenv(name, value)
        capfd.readouterr()
        with pytest.raises(SystemExit) as leaving:
            main([*map(str, arguments)])
        out, err = capfd.readouterr()
        return Ended(int(leaving.value.code or 0), out, err)

    return run


def run_program(
    command: Sequence[str], *, cwd: Path, env: dict[str, str] | None = None, timeout: float = 300, **options: Any
) -> Ended:
    """One process, its output captured as text."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **RUNTIME_NOISE, **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        **options,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of downloaded data sets ($EDGEKIT_DATA); skips if it is not set."""
    folder = os.environ.get("EDGEKIT_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs $EDGEKIT_DATA with the downloaded data sets")
    return Path(folder)


@pytest.fixture(scope="session")
def model_files(root: Path) -> ModuleType:
    """The module ``tests/runtime/files.py`` (pytest imports test files one by one: they cannot import each other)."""
    name = "edgekit_tests_files"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, root / "tests" / "runtime" / "files.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture(scope="session")
def conv_tflite(model_files: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Convolution, CUMSUM (which XNNPACK has not), convolution on (1, 48, 48, 16), named as litert-torch names them."""
    schema, generator = model_files.schema, np.random.default_rng(0)
    options = schema.Conv2DOptionsT()
    options.padding, options.strideH, options.strideW = schema.Padding.SAME, 1, 1
    options.dilationHFactor = options.dilationWFactor = 1
    conv = (schema.BuiltinOptions.Conv2DOptions, options)
    shape, named = (1, 48, 48, 16), "net.Net/torch.nn.Sequential_{}/torch.nn.Conv2d_{};"
    weights = [generator.normal(size=(16, 3, 3, 16)).astype(np.float32) for _ in range(2)]
    tensors = [
        model_files.Tensor("x", "float32", shape),
        model_files.Tensor(named.format("stem", 0), "float32", shape),
        model_files.Tensor("net.Net/net.Sum_sum;", "float32", shape),
        model_files.Tensor(named.format("head", 1), "float32", shape),
        model_files.Tensor("w0", "float32", weights[0].shape, weights[0]),
        model_files.Tensor("w1", "float32", weights[1].shape, weights[1]),
        model_files.Tensor("b", "float32", (16,), np.zeros(16, np.float32)),
        model_files.Tensor("axis", "int32", (), np.array(3, np.int32)),
    ]
    cumsum = (schema.BuiltinOptions.CumsumOptions, schema.CumsumOptionsT())
    operators = [
        model_files.Operator(model_files.OPERATORS.CONV_2D, [0, 4, 6], [1], conv),
        model_files.Operator(model_files.OPERATORS.CUMSUM, [1, 7], [2], cumsum),
        model_files.Operator(model_files.OPERATORS.CONV_2D, [2, 5, 6], [3], conv),
    ]
    path = tmp_path_factory.mktemp("profile") / "conv.tflite"
    made: Path = model_files.write_tflite(path, tensors, operators, [0], [3], ({"x": 0}, {"y": 3}))
    return made


def other_interpreter(root: Path, which: str) -> str:
    """The interpreter of an environment that ``scripts/test`` makes, or that ``EDGEKIT_<which>_PYTHON`` names; the test
    is skipped without it."""
    variable, folder = f"EDGEKIT_{which}_PYTHON", f".venv-{which.lower()}"
    path = os.environ.get(variable) or str(root / folder / "bin" / "python")
    if not os.access(path, os.X_OK):
        pytest.skip(f"needs {folder} or ${variable}: run scripts/test")
    return path


@pytest.fixture(scope="session")
def other_python(root: Path) -> str:
    """The interpreter of the environment with tflite-runtime and numpy 1, which ``scripts/test`` makes."""
    return other_interpreter(root, "TFLITE")


@pytest.fixture(scope="session")
def flex_python(root: Path) -> str:
    """The interpreter of the environment whose TensorFlow brings Flex operators, which ``scripts/test`` makes."""
    return other_interpreter(root, "FLEX")


@pytest.fixture(scope="session")
def onnx2tf_python(root: Path) -> str:
    """The interpreter of the environment with onnx2tf, which ``scripts/test`` makes."""
    path = other_interpreter(root, "ONNX2TF")
    os.environ.setdefault("EDGEKIT_ONNX2TF_PYTHON", path)
    return path


@pytest.fixture(scope="session")
def tflm_python(root: Path) -> str:
    """The interpreter of the environment with tflite-micro, which ``scripts/test`` makes; ``tflm`` runs there."""
    path = other_interpreter(root, "TFLM")
    os.environ.setdefault("EDGEKIT_TFLM_PYTHON", path)
    return path


@pytest.fixture(scope="session")
def executorch_python(root: Path) -> str:
    """The interpreter of the environment with ExecuTorch, which ``scripts/test`` makes."""
    path = other_interpreter(root, "EXECUTORCH")
    os.environ.setdefault("EDGEKIT_EXECUTORCH_PYTHON", path)
    return path


@pytest.fixture(scope="session")
def openvino_python(root: Path) -> str:
    """The interpreter of the environment with OpenVINO, which ``scripts/test`` makes; ``openvino`` runs there."""
    path = other_interpreter(root, "OPENVINO")
    os.environ.setdefault("EDGEKIT_OPENVINO_PYTHON", path)
    return path


@pytest.fixture(scope="session")
def mediapipe_python(root: Path) -> str:
    """The interpreter of the environment with MediaPipe, which ``scripts/test`` makes."""
    return other_interpreter(root, "MEDIAPIPE")


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """``once(name, make)``: the folder ``name``, filled by ``make(folder)`` in one of the processes of this run."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"

    def folder(name: str, make: Callable[[Path], object]) -> Path:
        target = shared / name
        shared.mkdir(exist_ok=True)
        with open(shared / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not target.is_dir():
                part = Path(tempfile.mkdtemp(dir=shared))
                make(part)
                part.rename(target)
        return target

    return folder


@pytest.fixture(scope="session")
def saved_models(once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """A folder of SavedModel folders, made by TensorFlow (see saved_models.py); skips where it is not installed."""
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("needs tensorflow: pip install 'edgekit[tensorflow]'")

    def make(folder: Path) -> None:
        made = run_program([sys.executable, str(ROOT / "tests" / "saved_models.py"), str(folder)], cwd=folder)
        assert made.code == 0, made.err

    return once("saved-models", make)


HEAVY = Path(__file__).with_name("heavy.txt")
"""Seconds and name of every test function that takes longer than :data:`HEAVY_S`, with all its cases and what it shares
with others: what ``--fast`` leaves out; and of every such file. ``scripts/test --record`` writes it."""
HEAVY_S = 0.5
SLOW_S = 10.0
"""What a test takes that is marked slow, until it is recorded."""


def heavy_functions() -> dict[str, float]:
    """``tests/room/test_file.py::test_function`` -> its seconds in :data:`HEAVY`, and ``tests/room/test_file.py`` ->
    those of the file, where what its functions share counts once."""
    rows = (line.split() for line in HEAVY.read_text(encoding="utf-8").splitlines())
    return {name: float(seconds) for seconds, name in rows}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("edgekit")
    group.addoption("--fast", action="store_true", help="leave out what is slow or in tests/heavy.txt")
    group.addoption("--record", action="store_true", help="write tests/heavy.txt anew (on a machine with nothing else)")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--record"):
        config.pluginmanager.register(Recorder(), "edgekit-recorder")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """What the import of all tests makes (torch, onnx, transformers) stays to the end, and the garbage collector leaves
    it out: looking through it again and again took half of the time of the collection."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
        gc.set_threshold(10_000, 20, 20)  # an export makes millions of objects: it is called 14 times less often


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest files first, so that two processes end together; ``--fast``; what cannot run here is skipped.

    Tests marked ``needs_data`` or ``gpu`` say the reason, where the data or the GPU is missing.
    """
    heavy = heavy_functions()
    files: dict[str, float] = defaultdict(float)
    for item in items:
        if _file(item.nodeid) not in heavy and item.get_closest_marker("slow"):
            files[_file(item.nodeid)] += SLOW_S
    items.sort(key=lambda item: -max(files[_file(item.nodeid)], heavy.get(_file(item.nodeid), 0.0)))
    if config.getoption("--fast"):
        left_out = [
            item
            for item in items
            if not item.get_closest_marker("thin")
            and (item.get_closest_marker("slow") or _function(item.nodeid) in heavy)
        ]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]
    folder = os.environ.get("EDGEKIT_DATA", "")
    without_data = pytest.mark.skip(reason="needs $EDGEKIT_DATA with the downloaded data sets")
    without_gpu = pytest.mark.skip(reason="needs a CUDA device")
    for item in items:
        if item.get_closest_marker("needs_data") and not (folder and Path(folder).is_dir()):
            item.add_marker(without_data)
        if item.get_closest_marker("gpu") and not _has_cuda():
            item.add_marker(without_gpu)


def _file(nodeid: str) -> str:
    """The file of a test."""
    return nodeid.partition("::")[0]


def _function(nodeid: str) -> str:
    """The name of a test without the case of its parameters."""
    return nodeid.partition("[")[0]


class Recorder:
    """Measures every test function, and every shared fixture once, and writes :data:`HEAVY` at the end."""

    def __init__(self) -> None:
        self._shared: dict[tuple[str, str], float] = {}
        self._inside: list[float] = []
        self._began = self._in_shared = 0.0
        self._own: dict[str, float] = defaultdict(float)
        self._needs: dict[str, dict[str, float]] = defaultdict(dict)
        self._files: dict[str, float] = defaultdict(float)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
        began = time.monotonic()
        self._inside.append(0.0)
        try:
            return (yield)
        finally:
            took = time.monotonic() - began
            alone = took - self._inside.pop()
            if self._inside:
                self._inside[-1] += took
            if fixturedef.scope != "function":
                self._shared[fixturedef.baseid, fixturedef.argname] = alone
                self._in_shared += alone

    def pytest_runtest_setup(self) -> None:
        self._began, self._in_shared = time.monotonic(), 0.0

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        took = time.monotonic() - self._began
        own = took - self._in_shared
        nearest: dict[str, tuple[str, float]] = {}
        for (base, name), seconds in self._shared.items():
            if name in getattr(item, "fixturenames", ()) and item.nodeid.startswith(base):
                nearest[name] = max(nearest.get(name, ("", 0.0)), (base, seconds), key=lambda one: len(one[0]))
        needs = {f"{base}::{name}": seconds for name, (base, seconds) in nearest.items()}
        item.user_properties.append(("seconds", [took, own, needs]))  # travels to the process that writes the file

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, value in report.user_properties:
            if name == "seconds" and report.when == "teardown":
                took, own, needs = value  # type: ignore[misc]
                self._files[_file(report.nodeid)] += took
                self._own[_function(report.nodeid)] += own
                self._needs[_function(report.nodeid)].update(needs)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(session.config, "workerinput"):
            return
        known = heavy_functions()
        for name, own in self._own.items():
            known[name] = own + sum(self._needs[name].values())
        known |= self._files
        lines = [f"{seconds:.1f} {name}\n" for name, seconds in sorted(known.items()) if seconds > HEAVY_S]
        HEAVY.write_text("".join(lines), encoding="utf-8")


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()
