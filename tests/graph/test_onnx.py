"""What is asked of an ONNX graph: constants, inputs, who writes and reads what, numbers among attributes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.errors import ModelError
from edgekit.graph.onnx import OnnxGraph, graphs, load_onnx, nodes, numeric_attributes, reads
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


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda tensor: setattr(tensor, "data_type", 99), "has the type 99, which ONNX does not have"),
        (lambda tensor: setattr(tensor, "data_type", 0), "does not fit its type and shape: .*UNDEFINED"),
        (lambda tensor: tensor.dims.append(3), "does not fit its type and shape: cannot reshape"),
        (lambda tensor: tensor.dims.__setitem__(0, -2), r"has the shape \[-2, 2\]"),
        (lambda tensor: setattr(tensor, "raw_data", b"123"), "does not fit its type and shape: buffer"),
    ],
    ids=["type", "no type", "shape", "negative shape", "bytes"],
)
@pytest.mark.parametrize("place", ["initializer", "Constant", "branch", "function"])
def test_constants_that_are_not_what_they_say(
    model: Any, place: str, change: Callable[[Any], None], told: str, tmp_path: Path
) -> None:
    made = helper.make_node("Constant", [], ["made"], value=numpy_helper.from_array(np.eye(2), "made"))
    if place == "initializer":
        held = model.graph.initializer[0]
    elif place == "Constant":
        model.graph.node.append(made)
        held = model.graph.node[-1].attribute[0].t
    elif place == "branch":
        body = helper.make_graph([made], "then", [], [])
        model.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=body, else_branch=body))
        held = model.graph.node[-1].attribute[0].g.node[0].attribute[0].t
    else:
        model.functions.append(helper.make_function("own", "Made", [], ["made"], [made], []))
        held = model.functions[0].node[0].attribute[0].t
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    load_onnx(tmp_path / "a.onnx")
    change(held)
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=rf"a\.onnx cannot be read as ONNX: its constant '{held.name}' {told}"):
        load_onnx(tmp_path / "a.onnx")


def test_constants_of_every_type_are_read(model: Any, tmp_path: Path) -> None:
    for kind in TensorProto.DataType.values()[1:]:
        values = [b"one"] * 3 if kind == TensorProto.STRING else [1] * 3
        model.graph.initializer.append(helper.make_tensor(f"type {kind}", kind, [3], values))
    model.graph.initializer.append(helper.make_tensor("none", TensorProto.FLOAT, [0, 1 << 60], []))
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    assert len(load_onnx(tmp_path / "a.onnx").graph.initializer) == len(model.graph.initializer)


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
