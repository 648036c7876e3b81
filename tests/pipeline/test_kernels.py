"""Operators are cut out and timed on the target; those that lose on integers stay in float."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from edgekit.artifact import open_artifact
from edgekit.extras.profile.litert import library_rows
from edgekit.pipeline.quantize.kernels import KernelPlan, Stopwatch, plan_kernels
from edgekit.quantization.calibrate.calibration import Calibration
from edgekit.quantization.calibrate.histogram import Range
from edgekit.quantization.prepared import prepare
from edgekit.quantization.tflite.quantize import QuantizeTflite
from edgekit.quantization.tflite.single import Cutter, conversion
from edgekit.runtime import load
from edgekit.runtime.litert import LiteRtRunner
from edgekit.types import Artifact, Format

from ..quantization.tflite_files import padded_file, swish_file

pytestmark = pytest.mark.usefixtures("kept_workers")

NAMES = ("x", "before", "swish", "mean", "gate", "product", "y")


def calibration() -> Calibration:
    return Calibration("minmax", "made up", 1, dict.fromkeys(NAMES, Range(-4.0, 4.0)), {})


def plan(source: Artifact, on: str | None) -> KernelPlan:
    def make(products: frozenset[str]) -> QuantizeTflite:
        return QuantizeTflite("int8", calibration(), products=products, float_kernels=frozenset())

    return plan_kernels(prepare(source), make, on)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Artifact:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    return open_artifact(swish_file(tmp_path / "a.tflite"))


def test_every_operator_has_two_times_which_are_kept(source: Artifact, tmp_path: Path) -> None:
    first = plan(source, "cpu")
    assert [one.name for one in first.kernels] == [name for name in NAMES if name != "x"]
    assert all(one.integer_ns and one.float_ns for one in first.kernels)
    assert {row.kept for row in first.rows()} <= {"integer", "float"}
    assert len(list((tmp_path / "cache" / "kernels").glob("*.json"))) == 1
    second = plan(source, "cpu")
    assert second.rows() == first.rows()  # not timed again


def test_damaged_times_are_taken_again_with_a_warning(
    source: Artifact, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan(source, "cpu")
    (kept,) = (tmp_path / "cache" / "kernels").glob("*.json")
    kept.write_text('{"schema": "edgekit.kernels/1", "times_ns": [1]}')
    assert plan(source, "cpu").kernels[0].integer_ns
    assert "timed again" in caplog.text


def test_xnnpack_is_asked_where_there_is_no_target(source: Artifact) -> None:
    found = plan(source, None)
    assert found.products == {"swish"}  # a sum and a product, which XNNPACK takes on integers
    assert found.keep_float == frozenset()
    assert {row.integer_ns for row in found.rows()} == {None}


def test_a_kernel_that_crashes_costs_the_operator_its_integers(source: Artifact, tmp_path: Path) -> None:
    """An integer DIV by zero aborts the process of LiteRT."""
    with Stopwatch("cpu", tmp_path, Format.TFLITE) as watch:
        good = conversion(64, quantize=True)
        assert watch._tried(good)
        assert watch._tried(b"not a model") is None
        assert watch._tried(good)  # in a new worker


def test_single_operators_compute_what_they_do_in_the_whole_file(source: Artifact) -> None:
    cutter = Cutter(source.path.read_bytes())
    whole = Interpreter(model_path=str(source.path), experimental_preserve_all_tensors=True)
    whole.allocate_tensors()
    values = {row["name"]: row["index"] for row in whole.get_tensor_details()}
    whole.set_tensor(values["x"], np.random.default_rng(0).standard_normal((1, 4, 4, 3)).astype(np.float32))
    whole.invoke()
    for one in cutter.singles:
        part = Interpreter(model_content=cutter.alone(one.place))
        part.allocate_tensors()
        for row, name in zip(part.get_input_details(), one.reads, strict=True):
            part.set_tensor(row["index"], whole.get_tensor(values[name]))
        part.invoke()
        got = part.get_tensor(part.get_output_details()[0]["index"])
        # the same kernels on the same numbers
        assert got == pytest.approx(whole.get_tensor(values[one.writes[0]]), abs=1e-5), one.name


def test_equal_work_has_one_signature(tmp_path: Path) -> None:
    cutter = Cutter(swish_file(tmp_path / "a.tflite").read_bytes())
    names = {one.name: one.signature for one in cutter.singles}
    assert len(set(names.values())) == len(names)
    again = Cutter(swish_file(tmp_path / "b.tflite").read_bytes())
    assert {one.name: one.signature for one in again.singles} == names


def test_a_pad_that_becomes_a_part_of_the_convolution_is_timed_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By itself it took as long as the convolution, and stayed in float, where nothing can take it in."""
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    source = open_artifact(padded_file(tmp_path / "a.tflite"))
    ranges = Calibration("minmax", "made up", 1, dict.fromkeys(("x", "padded", "y"), Range(-4.0, 4.0)), {})

    def make(products: frozenset[str]) -> QuantizeTflite:
        return QuantizeTflite("int8", ranges, float_kernels=frozenset())

    pad, convolution = plan_kernels(prepare(source), make, "cpu").kernels
    assert (pad.integer_ns, pad.float_ns) == (0.0, 0.0)
    assert convolution.integer_ns and convolution.float_ns
    assert set(pad.weights) < set(convolution.weights)  # so they share a side
    assert convolution.reads == ("padded",)


@pytest.mark.parametrize(
    ("given", "folded"),
    [({"axis": 1}, True), ({"axis": 2}, True), ({"axis": 3}, False), ({"twice": True}, False), ({"kernel": 1}, False)],
)
def test_which_pads_become_a_part_of_the_convolution(tmp_path: Path, given: dict[str, Any], folded: bool) -> None:
    """Those of height and width that nothing else reads; held against the operators that XNNPACK says it runs."""
    path = padded_file(tmp_path / "a.tflite", **given)
    assert set(Cutter(path.read_bytes()).folded()) == ({"y"} if folded else set())
    with load(path, raw=True) as runner:
        assert isinstance(runner, LiteRtRunner)
        arrays = [(int(port.key), array) for port, array in runner.bound({"x": np.ones((1, 4, 4, 3), np.float32)})]
        rows, _, _ = library_rows(runner, arrays, 0.05)
    assert any("Pad" in row.type for row in rows) is not folded
