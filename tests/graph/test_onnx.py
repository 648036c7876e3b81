"""What is asked of an ONNX graph: constants, inputs, who writes and reads what, numbers among attributes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.graph.onnx import OnnxGraph, graphs, nodes, numeric_attributes, reads
from edgekit.graph.onnx_editor import CONTRIB, allow_contrib, drop_unused, replace_nodes


@pytest.fixture
def model() -> Any:
    """y = Gemm(x, w) + x, with a constant that is listed among the inputs and one that nothing reads."""
    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 2]) for name in ("x", "w", "y")]
    made = [
        helper.make_node("Gemm", ["x", "w", ""], ["product"], name="gemm", transB=1, alpha=0.5),
        helper.make_node("Add", ["product", "x"], ["y"], name="add"),
    ]
    held = [numpy_helper.from_array(np.eye(2, dtype=np.float32), name) for name in ("w", "unread")]
    return helper.make_model(helper.make_graph(made, "main", sides[:2], sides[2:], held))


def test_constants_are_not_inputs(model: Any) -> None:
    graph = OnnxGraph(model.graph)
    assert graph.inputs == ["x"] and graph.outputs == ["y"] and set(graph.constants) == {"w", "unread"}
    np.testing.assert_array_equal(graph.value("w"), np.eye(2))
    assert graph.value("x") is None


def test_makers_and_readers(model: Any) -> None:
    graph = OnnxGraph(model.graph)
    assert graph.makers["product"].name == "gemm" and "x" not in graph.makers
    assert [node.name for node in graph.readers["x"]] == ["gemm", "add"]
    model.graph.node[1].input[1] = "product"
    assert [node.name for node in OnnxGraph(model.graph).readers["product"]] == ["add", "add"]


def test_an_output_that_an_operator_goes_without_has_no_maker(model: Any) -> None:
    model.graph.node[0].output.append("")
    assert "" not in OnnxGraph(model.graph).makers


def test_numbers_among_attributes(model: Any) -> None:
    gemm, add = model.graph.node
    gemm.attribute.append(helper.make_attribute("text", "no number"))
    assert numeric_attributes(gemm) == {"transB": 1, "alpha": 0.5} and numeric_attributes(add) == {}


def test_graphs_inside_are_walked(model: Any) -> None:
    body = helper.make_graph([helper.make_node("Identity", ["w"], ["inner"])], "then", [], [])
    model.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=body, else_branch=body))
    assert [graph.name for graph in graphs(model.graph)] == ["main", "then", "then"]
    assert [node.op_type for node in nodes(model.graph)] == ["Gemm", "Add", "If", "Identity", "Identity"]
    assert reads(model.graph)["w"] == 3


def test_edits(model: Any) -> None:
    drop_unused(model)
    assert [tensor.name for tensor in model.graph.initializer] == ["w"]
    replace_nodes(model.graph, reversed(model.graph.node))
    assert [node.name for node in model.graph.node] == ["add", "gemm"]
    allow_contrib(model)
    allow_contrib(model)
    assert [entry.domain for entry in model.opset_import].count(CONTRIB) == 1
