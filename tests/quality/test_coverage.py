"""Quantization coverage on graphs made by hand: every reason, and what counts as weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.errors import ModelError, UnsupportedError
from edgekit.graph.tflite import read_tflite
from edgekit.quality.coverage import coverage, quantized_already
from edgekit.quality.coverage_onnx import onnx_coverage
from edgekit.results.base import to_json
from edgekit.results.compressed import CoverageReport, LeftFloat
from edgekit.types import Artifact, Card, Format, Signature, Step, Task

SCALE, ZERO = np.float32(0.1), np.uint8(128)


def quantize(name: str, made: str) -> list[Any]:
    """QuantizeLinear and DequantizeLinear behind ``name``; ``made`` is the tensor that comes out."""
    return [
        helper.make_node("QuantizeLinear", [name, "s", "z"], [f"{made}_q"], name=f"{made}_q"),
        helper.make_node("DequantizeLinear", [f"{made}_q", "s", "z"], [made], name=f"{made}_dq"),
    ]


WEIGHT = [helper.make_node("DequantizeLinear", ["w_int", "ws", "wz"], ["w"], axis=0, name="w_dq")]
CONSTANTS: dict[str, Any] = {
    "s": SCALE,
    "z": ZERO,
    "w_int": np.ones((4, 3, 1, 1), np.int8),
    "ws": np.ones(4, np.float32),
    "wz": np.zeros(4, np.int8),
}


def counted(tmp_path: Path, nodes: list[Any], **more: Any) -> CoverageReport:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in {**CONSTANTS, **more}.items()],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return onnx_coverage(path, {})


def conv(source: str, made: str, **options: Any) -> Any:
    return helper.make_node("Conv", [source, "w"], [made], name="conv", **options)


def test_an_integer_convolution(tmp_path: Path) -> None:
    nodes = [*quantize("x", "xd"), *WEIGHT, conv("xd", "c"), *quantize("c", "y")]
    found = counted(tmp_path, nodes)
    assert (found.operators, found.integer_operators, found.left_float) == (1, 1, ())
    assert found.weight_bytes_integer_share == 1.0
    assert found.conversions == 2  # into the first operator and out of the last
    assert found.integer_macs_share == 1.0
    assert found.plumbing == {"QuantizeLinear": 2, "DequantizeLinear": 3}


def test_a_relu_behind_it_is_part_of_it(tmp_path: Path) -> None:
    relu = helper.make_node("Relu", ["c"], ["r"], name="relu")
    nodes = [*quantize("x", "xd"), *WEIGHT, conv("xd", "c"), relu, *quantize("r", "y")]
    found = counted(tmp_path, nodes)
    assert (found.operators, found.integer_operators) == (1, 1)


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ([helper.make_node("Conv", ["x", "wf"], ["y"], name="conv")], "not quantized in this file"),
        ([*WEIGHT, conv("x", "y")], "weight-only: its weights are integers, its input 'x' is float"),
        ([*quantize("x", "xd"), *WEIGHT, conv("xd", "y")], "its output 'y' is read in float"),
        (
            [*quantize("x", "xd"), helper.make_node("Conv", ["xd", "wf"], ["c"], name="conv"), *quantize("c", "y")],
            "its input 'wf' is float",
        ),
        (
            [*quantize("x", "xd"), helper.make_node("Erf", ["xd"], ["c"], name="conv"), *quantize("c", "y")],
            "onnxruntime has no integer kernel for Erf",
        ),
        (
            [
                helper.make_node("Cast", ["w_int"], ["wc"], to=1),
                helper.make_node("Mul", ["wc", "wm"], ["w"]),
                conv("x", "y"),
            ],
            "turned into float when the file is loaded",
        ),
    ],
)
def test_reasons(tmp_path: Path, nodes: list[Any], why: str) -> None:
    found = counted(tmp_path, nodes, wf=np.ones((4, 3, 1, 1), np.float32), wm=np.ones((4, 1, 1, 1), np.float32))
    assert found.integer_operators == 0
    (left,) = found.left_float
    assert left.name == "conv"
    assert why in left.reason


def test_a_reason_of_the_pass_goes_first(tmp_path: Path) -> None:
    counted(tmp_path, [helper.make_node("Conv", ["x", "w_int"], ["y"], name="conv")])
    (left,) = onnx_coverage(tmp_path / "m.onnx", {"Conv": "because"}).left_float
    assert left.reason == "because"


def test_the_share_counts_bytes(tmp_path: Path) -> None:
    """12 bytes of int8 beside 36 bytes of float32; scales and zero points are not weights."""
    nodes = [*quantize("x", "xd"), *WEIGHT, conv("xd", "c"), helper.make_node("Mul", ["c", "f"], ["y"], name="mul")]
    found = counted(tmp_path, nodes, f=np.ones(9, np.float32))
    assert found.weight_bytes_integer_share == pytest.approx(12 / 48)
    assert found.weight_bytes_integer_share == 0.25


def test_a_float_file_is_not_quantized(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"], name="relu")]
    counted(tmp_path, nodes)
    assert quantized_already(Artifact(tmp_path / "m.onnx", Format.ONNX)) == ""


def test_what_is_quantized_already(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    counted(tmp_path, [*quantize("x", "xd"), *WEIGHT, conv("xd", "c"), *quantize("c", "y")])
    assert "1 of 1 operators run on integers" in quantized_already(Artifact(path, Format.ONNX))
    counted(tmp_path, [*WEIGHT, conv("x", "y")])
    assert "100% of its weight bytes" in quantized_already(Artifact(path, Format.ONNX))
    card = Card("n", "custom", Task(), Signature((), ()), steps=(Step("quantize", {"scheme": "fp16"}),))
    assert "scheme fp16" in quantized_already(Artifact(path, Format.ONNX, card))


def test_files_without_coverage(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(b"\x00" * 64)
    with pytest.raises(ModelError, match=r"m\.tflite cannot be read"):
        read_tflite(tmp_path / "m.tflite")
    (tmp_path / "m.onnx").write_bytes(b"\xff" * 64)
    with pytest.raises(ModelError, match=r"m\.onnx cannot be read"):
        onnx_coverage(tmp_path / "m.onnx", {})
    with pytest.raises(UnsupportedError, match=r"\.pt2"):
        coverage(Artifact(tmp_path / "m.pt2", Format.PT2))


def test_a_file_carries_counts_where_the_document_has_names() -> None:
    left = tuple(LeftFloat("ADD", f"{'a/long/path/' * 40}{k}", "reason") for k in range(100))
    found = CoverageReport(
        operators=103,
        integer_operators=2,
        weight_bytes_integer_share=0.5,
        conversions=4,
        left_float=(*left, LeftFloat("ADD", "other", "another")),
    )
    held, whole = found.card_document(), to_json(found)
    assert held["left_float"] == [
        {"operator": "ADD", "count": 100, "reason": "reason"},
        {"operator": "ADD", "count": 1, "reason": "another"},
    ]
    assert len(whole["left_float"]) == 101
    assert {**held, "left_float": None} == {**whole, "left_float": None}
    assert len(json.dumps(held)) < 500 < 40_000 < len(json.dumps(whole))
