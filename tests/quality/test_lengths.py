"""Errors of recurrent files by length: which files show them, what is compared, and that a growing error is seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.artifact import open_artifact
from edgekit.quality.lengths import LENGTHS, LengthError, Probe, length_errors, probes
from edgekit.runtime import load
from edgekit.types import Array, Feed, Signature


def file(path: Path, kind: str, time: int | str, batch: int | str = 1, *, last: bool = False) -> Path:
    """``x`` (T, B, 2) -> every state ``y`` (T, 1, B, 3), or the last one (1, B, 3)."""
    random = np.random.default_rng(0)
    shapes = {"w": (1, 3, 2), "r": (1, 3, 3)}
    constants = [
        numpy_helper.from_array(random.standard_normal(s).astype(np.float32) / 2, n) for n, s in shapes.items()
    ]
    node = helper.make_node(kind, ["x", "w", "r"], ["", "y"] if last else ["y"], hidden_size=3)
    shape = [1, batch, 3] if last else [time, 1, batch, 3]
    nodes = [node]
    if kind != "RNN":
        nodes, constants, shape = [helper.make_node(kind, ["x"], ["y"])], [], [time, batch, 2]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [time, batch, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path))
    return path


def probed(path: Path, samples: list[Feed]) -> tuple[Signature, tuple[Probe, ...]]:
    with load(path) as runner:
        return runner.signature, probes(open_artifact(path), runner.signature, {}, samples)


def test_a_free_length_is_run_at_several(tmp_path: Path) -> None:
    _, found = probed(file(tmp_path / "m.onnx", "RNN", "time"), [])
    assert sorted({probe.steps for probe in found}) == list(LENGTHS)
    assert {probe.feed["x"].shape for probe in found} == {(n, 1, 2) for n in LENGTHS}
    assert {probe.axis for probe in found} == {None}


def test_real_samples_are_repeated_as_often_as_a_length_needs(tmp_path: Path) -> None:
    sample = np.arange(40, dtype=np.float32).reshape(20, 1, 2)
    _, found = probed(file(tmp_path / "m.onnx", "RNN", "time"), [{"x": sample}])
    by_length = {probe.steps: probe.feed["x"] for probe in found}
    assert (by_length[8] == sample[:8]).all()
    assert (by_length[32] == np.concatenate([sample, sample[:12]])).all()


def test_a_fixed_length_is_looked_at_step_by_step(tmp_path: Path) -> None:
    _, found = probed(file(tmp_path / "m.onnx", "RNN", 20), [])
    assert {(probe.steps, probe.axis) for probe in found} == {(20, 0)}
    right = [{"y": np.ones((20, 1, 1, 3), np.float32)} for _ in found]
    given = [{"y": value["y"] + 0.01 * np.arange(20, dtype=np.float32).reshape(-1, 1, 1, 1)} for value in right]
    errors = length_errors(found, right, given)
    assert [error.steps for error in errors] == [1, 5, 10, 15, 20]
    assert [error.max_abs for error in errors] == pytest.approx([0, 0.04, 0.09, 0.14, 0.19], abs=1e-6)


@pytest.mark.parametrize(("kind", "time", "last"), [("RNN", 20, True), ("Relu", "time", False)])
def test_files_that_show_nothing(tmp_path: Path, kind: str, time: Any, last: bool) -> None:
    """One length and the last state only; no recurrent operator."""
    _, found = probed(file(tmp_path / "m.onnx", kind, time, last=last), [])
    assert found == ()


def test_errors_are_the_largest_of_all_runs_and_relative_to_the_largest_output() -> None:
    def made(values: list[float]) -> dict[str, Array]:
        return {"y": np.array(values, np.float32)}

    found = [Probe({}, 8, None), Probe({}, 8, None), Probe({}, 32, None)]
    right = [made([1, -4]), made([2, 0]), made([0, 0])]
    given = [made([1, -3.5]), made([1, 0]), made([0, 0.5])]
    assert length_errors(found, right, given) == (LengthError(8, 1.0, 0.25), LengthError(32, 0.5, 0.0))
