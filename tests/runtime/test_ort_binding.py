"""I/O binding: the same code on the CPU's memory, which has no copies to save; on a GPU's where there is one."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edgekit.bench.stages import time_transfer
from edgekit.runtime import load
from edgekit.runtime.onnxruntime import OnnxRuntimeRunner

X = np.array([[1, 2, 3, 4]], np.float32)
Y = np.array([[21, 61, 101]], np.float32)


def _bound(path: Path) -> OnnxRuntimeRunner:
    runner = load(path)
    assert isinstance(runner, OnnxRuntimeRunner)
    runner._bind_to("cpu", 0)
    return runner


def test_bound_runs_give_what_plain_ones_give(files: ModuleType, tmp_path: Path) -> None:
    with _bound(files.dense_onnx(tmp_path / "m.onnx", dynamic=True)) as runner:
        for batch in (1, 3, 3, 2):
            scale = np.arange(1, batch + 1, dtype=np.float32)[:, None]
            copy_in, run, copy_out = runner.staged({"x": X * scale})
            copy_in()
            run()
            assert copy_out()["y"].tolist() == ((Y - 1) * scale + 1).tolist()
            assert runner.transfer_bytes() == (batch * 16, batch * 12)


def test_the_bare_call_runs_on_what_lies_there(files: ModuleType, tmp_path: Path) -> None:
    with _bound(files.dense_onnx(tmp_path / "m.onnx")) as runner:
        assert runner.transfer_bytes() == (0, 0)
        call = runner.bare({"x": X})
        call()
        first = runner._copy_out([])
        runner.bare({"x": 2 * X})()
        (second,) = runner._copy_out([])
        assert first[0].tolist() == Y.tolist() and second.tolist() == (2 * (Y - 1) + 1).tolist()


def test_inputs_in_any_order(files: ModuleType, tmp_path: Path) -> None:
    with _bound(files.concat_onnx(tmp_path / "m.onnx")) as runner:
        a, b = np.ones((4, 2), np.float32), np.zeros((4, 3), np.float32)
        for part in (parts := runner.staged({"b": b, "a": a}))[:2]:
            part()
        assert parts[2]()["y"].tolist() == [[1, 1, 0, 0, 0]] * 4


def test_copies_are_timed_apart(files: ModuleType, tmp_path: Path) -> None:
    with _bound(files.dense_onnx(tmp_path / "m.onnx")) as runner:
        found = time_transfer(runner, {"x": X}, 0.01)
    assert found.keys() == {"copy in", "run", "copy out", "device"}
    assert found["device"].size == 0  # a CPU has no clock of its own
    assert len({found[name].size for name in ("copy in", "run", "copy out")}) == 1
    assert all((found[name] > 0).all() for name in ("copy in", "run", "copy out"))


@pytest.mark.gpu
def test_on_a_gpu(files: ModuleType, tmp_path: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("needs onnxruntime-gpu in this environment")
    with load(files.dense_onnx(tmp_path / "m.onnx"), device="cuda:0") as runner:
        assert runner.name == "onnxruntime:cuda" and runner.resident
        assert runner.run({"x": X})["y"].tolist() == Y.tolist()  # small integers: exact without TF32
        runner.bare({"x": X})()
        found = runner.delegation()
        assert found is not None and found.by == "CUDAExecutionProvider" and found.delegated
