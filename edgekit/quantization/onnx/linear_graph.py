"""The layers of an ONNX file, see :mod:`edgekit.quantization.linear_graph`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.graph import ops
from edgekit.graph.onnx import OnnxGraph, nodes, numeric_attributes
from edgekit.graph.ops import Family, Trait
from edgekit.quantization.linear_graph import LinearGraph, Operator, OperatorKind
from edgekit.types import Array, Format

_THROUGH = ops.names(Format.ONNX, trait=Trait.SCALES_CHANNELS)
_POOLS = ops.names(Format.ONNX, Family.POOLING)
_SUMS = ("Add", "Sub")


class LinearOnnx(LinearGraph):
    """An ONNX model, prepared as the quantizer does it (batch norms folded)."""

    def __init__(self, model: Any) -> None:
        self.model = model
        graph = self.model.graph
        asked = OnnxGraph(graph)
        self._held, self.outputs, self._maker = asked.constants, frozenset(asked.outputs), asked.makers
        self._rank = {
            value.name: len(value.type.tensor_type.shape.dim)
            for value in (*graph.value_info, *graph.input)
            if value.type.tensor_type.HasField("shape")
        }
        self.users = Counter(name for node in nodes(graph) for name in node.input)
        self.operators = [self._operator(node) for node in graph.node]

    def constant(self, name: str) -> Array | None:
        from onnx import TensorProto, numpy_helper

        tensor = self._held.get(name)
        if tensor is None or tensor.data_type != TensorProto.FLOAT:
            return None
        return np.asarray(numpy_helper.to_array(tensor))

    def change(self, name: str, value: Array) -> None:
        from onnx import numpy_helper

        self._held[name].CopyFrom(numpy_helper.from_array(value, name))

    def save(self, path: Path) -> None:
        path.write_bytes(self.model.SerializeToString())

    def _made_by(self, name: str) -> str:
        return self._maker[name].op_type if name in self._maker else ""

    def _operator(self, node: Any) -> Operator:
        computed = tuple(name for name in node.input if name and name not in self._held)
        constants = tuple(name for name in node.input if name in self._held)
        made = (node.name, computed, tuple(node.output))
        return (
            self._layer(node, made) or self._elementwise(node, made, constants) or Operator(OperatorKind.OTHER, *made)
        )

    def _layer(self, node: Any, made: tuple[str, tuple[str, ...], tuple[str, ...]]) -> Operator | None:
        if node.op_type not in ("Conv", "Gemm", "MatMul") or len(made[1]) != 1 or node.input[0] != made[1][0]:
            return None
        weight, bias = self.constant(node.input[1]), tuple(node.input[2:3])
        if weight is None or (bias and self.constant(bias[0]) is None):
            return None
        numbers = numeric_attributes(node)
        if node.op_type == "Conv":
            order = tuple(range(weight.ndim))
            return Operator(OperatorKind.LAYER, *made, node.input[1], bias, order, int(numbers.get("group", 1)), axis=1)
        if weight.ndim != 2 or numbers.get("transA", 0) or any(numbers.get(k, 1) != 1 for k in ("alpha", "beta")):
            return None
        order = (0, 1) if numbers.get("transB", 0) else (1, 0)
        axis = 0 if node.op_type == "Gemm" or self._rank.get(node.input[0]) == 2 else -1
        return Operator(OperatorKind.LAYER, *made, node.input[1], bias, order, axis=axis)

    def _elementwise(
        self, node: Any, made: tuple[str, tuple[str, ...], tuple[str, ...]], constants: tuple[str, ...]
    ) -> Operator | None:
        kind = node.op_type
        if kind in _THROUGH and len(made[1]) == 1:  # a slope that is computed may be what is scaled
            return Operator(OperatorKind.THROUGH, *made, axis=1 if kind in _POOLS else 0)
        if kind == "Flatten" and self._made_by(node.input[0]) == "GlobalAveragePool":
            flat = numeric_attributes(node).get("axis", 1) == 1  # the channels stay on axis 1, now the last one
            return Operator(OperatorKind.THROUGH, *made, axis=1) if flat else None
        if kind == "LayerNormalization" and len(constants) == len(node.input) - 1:
            last = numeric_attributes(node).get("axis", -1) in (-1, self._rank.get(node.input[0], 0) - 1)
            return Operator(OperatorKind.SCALE, *made, shifts=constants, axis=-1) if last else None
        if kind in (*_SUMS, "Mul") and len(constants) == 1 and len(made[1]) == 1:
            return self._with_constant(kind, made, constants[0])
        return None

    def _with_constant(
        self, kind: str, made: tuple[str, tuple[str, ...], tuple[str, ...]], name: str
    ) -> Operator | None:
        """A sum or a product with a constant that has a number a channel, on its only axis longer than 1."""
        value = self.constant(name)
        if value is None:
            return None
        if value.size == 1:
            return Operator(OperatorKind.THROUGH, *made) if kind == "Mul" and value.reshape(-1)[0] > 0 else None
        long = [place - value.ndim for place, size in enumerate(value.shape) if size > 1]
        rank = self._rank.get(made[1][0])
        if len(long) != 1 or rank is None or long[0] not in (-1, 1 - rank):
            return None
        axis = 0 if rank == 2 else (-1 if long[0] == -1 else 1)
        return Operator(OperatorKind.SCALE if kind == "Mul" else OperatorKind.SHIFT, *made, shifts=(name,), axis=axis)
