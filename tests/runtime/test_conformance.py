"""What every runtime does alike: one suite, whatever runs the files and wherever it lies.

A runtime that lies in an environment beside edgekit's runs there. What only one of them does stands in its own test.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import edgekit
from edgekit.devices import open_runner
from edgekit.devices.archive import floor_archive
from edgekit.devices.runner import WorkerRunner
from edgekit.environments import EXECUTORCH, OPENVINO, TFLITE, TFLM, Environment
from edgekit.errors import (
    DeviceError,
    FeedError,
    InputError,
    ModelError,
    RuntimeMissingError,
    UsageError,
    WorkerCrashError,
    WorkerTimeoutError,
)
from edgekit.runtime import runner_class
from edgekit.runtime.base import Runner


@dataclass(frozen=True)
class Case:
    """A runtime with a format. ``environment``: where it lies; ``threads``: whether it takes more than one."""

    runtime: str
    format: str
    environment: Environment | None = None
    threads: bool = True

    def __str__(self) -> str:
        return f"{self.runtime}-{self.format}"


CASES = (
    Case("onnxruntime", "onnx"),
    Case("openvino", "onnx", OPENVINO),
    Case("openvino", "tflite", OPENVINO),
    Case("litert", "tflite"),
    Case("litert:reference", "tflite"),
    Case("tflite-runtime", "tflite", TFLITE),
    Case("tensorflow", "tflite"),
    Case("tflm", "tflite", TFLM, threads=False),
    Case("torch", "pt2"),
    Case("executorch", "pte", EXECUTORCH),
)
OTHER_VERSION = """\
import sys
sys.path[:0] = sys.argv[1:3]
from edgekit.runtime import load
try:
    load(sys.argv[4], runtime=sys.argv[3])
except Exception as error:
    print(type(error).__name__, error)
