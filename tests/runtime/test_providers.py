"""Execution providers by name: refused where they are not, checked after the start, told in the ledger."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import helper

from edgekit.devices import open_runner
from edgekit.errors import DeviceError, RuntimeMissingError, UnsupportedError, UsageError
from edgekit.runtime import load, runner_class
from edgekit.runtime.native_stderr import capture_stderr
from edgekit.runtime.providers import PROVIDERS, prepare, require_started

BRINGS = {
    "openvino": "onnxruntime-openvino",
    "xnnpack": "--use_xnnpack",
    "acl": "--use_acl",
    "nnapi": "--use_nnapi",
    "coreml": "macOS",
    "qnn": "pip install onnxruntime-qnn",
    "cuda": r"onnxruntime-gpu\[cuda,cudnn\]",
    "tensorrt": r"onnxruntime-gpu\[cuda,cudnn\]",
    "tensorrt:fp16": r"onnxruntime-gpu\[cuda,cudnn\]",
}
X = np.array([[1, 2, 3, 4]], np.float32)


@pytest.fixture
def onnx_file(files: ModuleType, tmp_path: Path) -> Path:
    return files.dense_onnx(tmp_path / "m.onnx")


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_provider_that_is_not_built_in_names_what_brings_it(onnx_file: Path, name: str) -> None:
    if PROVIDERS[name].name in onnxruntime.get_available_providers():
        pytest.skip(f"this onnxruntime has {name}")
    with pytest.raises(RuntimeMissingError, match=BRINGS[name]) as caught:
        load(onnx_file, runtime=f"onnxruntime:{name}")
    assert caught.value.exit_code == 4
    for told in (PROVIDERS[name].name, "CPUExecutionProvider", sys.executable):
        assert told in str(caught.value)


def test_onnxruntime_knows_every_name() -> None:
    """A name that onnxruntime does not know would be refused for the wrong reason, for ever."""
    assert {provider.name for provider in PROVIDERS.values()} <= set(onnxruntime.get_all_providers())


def test_a_provider_that_is_offered_and_is_none_of_these(onnx_file: Path) -> None:
    """Every wheel for Linux lists AzureExecutionProvider, which runs nothing on this machine."""
    with pytest.raises(UsageError, match=r"no runtime is called .*:azure.; there are: .*onnxruntime:openvino"):
        load(onnx_file, runtime="onnxruntime:azure")
    with pytest.raises(UsageError, match="tflite-runtime has no variants"):
        runner_class("tflite-runtime:gpu")


def test_the_command_line_ends_with_4(onnx_file: Path, edgekit_cli: Callable[..., Any]) -> None:
    ended = edgekit_cli("bench", onnx_file, "--runtime", "onnxruntime:acl", "--seconds", "0.1")
    assert ended.code == 4 and "ACLExecutionProvider" in ended.err and "--use_acl" in ended.err


def test_a_session_that_went_on_without_it_is_an_error(onnx_file: Path) -> None:
    """What onnxruntime does where a provider's library cannot be loaded: a session on the CPU, and no exception."""
    session = onnxruntime.InferenceSession(str(onnx_file), providers=["CPUExecutionProvider"])
    with pytest.raises(DeviceError, match=r"CUDAExecutionProvider.* did not start: libcublasLt\.so\.13 is not there"):
        require_started("cuda", session, "m.onnx", "libcublasLt.so.13 is not there")
    with pytest.raises(DeviceError, match="started CPUExecutionProvider in its place"):
        require_started("openvino", session, "m.onnx")


def test_what_a_provider_is_started_with() -> None:
    options = onnxruntime.SessionOptions()
    assert prepare("openvino", onnxruntime, options, threads=3) == {
        "providers": [("OpenVINOExecutionProvider", {"device_type": "CPU", "num_of_threads": "3"})]
    }
    rows = prepare("tensorrt", onnxruntime, options, threads=1, index=1)["providers"]
    assert [name for name, _ in rows] == ["TensorrtExecutionProvider", "CUDAExecutionProvider"]
    assert all(given["device_id"] == "1" for _, given in rows)
    assert rows[1][1]["use_tf32"] == "0"  # float32 with 10 bits of mantissa is another dtype


