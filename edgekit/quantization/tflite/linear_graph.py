"""The layers of a TFLite file, see :mod:`edgekit.quantization.linear_graph`. Channels lie on the last axis."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.flatbuffer_reader import without_prefix
from edgekit.graph import ops
from edgekit.graph.ops import Op, Trait
from edgekit.graph.tflite_editor import NONE, Editor, Graph
from edgekit.quantization.linear_graph import LinearGraph, Operator, OperatorKind
from edgekit.types import Array, Format

_THROUGH = ops.names(Format.TFLITE, trait=Trait.SCALES_CHANNELS)
_SCALED_BY = (0, 1)  # schema.ActivationFunctionType: NONE, RELU
Made = tuple[str, tuple[str, ...], tuple[str, ...]]


class LinearTflite(LinearGraph):
    """The main graph of a TFLite model. A constant is named by its buffer: tensors may share one."""

    def __init__(self, content: bytes | Path) -> None:
        self._editor = Editor(without_prefix(content.read_bytes() if isinstance(content, Path) else content))
        self._graph = self._editor.main()
        graphs = self._editor.graphs()
        self.users = Counter(
            self._buffer(graph, int(k)) for graph in graphs for node in graph.raw.operators for k in node.inputs
        )
        self._tensors = {self._buffer(self._graph, place): place for place in range(len(self._graph.raw.tensors))}
        self.outputs = frozenset(self._graph.name(k) for k in self._graph.raw.outputs)
        self.operators = [self._operator(node) for node in self._graph.raw.operators]

    def constant(self, name: str) -> Array | None:
        tensor = self._tensors.get(name)
        return None if tensor is None else self._graph.data(tensor)

    def change(self, name: str, value: Array) -> None:
        buffer = self._editor.model.buffers[int(name[1:])]
        buffer.data = np.frombuffer(np.asarray(value, np.float32).tobytes(), np.uint8)

    def content(self) -> bytes:
        """The file."""
        return self._editor.content()

    def save(self, path: Path) -> None:
        path.write_bytes(self.content())

    @staticmethod
    def _buffer(graph: Graph, tensor: int) -> str:
        return "" if tensor == NONE else f"#{graph.raw.tensors[tensor].buffer}"

    def _operator(self, node: Any) -> Operator:
        graph = self._graph
        computed = tuple(graph.name(k) for k in node.inputs if int(k) != NONE and not self._graph.held(int(k)))
        outputs = tuple(graph.name(k) for k in node.outputs)
        made = (outputs[0], computed, outputs)
        kind = graph.kind(node)
        known = ops.get(Format.TFLITE, kind)
        if known is not None and known.layout:
            found = self._layer(known, node, made)
        elif getattr(node.builtinOptions, "fusedActivationFunction", 0) in _SCALED_BY:
            found = self._elementwise(kind, node, made)
        else:
            found = None
        return found or Operator(OperatorKind.OTHER, *made)

    def _layer(self, op: Op, node: Any, made: Made) -> Operator | None:
        kind, place, order = op.name, op.data, op.layout
        graph, inputs, options = self._graph, [int(k) for k in node.inputs], node.builtinOptions
        weight = graph.data(inputs[1])
        bias = inputs[place + 1 + (place == 0) :][:1]
        bias = [k for k in bias if k != NONE]
        if weight is None or self._graph.held(inputs[place]) or any(graph.data(k) is None for k in bias):
            return None
        if getattr(options, "weightsFormat", 0):  # shuffled
            return None
        groups = stride = 1
        if kind == "DEPTHWISE_CONV_2D":
            groups = weight.shape[3] // max(int(options.depthMultiplier), 1)
        elif kind == "CONV_2D":
            groups = graph.shape(inputs[0])[3] // weight.shape[3]
        elif kind == "TRANSPOSE_CONV":
            stride = int(options.strideH) * int(options.strideW)
        shifts = tuple(self._buffer(graph, k) for k in bias)
        fixed = getattr(options, "fusedActivationFunction", 0) not in _SCALED_BY
        named = (made[0], (graph.name(inputs[place]),), made[2])
        return Operator(
            OperatorKind.LAYER, *named, self._buffer(graph, inputs[1]), shifts, order, groups, stride, -1, fixed=fixed
        )

    def _elementwise(self, kind: str, node: Any, made: Made) -> Operator | None:
        graph = self._graph
        inputs = [int(k) for k in node.inputs]
        if kind in _THROUGH and len(made[1]) == 1:  # a slope that is computed may be what is scaled
            return Operator(OperatorKind.THROUGH, *made, axis=-1)
        if kind == "RESHAPE":
            shapes = [graph.shape(int(k)) for k in (inputs[0], node.outputs[0])]
            kept = all(shapes) and shapes[0][-1] == shapes[1][-1] > 0
            return Operator(OperatorKind.THROUGH, *made, axis=-1) if kept else None
        if kind == "PAD":
            padding = self._integers(inputs[1])
            return (
                Operator(OperatorKind.THROUGH, *made, axis=-1)
                if padding is not None and not padding[-2:].any()
                else None
            )
        if kind == "MEAN":
            axes, rank = self._integers(inputs[1]), len(graph.shape(inputs[0]))
            inner = axes is not None and all(axis % rank != rank - 1 for axis in axes)
            return Operator(OperatorKind.THROUGH, *made, axis=-1) if inner else None
        constants = [k for k in inputs if self._graph.held(k)]
        if kind in ("ADD", "SUB", "MUL") and len(constants) == 1:
            return self._with_constant(kind, constants[0], made)
        return None

    def _with_constant(self, kind: str, tensor: int, made: Made) -> Operator | None:
        """A sum or a product with a constant that has a number a channel, or, for a product, one for all."""
        value, scale = self._graph.data(tensor), kind == "MUL"
        if value is None:
            return None
        if value.size == 1:
            return Operator(OperatorKind.THROUGH, *made, axis=-1) if scale and value.reshape(-1)[0] > 0 else None
        if value.shape[-1] != value.size:
            return None
        shifts = (self._buffer(self._graph, tensor),)
        return Operator(OperatorKind.SCALE if scale else OperatorKind.SHIFT, *made, shifts=shifts, axis=-1)

    def _integers(self, tensor: int) -> Array | None:
        """The numbers of an int32 constant, flat."""
        data = self._editor.model.buffers[self._graph.raw.tensors[tensor].buffer].data
        whole = data is not None and len(data) and self._graph.raw.tensors[tensor].type == 2  # TensorType.INT32
        return np.frombuffer(np.asarray(data, np.uint8).tobytes(), np.int32) if whole else None