"""
ORDER = (3, 11, 0, 7, 1, 10, 2)
PROGRAMS = ("pt2", "pte")
"""Formats whose files torch makes."""


@pytest.fixture(scope="module", params=CASES, ids=str)
def case(request: pytest.FixtureRequest, root: Path) -> Case:
    """A runtime that is there."""
    found: Case = request.param
    kind = runner_class(found.runtime)
    if found.environment is None and kind.installed() is None:
        pytest.skip(f"needs {kind.package}")
    if found.environment is not None:
        where = os.environ.get(found.environment.variable) or str(root / found.environment.folder / "bin" / "python")
        if not os.access(where, os.X_OK):
            pytest.skip(f"needs {found.environment.folder} or ${found.environment.variable}: run scripts/test")
        os.environ.setdefault(found.environment.variable, where)
    return found


@pytest.fixture(scope="module")
def programs(case: Case, once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """A folder with ``dense``, ``dynamic`` (its batch is free), ``scalar``, ``large``, ``many`` (outputs) and
    ``counts`` (integers), made by torch."""
    import torch

    class Net(torch.nn.Module):
        def __init__(self, weights: torch.Tensor, bias: float) -> None:
            super().__init__()
            self.weights, self.bias = torch.nn.Parameter(weights), bias

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"y": x @ self.weights.T + self.bias}

    class Twice(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"y": x + x}

    class Many(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {f"o{k}": x + k for k in ORDER}

    def make(folder: Path) -> None:
        small = Net(torch.arange(12.0).reshape(3, 4), 1.0)
        nets: dict[str, tuple[torch.nn.Module, torch.Tensor]] = {
            "dense": (small, torch.ones(1, 4)), "dynamic": (small, torch.ones(1, 4)),
            "scalar": (Twice(), torch.tensor(1.5)), "large": (Net(torch.ones(1024, 2048), 0.0), torch.ones(1, 2048)),
            "many": (Many(), torch.zeros(1, 2)), "counts": (Twice(), torch.zeros(1, 3, dtype=torch.int64)),
        }  # fmt: skip
        for name, (module, x) in nets.items():
            free = ["x:0=batch"] if name == "dynamic" else []
            edgekit.export(module, inputs={"x": x}, to=case.format, dynamic=free, out=folder, name=name)

    return once(f"conformance-{case.format}", make)


@pytest.fixture
def dense(case: Case, files: ModuleType, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., Path]:
    """``dense(dynamic=…)``: ``y = x @ W.T + 1`` in the format of the case."""
    if case.format in PROGRAMS:
        folder: Path = request.getfixturevalue("programs")
        return lambda dynamic=False: folder / f"{'dynamic' if dynamic else 'dense'}.{case.format}"

    def make(**options: bool) -> Path:
        made: Path = getattr(files, f"dense_{case.format}")(tmp_path / f"dense.{case.format}", **options)
        return made

    return make


def opened(case: Case, path: Path, **options: object) -> Runner:
    return open_runner(path, runtime=case.runtime, **options)  # type: ignore[arg-type]


def test_signature_names_and_values(case: Case, dense: Callable[..., Path]) -> None:
    with opened(case, dense()) as runner:
        assert runner.name == case.runtime and runner.version[0].isdigit()
        (x,), (y,) = runner.signature.inputs, runner.signature.outputs
        assert (x.name, x.dtype, x.shape) == ("x", "float32", (1, 4))
        assert (y.name, y.dtype, y.shape) == ("y", "float32", (1, 3))
        generator = np.random.default_rng(0)
        for _ in range(3):
            feed = generator.standard_normal((1, 4)).astype(np.float32)
            wanted = feed @ np.arange(12, dtype=np.float32).reshape(3, 4).T + 1
            assert np.abs(runner.run({"x": feed})["y"] - wanted).max() < 1e-4  # float32 sums of numbers up to 40


def _many(case: Case, files: ModuleType, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """``o3``, ``o11``, … of ``x``, in an order that no sorting gives."""
    if case.format in PROGRAMS:
        folder: Path = request.getfixturevalue("programs")
        return folder / f"many.{case.format}"
    helper, kind = files.helper, files.TensorProto.FLOAT
    held = [files.numpy_helper.from_array(np.array(k, np.float32), f"c{k}") for k in ORDER]
    nodes = [helper.make_node("Add", ["x", f"c{k}"], [f"o{k}"]) for k in ORDER]
    ends = [helper.make_tensor_value_info(name, kind, [1, 2]) for name in ("x", *(f"o{k}" for k in ORDER))]
    return _saved(files, helper.make_graph(nodes, "g", ends[:1], ends[1:], held), tmp_path / "many.onnx")


def _saved(files: ModuleType, graph: Any, path: Path) -> Path:
    model = files.helper.make_model(graph, opset_imports=[files.helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def test_order_of_many_outputs(case: Case, files: ModuleType, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if case.format != "tflite":
        path = _many(case, files, tmp_path, request)
        with opened(case, path) as runner:
            assert [spec.name for spec in runner.signature.outputs] == [f"o{k}" for k in ORDER]
            found = runner.run({"x": np.zeros((1, 2), np.float32)})
            assert [(name, float(value[0, 0])) for name, value in found.items()] == [(f"o{k}", k) for k in ORDER]
        return
    with opened(case, files.many_outputs_tflite(tmp_path / "m.tflite")) as runner:
        found = runner.run({runner.signature.inputs[0].name: np.zeros((1, 2), np.float32)})
        assert list(found) == [spec.name for spec in runner.signature.outputs]
        values = [float(value[0, 0]) for value in found.values()]
        assert sorted(values) == list(range(12))
        if case.runtime != "openvino":  # it tells the names of tensors, not those of the signature
            assert values == list(range(12))


def test_numbers_without_axes(case: Case, files: ModuleType, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if case.format in PROGRAMS:
        path = request.getfixturevalue("programs") / f"scalar.{case.format}"
    elif case.format == "onnx":
        value = [files.helper.make_tensor_value_info(name, files.TensorProto.FLOAT, []) for name in "xy"]
        graph = files.helper.make_graph([files.helper.make_node("Add", ["x", "x"], ["y"])], "g", value[:1], value[1:])
        path = _saved(files, graph, tmp_path / "m.onnx")
    else:
        add = (files.schema.BuiltinOptions.AddOptions, files.schema.AddOptionsT())
        node = files.Operator(files.OPERATORS.ADD, [0, 0], [1], add)
        tensors = [files.Tensor(name, "float32", ()) for name in "xy"]
        path = files.write_tflite(tmp_path / "m.tflite", tensors, [node], [0], [1])
    with opened(case, path) as runner:
        found = runner.run({"x": np.array(1.5, np.float32)})["y"]
        assert found.shape == () and found == 3


def test_free_axes_are_run_or_refused_by_name(case: Case, dense: Callable[..., Path]) -> None:
    with opened(case, dense(dynamic=True)) as runner:
        assert runner.run({"x": np.zeros((1, 4), np.float32)})["y"].tolist() == [[1, 1, 1]]
        if isinstance(runner.signature.inputs[0].shape[0], str):
            assert runner.run({"x": np.zeros((3, 4), np.float32)})["y"].shape == (3, 3)
        else:
            with pytest.raises(FeedError, match=r"'x'.*got shape \[3, 4\], wanted \[1, 4\], axis 0 is 3 for 1"):
                runner.run({"x": np.zeros((3, 4), np.float32)})
        with pytest.raises(FeedError, match=r"'x'.*axis 1 is 5 for 4"):
            runner.run({"x": np.zeros((1, 5), np.float32)})


def test_no_values_at_all_are_refused(case: Case, dense: Callable[..., Path]) -> None:
    with opened(case, dense(dynamic=True)) as runner, pytest.raises(FeedError, match="is 0"):
        runner.run({"x": np.zeros((0, 4), np.float32)})


def test_integers_in_and_out(case: Case, files: ModuleType, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Quantized ones of TFLite; files of other formats have the conversions inside, and take and give counts."""
    if case.format != "tflite":
        if case.format in PROGRAMS:
            path = request.getfixturevalue("programs") / f"counts.{case.format}"
        else:
            ends = [files.helper.make_tensor_value_info(name, files.TensorProto.INT64, [1, 3]) for name in "xy"]
            node = files.helper.make_node("Add", ["x", "x"], ["y"])
            path = _saved(files, files.helper.make_graph([node], "g", ends[:1], ends[1:]), tmp_path / "counts.onnx")
        with opened(case, path) as runner:
            assert [spec.dtype for spec in (*runner.signature.inputs, *runner.signature.outputs)] == ["int64", "int64"]
            assert runner.run({"x": np.array([[-7, 0, 2**30 - 1]])})["y"].tolist() == [[-14, 0, 2**31 - 2]]
            large = {"x": np.array([[0, 0, 2**40]])}
            if case.runtime == "openvino":
                with pytest.raises(FeedError, match=r"'x'.*of 64 bits in 32"):
                    runner.run(large)
            else:
                assert runner.run(large)["y"].tolist() == [[0, 0, 2**41]]
            with pytest.raises(FeedError, match=r"'x'.*float32.*int64"):
                runner.run({"x": np.ones((1, 3), np.float32)})
        return
    path = files.relu_int8_tflite(tmp_path / "m.tflite")
    with opened(case, path) as real, opened(case, path, raw=True) as raw:
        assert real.signature.inputs[0].dtype == "float32" and raw.signature.inputs[0].dtype == "int8"
        values = np.array([[-2.0, -0.5, 0.0, 0.5, 1.0, 20.0]], np.float32)
        assert real.run({"x": values})["y"].tolist() == [[0, 0, 0, 0.5, 1, 20]]
        integers = np.array([[-7, -4, -3, -2, -1, 37]], np.int8)
        assert raw.run({"x": integers})["y"].tolist() == [[-3, -3, -3, -2, -1, 37]]


