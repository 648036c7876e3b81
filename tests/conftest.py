"""What every room's tests share: where the clone is, the command line as a user has it, and real data where it is."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
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


@pytest.fixture(scope="session")
def other_python(root: Path) -> str:
    """The interpreter of the environment with tflite-runtime and numpy 1, which ``scripts/test`` makes."""
    path = os.environ.get("EDGEKIT_TFLITE_PYTHON") or str(root / ".venv-tflite" / "bin" / "python")
    if not os.access(path, os.X_OK):
        pytest.skip("needs .venv-tflite or $EDGEKIT_TFLITE_PYTHON: run scripts/test")
    return path


@pytest.fixture(scope="session")
def flex_python(root: Path) -> str:
    """The interpreter of the environment whose TensorFlow brings Flex operators, which ``scripts/test`` makes."""
    path = os.environ.get("EDGEKIT_FLEX_PYTHON") or str(root / ".venv-flex" / "bin" / "python")
    if not os.access(path, os.X_OK):
        pytest.skip("needs .venv-flex or $EDGEKIT_FLEX_PYTHON: run scripts/test")
    return path


@pytest.fixture(scope="session")
def saved_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of SavedModel folders, made by TensorFlow (see saved_models.py); skips where it is not installed."""
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("needs tensorflow: pip install 'edgekit[tensorflow]'")
    folder = tmp_path_factory.mktemp("saved-models")
    made = run_program([sys.executable, str(ROOT / "tests" / "saved_models.py"), str(folder)], cwd=folder)
    assert made.code == 0, made.err
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked ``needs_data`` or ``gpu`` are skipped, with the reason, where the data or the GPU is missing."""
    folder = os.environ.get("EDGEKIT_DATA", "")
    without_data = pytest.mark.skip(reason="needs $EDGEKIT_DATA with the downloaded data sets")
    without_gpu = pytest.mark.skip(reason="needs a CUDA device")
    for item in items:
        if item.get_closest_marker("needs_data") and not (folder and Path(folder).is_dir()):
            item.add_marker(without_data)
        if item.get_closest_marker("gpu") and not _has_cuda():
            item.add_marker(without_gpu)


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()
