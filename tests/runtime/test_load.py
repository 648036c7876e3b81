"""Which runtime opens which file, and what is said when none can."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import edgekit
from edgekit import registry
from edgekit.errors import DeviceError, ModelError, RuntimeMissingError, UsageError
from edgekit.runtime import load, runner_class
from edgekit.runtime.base import is_out_of_memory


@pytest.fixture
def onnx_file(files: ModuleType, tmp_path: Path) -> Path:
    return files.dense_onnx(tmp_path / "m.onnx")


def test_edgekit_load_is_this_load(onnx_file: Path) -> None:
    with edgekit.load(onnx_file) as runner:
        assert runner.run({"x": np.zeros((1, 4), np.float32)})["y"].tolist() == [[1, 1, 1]]


def test_names_that_do_not_fit(onnx_file: Path) -> None:
    with pytest.raises(UsageError, match=r"runs \.tflite files, m\.onnx is \.onnx; use one of: onnxruntime"):
        load(onnx_file, runtime="litert")
    with pytest.raises(UsageError, match="there are: onnxruntime, litert"):
        load(onnx_file, runtime="onyxruntime")
    with pytest.raises(UsageError, match="threads is 0"):
        load(onnx_file, threads=0)
    with pytest.raises(ModelError, match="does not exist"):
        load(onnx_file.with_name("other.onnx"))


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("litert", "LiteRtRunner"),
        ("litert:cpu", "CompiledModelRunner"),
        ("torch", "TorchRunner"),
        ("torch:eager", "TorchResidentRunner"),
        ("onnxruntime:openvino", "OnnxRuntimeRunner"),  # its variants are run by the same class
    ],
)
def test_a_variant_is_run_by_the_class_that_is_registered_for_it(name: str, wanted: str) -> None:
    assert runner_class(name).__name__ == wanted


def test_what_is_registered_for_variants_is_a_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.TABLES["variants"], "litert", "pathlib:Path")  # type: ignore[index]
    with pytest.raises(UsageError, match="is not a Runner"):
        runner_class("litert:cpu")


def test_threads_change_no_result(onnx_file: Path) -> None:
    with load(onnx_file, threads=2) as runner:
        assert runner.run({"x": np.zeros((1, 4), np.float32)})["y"].tolist() == [[1, 1, 1]]


@pytest.mark.parametrize(
    ("module", "name", "package", "extra"),
    [
        ("onnxruntime", "dense_onnx", "onnxruntime", "onnx"),
        ("ai_edge_litert", "dense_tflite", "ai-edge-litert", "litert"),
    ],
)
def test_a_missing_runtime_names_its_package_and_the_command(
    files: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str, package: str, extra: str
) -> None:
    path = getattr(files, name)(tmp_path / f"m.{'onnx' if extra == 'onnx' else 'tflite'}")
    for loaded in [key for key in sys.modules if key == module or key.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)  # importing it fails, as where it is not installed
    for other in ("tflite_runtime", "tensorflow"):
        monkeypatch.setitem(sys.modules, other, None)
    with pytest.raises(RuntimeMissingError) as caught:
        load(path)
    assert package in str(caught.value) and f"pip install 'edgekit[{extra}]'" in str(caught.value)


def test_tflite_runtime_is_to_get_an_environment_of_its_own(files: ModuleType, tmp_path: Path) -> None:
    """Beside numpy 2, where the advice is read, installing it would do no good."""
    path = files.dense_tflite(tmp_path / "m.tflite")
    with pytest.raises(RuntimeMissingError, match=r"python3\.11 -m venv .*'numpy<2', then --on python:"):
        load(path, runtime="tflite-runtime")


def test_a_failure_while_running_is_a_device_error(files: ModuleType, tmp_path: Path) -> None:
    from onnx import TensorProto, helper, numpy_helper

    rows = numpy_helper.from_array(np.eye(4, dtype=np.float32), "rows")
    cast = helper.make_node("Cast", ["x"], ["index"], to=TensorProto.INT64)
    gather = helper.make_node("Gather", ["rows", "index"], ["y"])
    path = files.write_onnx(tmp_path / "m.onnx", [cast, gather], {"x": (1,)}, {"y": (1, 4)}, [rows])
    with load(path) as runner:
        assert runner.run({"x": np.array([2], np.float32)})["y"].tolist() == [[0, 0, 1, 0]]
        with pytest.raises(DeviceError, match=r"onnxruntime .* failed while running: .*out of.*bounds"):
            runner.run({"x": np.array([7], np.float32)})


def test_lack_of_memory_is_known_by_its_words() -> None:
    assert is_out_of_memory(MemoryError())
    caused = DeviceError("failed")
    caused.__cause__ = RuntimeError("std::bad_alloc")
    assert is_out_of_memory(caused)
    assert not is_out_of_memory(DeviceError("index out of bounds"))