def test_state_and_reset(case: Case, files: ModuleType, tmp_path: Path) -> None:
    """A run starts anew unless state is asked for; a runtime that cannot keep or reset it refuses the file."""
    if case.format != "tflite":
        pytest.skip("state of other formats goes in and out, or is tested with its runtime")
    path, feed = files.resource_tflite(tmp_path / "m.tflite"), {"x": np.ones((1, 2), np.float32)}
    try:
        runner = opened(case, path)
    except InputError as error:
        assert "m.tflite" in str(error)
        return
    with runner:
        assert [float(runner.run(feed)["y"][0, 0]) for _ in range(3)] == [1, 1, 1]
    with opened(case, path, stateful=True) as runner:
        assert [float(runner.run(feed)["y"][0, 0]) for _ in range(3)] == [1, 2, 3]
        runner.reset()
        assert float(runner.run(feed)["y"][0, 0]) == 1


def test_threads(case: Case, dense: Callable[..., Path]) -> None:
    path = dense()
    if case.threads:
        with opened(case, path, threads=2) as runner:
            assert runner.threads == 2
            assert runner.run({"x": np.zeros((1, 4), np.float32)})["y"].tolist() == [[1, 1, 1]]
    else:
        with pytest.raises(UsageError, match="threads is 2"):
            opened(case, path, threads=2)
    with pytest.raises(UsageError, match="threads is 0"):
        opened(case, path, threads=0)


