"""LiteRT's compiled-model interface: the CPU for real, and accelerators that are not here refused with its reason."""

from __future__ import annotations

import os
from collections.abc import Callable
from ctypes.util import find_library
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edgekit.artifact import write_card
from edgekit.errors import DeviceError, FeedError, ModelError, UnsupportedError, UsageError
from edgekit.runtime import load
from edgekit.types import Card, Signature, Task, TensorSpec

X = np.array([[1, 2, 3, 4]], np.float32)
Y = np.array([[21, 61, 101]], np.float32)  # x @ W.T + 1, W = 0..11 as (3, 4)
HAS_GPU = any(os.path.exists(f"/dev/dri/renderD{k}") for k in (128, 129))


def test_it_gives_what_the_interpreter_gives(files: ModuleType, tmp_path: Path) -> None:
    path = files.dense_tflite(tmp_path / "m.tflite")
    with load(path, runtime="litert:cpu", threads=2) as compiled, load(path, runtime="litert") as interpreter:
        assert (compiled.name, interpreter.name) == ("litert:cpu", "litert")
        assert compiled.signature == interpreter.signature and compiled.version == interpreter.version
        assert compiled.run({"x": X})["y"].tolist() == interpreter.run({"x": X})["y"].tolist() == Y.tolist()
        again = compiled.run({"x": X})["y"]
        again[:] = 0  # an array of its own
        assert compiled.run({"x": X})["y"].tolist() == Y.tolist()


def test_a_free_axis_takes_any_number(files: ModuleType, tmp_path: Path) -> None:
    with load(files.dense_tflite(tmp_path / "m.tflite", dynamic=True), runtime="litert:cpu") as runner:
        assert runner.signature.inputs[0].shape == ("batch", 4)
        for batch in (5, 1, 3):
            assert runner.run({"x": np.repeat(X, batch, 0)})["y"].tolist() == Y.tolist() * batch
        with pytest.raises(FeedError):
            runner.run({"x": X[0]})


def test_integers_become_real_numbers(files: ModuleType, tmp_path: Path) -> None:
    path = files.conv_int8_tflite(tmp_path / "m.tflite")
    image = np.random.default_rng(0).uniform(-3, 3, (1, 8, 8, 3)).astype(np.float32)
    with load(path, runtime="litert:cpu") as runner:
        assert runner.signature.inputs[0].dtype == "float32"
        # one step of the output's scale: the rounding of XNNPACK against that of the reference by hand
        assert np.abs(runner.run({"image": image})["features"] - files.conv_int8_by_hand(image)).max() <= 0.25
    with load(path, runtime="litert:cpu", raw=True) as runner:
        assert runner.run({"image": np.zeros((1, 8, 8, 3), np.int8)})["features"].dtype == np.int8


def test_many_outputs_keep_their_names_and_take_those_of_the_card(files: ModuleType, tmp_path: Path) -> None:
    many = files.many_outputs_tflite(tmp_path / "many.tflite")
    x = {"args_0": np.array([[1, 2]], np.float32)}
    with load(many, runtime="litert:cpu") as compiled, load(many, runtime="litert") as interpreter:
        ours, theirs = compiled.run(x), interpreter.run(x)
        assert list(ours) == list(theirs) and all(np.array_equal(ours[k], theirs[k]) for k in ours)
    path = files.dense_tflite(tmp_path / "m.tflite", signature=False)
    signature = Signature((TensorSpec("a", "float32", (1, 4)),), (TensorSpec("b", "float32", (1, 3)),))
    write_card(path, Card("m", "custom", Task(), signature))
    with load(path, runtime="litert:cpu") as runner:
        assert runner.run({"a": X})["b"].tolist() == Y.tolist()


