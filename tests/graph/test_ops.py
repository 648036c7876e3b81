"""The table of operators against the formats' own schemas, and its answers against one another."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import onnx.defs
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgekit.graph import ops
from edgekit.graph.macs import Tensor
from edgekit.graph.ops import Family, Kernel, Op, Trait
from edgekit.types import Format

ONNX, TFLITE = ops.of(Format.ONNX), ops.of(Format.TFLITE)
WEIGHTED = [op for op in ONNX if op.weights]


def test_an_operator_stands_once_in_a_format() -> None:
    assert max(Counter((op.format, op.name) for op in ops.TABLE).values()) == 1
    assert max(Counter(op.code for op in TFLITE).values()) == 1


@pytest.mark.parametrize("op", ONNX, ids=lambda op: op.name)
def test_every_onnx_operator_is_one_of_the_standard_or_of_onnxruntime(op: Op) -> None:
    assert op.domain in ("", "com.microsoft")
    if not op.domain:
        assert onnx.defs.has(op.name)


@pytest.mark.parametrize("op", TFLITE, ids=lambda op: op.name)
def test_every_tflite_operator_has_the_number_and_the_options_of_the_schema(op: Op) -> None:
    assert getattr(schema.BuiltinOperator, op.name) == op.code
    assert not op.options or hasattr(schema.BuiltinOptions, op.options)


@pytest.mark.parametrize("op", WEIGHTED, ids=lambda op: op.name)
def test_weights_and_biases_are_those_inputs_by_the_schema(op: Op) -> None:
    inputs = [given.name for given in onnx.defs.get_schema(op.name).inputs]
    assert {inputs[place] for place in op.weights} <= {"W", "R", "A", "B", "data"}
    assert op.bias is None or inputs[op.bias] in ("B", "C")


@pytest.mark.parametrize("op", [op for op in ops.TABLE if op.layout], ids=lambda op: op.name)
def test_the_outputs_of_a_layout_have_the_scales(op: Op) -> None:
    assert op.scale_axes == op.layout[:1] and sorted(op.layout) == list(range(len(op.layout)))
    assert op.data not in op.weights and op.bias is not None


def test_every_aten_operator_is_one_of_torch() -> None:
    import torch

    for op in ops.of(Format.PT2):
        name, _, overload = op.name.removeprefix("aten.").partition(".")
        assert hasattr(getattr(torch.ops.aten, name), overload or "default"), op.name


def test_layers_are_what_multiplies_matrices_in_a_float_file() -> None:
    assert set(ops.layers(Format.ONNX)) == {"Conv", "ConvTranspose", "MatMul", "Gemm", "LSTM", "GRU", "RNN"}
    assert "QLinearConv" not in ops.layers(Format.ONNX) and "LSTM" not in ops.layers(Format.TFLITE)


def test_names_are_asked_by_family_kernel_and_trait() -> None:
    assert ops.names(Format.ONNX, Family.POOLING) == ("MaxPool", "AveragePool", "GlobalAveragePool")
    assert "Relu" in ops.names(Format.ONNX, trait=Trait.CLAMP)
    assert set(ops.names(Format.ONNX, Family.RECURRENT, kernel=Kernel.DYNAMIC)) == {"LSTM"}
    assert {"Concat", "CONCATENATION"} == set(ops.names(None, Family.JOIN))
    assert ops.get(Format.ONNX, "ADD") is None and ops.get(Format.TFLITE, "ADD") is not None


def test_operators_of_one_name_in_two_formats_count_alike() -> None:
    """:func:`edgekit.graph.ops.macs` is asked by name alone."""
    shared = [name for name, count in Counter(op.name for op in ops.TABLE).items() if count > 1]
    assert all(len({op.family for op in ops.TABLE if op.name == name}) == 1 for name in shared)


@pytest.mark.parametrize(("name", "wanted"), [("Conv", 16 * 64 * 27), ("Relu", 0), ("nobody's", 0)])
def test_macs_are_counted_by_the_operator(name: str, wanted: int) -> None:
    shapes = ((1, 3, 8, 8), (16, 3, 3, 3)), (1, 16, 8, 8)
    assert ops.macs(name, tuple(map(Tensor, shapes[0])), (Tensor(shapes[1]),)) == wanted
    assert ops.macs("Conv", (), ()) is None


def test_the_table_needs_nothing_above_the_types(root: Path) -> None:
    for name in ("ops", "macs"):
        tree = ast.parse((root / f"edgekit/graph/{name}.py").read_text(encoding="utf-8"))
        asked = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
        ours = {module for module in asked if module.startswith("edgekit")}
        assert ours <= {"edgekit.graph", "edgekit.graph.macs", "edgekit.types"}