def test_a_crash_and_a_hang_are_typed(case: Case, dense: Callable[..., Path]) -> None:
    path, feed = dense(), {"x": np.zeros((1, 4), np.float32)}
    for number, error in ((signal.SIGSEGV, WorkerCrashError), (signal.SIGSTOP, WorkerTimeoutError)):
        with opened(case, path) as runner:
            assert isinstance(runner, WorkerRunner)
            runner.run(feed)
            os.kill(int(runner.client.hello["pid"]), number)
            with pytest.raises(error):
                runner.client.run(feed, timeout_s=1)
            with pytest.raises(DeviceError):
                runner.run(feed)


def test_damaged_files(case: Case, dense: Callable[..., Path], tmp_path: Path) -> None:
    content = dense().read_bytes()
    for number, broken in enumerate((content[: len(content) // 2], b"", content[::-1])):
        path = tmp_path / f"broken{number}.{case.format}"
        path.write_bytes(broken)
        with pytest.raises(ModelError, match=path.name):
            opened(case, path)


def test_without_its_package_the_message_has_the_command(
    case: Case, dense: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if case.environment is None:
        with pytest.raises(RuntimeMissingError, match="pip install"):
            raise runner_class(case.runtime)._missing("m", ModuleNotFoundError("no module"))
        return
    monkeypatch.delenv(case.environment.variable)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    with pytest.raises(RuntimeMissingError, match=re.escape(case.environment.packages[0].strip("'"))):
        opened(case, dense())


def test_another_version_is_named_with_the_command(case: Case, dense: Callable[..., Path], tmp_path: Path) -> None:
    """A stand-in of a release that has nothing of what edgekit calls."""
    kind, here = runner_class(case.runtime), tmp_path / "packages"
    folder = here
    for name in kind.module.split("."):
        folder /= name
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("__version__ = '0.0.7'\n")
    told = here / f"{kind.package.replace('-', '_')}-0.0.7.dist-info"
    told.mkdir()
    (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {kind.package}\nVersion: 0.0.7\n")
    python = case.environment.python() if case.environment is not None else sys.executable
    words = [str(python), "-P", "-c", OTHER_VERSION, str(here), str(floor_archive()), case.runtime, str(dense())]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stdout.startswith("RuntimeMissingError"), done.stdout + done.stderr
    assert "0.0.7" in done.stdout and kind.package in done.stdout and "pip install" in done.stdout


def test_two_in_one_process_and_what_closing_leaves(
    case: Case, dense: Callable[..., Path], files: ModuleType, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    python = case.environment.python() if case.environment is not None else sys.executable
    large, weights = tmp_path / f"large.{case.format}", np.ones((2048, 1024), np.float32)
    if case.format in PROGRAMS:
        large = request.getfixturevalue("programs") / large.name
    elif case.format == "onnx":
        helper, proto = files.helper, files.TensorProto
        ends = [helper.make_tensor_value_info(n, proto.FLOAT, [1, s]) for n, s in (("x", 2048), ("y", 1024))]
        held = files.numpy_helper.from_array(weights, "w")
        graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [held])
        _saved(files, graph, large)
    else:
        tensors = [files.Tensor("x", "float32", (1, 1024)), files.Tensor("w", "float32", weights.shape, weights)]
        options = (files.schema.BuiltinOptions.FullyConnectedOptions, files.schema.FullyConnectedOptionsT())
        node = files.Operator(files.OPERATORS.FULLY_CONNECTED, [0, 1, -1], [2], options)
        files.write_tflite(large, [*tensors, files.Tensor("y", "float32", (1, 2048))], [node], [0], [2])
    program = str(Path(__file__).with_name("conformance_program.py"))
    words = [str(python), "-P", program, str(floor_archive()), case.runtime, str(dense()), str(large)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["between"] == found["alone"] and found["after"] == found["alone"][1]
    # 15 files of 8 MB more would be 120 MB
    assert found["held"][-1] - found["held"][4] < 40e6