def test_native_lines_are_heard_and_kept_off(capfd: pytest.CaptureFixture[str]) -> None:
    with capture_stderr() as said:
        os.write(2, b"one\ntwo\n")
    assert said == [b"one\n", b"two\n"] and capfd.readouterr().err == ""


# With a provider for real: onnxruntime-openvino takes the place of onnxruntime, so it has an environment of its own.


@pytest.fixture(scope="module")
def openvino() -> str:
    """``python:INTERPRETER`` of an environment with onnxruntime-openvino and numpy."""
    path = os.environ.get("EDGEKIT_ORT_OPENVINO_PYTHON", "")
    if not path:
        pytest.skip(
            "needs $EDGEKIT_ORT_OPENVINO_PYTHON: python3 -m venv .venv-ort-openvino && "
            ".venv-ort-openvino/bin/pip install onnxruntime-openvino numpy, then "
            "EDGEKIT_ORT_OPENVINO_PYTHON=.venv-ort-openvino/bin/python"
        )
    return f"python:{os.path.abspath(path)}"


@pytest.mark.slow
def test_openvino_runs_a_file(onnx_file: Path, openvino: str) -> None:
    with open_runner(onnx_file, device=openvino, runtime="onnxruntime:openvino") as there, load(onnx_file) as here:
        assert there.name == "onnxruntime:openvino" and there.version[0].isdigit()
        # 4 products of at most 11 x 4, in float32
        assert np.abs(there.run({"x": X})["y"] - here.run({"x": X})["y"]).max() < 1e-4
        delegation = there.delegation()
        assert delegation is not None and delegation.by == "OpenVINOExecutionProvider"
        assert delegation.delegated == delegation.nodes and not delegation.left


@pytest.mark.slow
def test_what_openvino_leaves_stands_in_the_ledger(
    files: ModuleType, tmp_path: Path, openvino: str, edgekit_cli: Callable[..., Any]
) -> None:
    alone = files.write_onnx(
        tmp_path / "alone.onnx", [helper.make_node("Hardmax", ["x"], ["y"])], {"x": (1, 4)}, {"y": (1, 4)}
    )
    with pytest.raises(UnsupportedError, match="OpenVINOExecutionProvider takes none of its 1 operators"):
        open_runner(alone, device=openvino, runtime="onnxruntime:openvino")
    nodes = [helper.make_node("Sin", ["x"], ["a"]), helper.make_node("Hardmax", ["a"], ["y"])]
    mixed = files.write_onnx(tmp_path / "mixed.onnx", nodes, {"x": (1, 4)}, {"y": (1, 4)})
    given = ("bench", mixed, "--on", openvino, "--runtime", "onnxruntime:openvino", "--seconds", "0.2", "--json", "-")
    ended = edgekit_cli(*given, "--profile", "--require-full-delegation")
    assert ended.code == 1 and "1 of 2 operators were not taken by OpenVINOExecutionProvider: Hardmax" in ended.err
    (result,) = ended.document["results"]
    assert result["runtime"] == "onnxruntime:openvino"
    assert [(row["type"], row["by"]) for row in result["delegation"]["left"]] == [("Hardmax", "CPUExecutionProvider")]
    shares = {row["by"]: row for row in result["delegation"]["shares"]}
    assert shares.keys() == {"OpenVINOExecutionProvider", "CPUExecutionProvider"}
    assert sum(row["share_time"] for row in shares.values()) == pytest.approx(1)  # shares of one whole
    assert shares["OpenVINOExecutionProvider"]["share_time"] > 0


@pytest.mark.slow
def test_a_provider_that_is_installed_and_does_not_start(onnx_file: Path) -> None:
    """onnxruntime-gpu on a machine without NVIDIA's libraries: onnxruntime itself would run it on the CPU, unsaid."""
    path = os.environ.get("EDGEKIT_ORT_GPU_PYTHON", "")
    if not path:
        pytest.skip("needs $EDGEKIT_ORT_GPU_PYTHON, an environment with onnxruntime-gpu on a machine without CUDA")
    for name, words in (("cuda", "Failed to load library"), ("tensorrt", "TensorrtExecutionProvider.*did not start")):
        with pytest.raises(DeviceError, match=words):
            open_runner(onnx_file, device=f"python:{path}", runtime=f"onnxruntime:{name}")
