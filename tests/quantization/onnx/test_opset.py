"""ONNX files of old opsets: brought to a newer one they compute the same, or they are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from edgekit.converters import newer_opset
from edgekit.errors import ModelError
from edgekit.quantization.onnx.opset import converted
from edgekit.quantization.onnx.prepare import OPSET

from ..onnx_files import FLOAT, INT64, decibels, normal, onnx_file, quantized_onnx, run_onnx

pytestmark = pytest.mark.usefixtures("kept_workers")

node = helper.make_node


def resized(path: Path, opset: int, mode: str, factor: float) -> Path:
    """Conv, Upsample or Resize of before there were coordinates, Conv."""
    constants = {
        "w": normal(0, 16, 3, 3, 3, by=0.3),
        "v": normal(1, 16, 16, 3, 3, by=0.1),
        "s": np.array([1, 1, factor, factor], np.float32),
    }
    kind = "Upsample" if opset < 10 else "Resize"
    nodes = [
        node("Conv", ["x", "w"], ["a"]),
        node(kind, ["a", "s"], ["u"], mode=mode),
        node("Conv", ["u", "v"], ["y"]),
    ]
    return onnx_file(path, nodes, {"x": (FLOAT, [1, 3, 16, 16])}, ["y"], constants, opset)


@pytest.mark.parametrize(("opset", "factor"), [(9, 2.0), (10, 2.0), (10, 0.5)])
@pytest.mark.parametrize("mode", ["linear", "nearest"])
def test_coordinates_of_before_they_had_names(tmp_path: Path, opset: int, mode: str, factor: float) -> None:
    path = resized(tmp_path / "m.onnx", opset, mode, factor)
    made, feed = converted(onnx.load(str(path)), OPSET, path), {"x": normal(5, 1, 3, 16, 16)}
    assert decibels(run_onnx(path, feed), run_onnx(made, feed)) > 120


def test_the_quantized_file_computes_what_the_old_one_does(tmp_path: Path) -> None:
    path = resized(tmp_path / "m.onnx", 9, "linear", 2.0)
    made = quantized_onnx(path, "int8", [{"x": normal(k, 1, 3, 16, 16)} for k in range(24)])
    feed = {"x": normal(99, 1, 3, 16, 16)}
    assert decibels(run_onnx(path, feed), run_onnx(made, feed)) > 20


def test_a_conversion_that_computes_something_else_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    """Trips the gate: onnx's own conversion, without what is mended here."""
    monkeypatch.setattr(newer_opset, "_asymmetric", lambda model, node: None)
    path = resized(tmp_path / "m.onnx", 9, "linear", 2.0)
    with pytest.raises(ModelError, match=r"has opset 9; brought to 17 .* computes something else: .* --opset 17"):
        converted(onnx.load(str(path)), OPSET, path)


def test_free_sizes_and_integers_of_a_table_are_tried(tmp_path: Path) -> None:
    """A convolution needs 5 by 5 pixels, a table has two rows: the comparison finds feeds that run."""
    nodes = [
        node("Conv", ["x", "w"], ["a"]),
        node("GlobalAveragePool", ["a"], ["p"]),
        node("Flatten", ["p"], ["f"]),
        node("Gather", ["t", "n"], ["e"]),
        node("Add", ["f", "e"], ["y"]),
    ]
    inputs = {"x": (FLOAT, [1, 3, "h", "w_"]), "n": (INT64, [1])}
    constants = {"w": normal(0, 8, 3, 5, 5), "t": normal(1, 2, 8)}
    path = onnx_file(tmp_path / "m.onnx", nodes, inputs, ["y"], constants, opset=11)
    made = converted(onnx.load(str(path)), OPSET, path)
    assert newer_opset.opset_of(made) == OPSET


def test_what_cannot_be_run_cannot_be_compared(tmp_path: Path) -> None:
    nodes = [node("Reshape", ["x", "shape"], ["y"])]  # random numbers are not a shape of 8 values
    inputs = {"x": (FLOAT, [8]), "shape": (INT64, [2])}
    path = onnx_file(tmp_path / "m.onnx", nodes, inputs, ["y"], {}, opset=11)
    with pytest.raises(ModelError, match="cannot be compared with its conversion"):
        converted(onnx.load(str(path)), OPSET, path)