def test_stages_and_the_bare_call_do_what_run_does(files: ModuleType, tmp_path: Path) -> None:
    with load(files.dense_tflite(tmp_path / "m.tflite"), runtime="litert:cpu") as runner:
        copy_in, run, copy_out = runner.staged({"x": X})
        copy_in()
        run()
        assert copy_out()["y"].tolist() == Y.tolist()
        (result,) = runner.bare({"x": X})()  # type: ignore[misc]
        assert result.tolist() == Y.tolist()


def test_the_ledger_says_what_litert_says(files: ModuleType, tmp_path: Path, edgekit_cli: Callable[..., Any]) -> None:
    with load(files.dense_tflite(tmp_path / "whole.tflite"), runtime="litert:cpu") as runner:
        found = runner.delegation()
        assert found is not None and (found.nodes, found.delegated, found.by) == (1, 1, "XNNPACK")
    mixed = files.mixed_tflite(tmp_path / "mixed.tflite")  # XNNPACK has not all of it, and LiteRT does not say what
    with load(mixed, runtime="litert:cpu") as runner:
        assert runner.delegation() is None
    ended = edgekit_cli(
        "bench", mixed, "--runtime", "litert:cpu", "--seconds", "0.1", "--require-full-delegation", "--json", "-"
    )
    assert ended.code == 1 and "does not tell what runs where" in ended.err
    assert ended.document["results"][0]["runtime"] == "litert:cpu"


def test_a_state_cannot_be_put_back(files: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"variable tensors, .*--runtime litert"):
        load(files.recurrent_tflite(tmp_path / "a.tflite"), runtime="litert:cpu")
    with pytest.raises(UnsupportedError, match=r"ASSIGN_VARIABLE.*--runtime litert"):
        load(files.resource_tflite(tmp_path / "b.tflite"), runtime="litert:cpu")


def test_files_it_must_refuse(files: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="litert"):
        load(files.custom_op_tflite(tmp_path / "custom.tflite"), runtime="litert:cpu")
    with pytest.raises(UsageError, match="there are: litert, litert:cpu, litert:cpu:fp16, litert:gpu"):
        load(files.dense_tflite(tmp_path / "m.tflite"), runtime="litert:tpu")
    cut = tmp_path / "cut.tflite"
    cut.write_bytes(files.dense_tflite(tmp_path / "m.tflite").read_bytes()[:200])
    with pytest.raises(ModelError):
        load(cut, runtime="litert:cpu")


@pytest.mark.skipif(HAS_GPU, reason="this machine has a GPU")
@pytest.mark.parametrize("variant", ["gpu", "gpu:fp16", "npu"])
def test_an_accelerator_that_is_not_here(
    files: ModuleType, tmp_path: Path, variant: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """LiteRT's own reason, and nothing on the CPU in its place."""
    reason = "Vulkan|WebGPU|OpenCL" if variant != "npu" else "shared library|plugin|accelerator"
    for name in ("a", "b"):  # the second one in a process is told in other words
        path = files.dense_tflite(tmp_path / f"{name}.tflite")
        with pytest.raises(DeviceError, match=rf"litert:{variant} .*which cannot: .*({reason})") as caught:
            load(path, runtime=f"litert:{variant}")
        assert caught.value.exit_code == 4
    assert capfd.readouterr().err == ""


@pytest.mark.gpu
@pytest.mark.skipif(find_library("vulkan") is None, reason="LiteRT reaches a GPU on Linux by Vulkan: libvulkan1")
@pytest.mark.parametrize(("variant", "tolerance"), [("gpu", 1e-4), ("gpu:fp16", 0.1)])
def test_a_gpu_computes_the_same(files: ModuleType, tmp_path: Path, variant: str, tolerance: float) -> None:
    """4 products of at most 11 x 4 and a sum of 101: 1e-4 is 13 units in the last place, 0.1 is 1.6 of float16."""
    with load(files.dense_tflite(tmp_path / "m.tflite"), runtime=f"litert:{variant}") as runner:
        assert np.abs(runner.run({"x": X})["y"] - Y).max() < tolerance
        found = runner.delegation()
        assert found is not None and found.by == "LiteRT GPU"
