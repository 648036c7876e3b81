"""What float32 costs an ONNX file: its operators in float64 beside onnxruntime, for the limit of a proof."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.converters.base import Capture, ConversionOptions
from edgekit.quality.rounding import own_rounding
from edgekit.source import resolve
from edgekit.source.onnx_double import in_double

ONE, BIG = np.float32(1.0), np.float32(1e4)


def amplifies(path: Path, operator: str = "Add") -> Path:
    """y = (x + 1e4 - 1e4) * 1e4 as float32 has it: the sum loses what the factor brings to light."""
    float_, shape = TensorProto.FLOAT, [1, 8]
    nodes = [
        helper.make_node("Constant", [], ["big"], value_float=float(BIG)),
        helper.make_node(operator, ["x", "big"], ["up"]),
        helper.make_node("Cast", ["up"], ["kept"], to=float_),
        helper.make_node("Sub", ["kept", "big"], ["down"]),
        helper.make_node("Mul", ["down", "factor"], ["y"]),
    ]
    ends = [[helper.make_tensor_value_info(name, float_, shape)] for name in ("x", "y")]
    graph = helper.make_graph(nodes, "amplifies", *ends, [numpy_helper.from_array(BIG, "factor")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


def test_the_rounding_of_an_onnx_file_is_known(tmp_path: Path) -> None:
    path = amplifies(tmp_path / "net.onnx")
    capture = Capture(resolve(str(path)), ConversionOptions())
    x = np.linspace(-1, 1, 8, dtype=np.float32).reshape(1, 8) / 3
    found = own_rounding(capture, {"x": x})["y"]
    wanted = np.abs(((x + BIG) - BIG) * BIG - x.astype(np.float64) * 1e4).max()
    assert found == pytest.approx(wanted, rel=1e-6) and found > 1.0


def test_an_operator_that_the_reference_lacks_allows_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    capture = Capture(resolve(str(amplifies(tmp_path / "net.onnx"))), ConversionOptions())
    strange = amplifies(tmp_path / "strange.onnx", "NoSuchOperator")
    monkeypatch.setattr("edgekit.source.onnx_double.in_double", lambda model: onnx.load(strange))
    assert own_rounding(capture, {"x": np.zeros((1, 8), np.float32)}) == {}


def test_a_model_in_double_keeps_its_own_and_has_no_float32_left(tmp_path: Path) -> None:
    model = onnx.load(amplifies(tmp_path / "net.onnx"))
    before = model.SerializeToString()
    double = in_double(model)
    assert model.SerializeToString() == before
    assert double.graph.initializer[0].data_type == TensorProto.DOUBLE
    assert {value.type.tensor_type.elem_type for value in (*double.graph.input, *double.graph.output)} == {
        TensorProto.DOUBLE
    }
    kinds = [attribute for node in double.graph.node for attribute in node.attribute]
    assert kinds[0].t.data_type == TensorProto.DOUBLE and kinds[1].i == TensorProto.DOUBLE
