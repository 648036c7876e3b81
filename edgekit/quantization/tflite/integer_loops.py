"""The step of a compact loop on integers throughout, see :mod:`edgekit.quantization.tflite.compact_loops`.

What goes round as it is (the input, and the room for the outputs) is int8, as all around the loop. Inside, activations
and the state are int16 with a symmetric scale, weights int8 with one scale a matrix, which is all that the kernels of
TensorFlow Lite for Microcontrollers know, and biases int64. A state of 8 bits would stand still where a gate lets less
than half a step of it through. Sigmoid and tanh have the scales that TFLite's kernels fix.

Sources: TensorFlow Lite, ``tools/versioning/op_version.cc``, ``kernels/{activations,fully_connected}.cc``;
TensorFlow Lite for Microcontrollers, ``micro/kernels/{gather,dynamic_update_slice,while}.cc``: GATHER and
DYNAMIC_UPDATE_SLICE take no int16 there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgekit.graph.loop_kernels import CARRIED, FINE, FIXED, KINDS, PRODUCT, SUMS, UPDATE, VERSIONS
from edgekit.graph.tflite_editor import Graph
from edgekit.quantization.calibrate.histogram import Range
from edgekit.quantization.onnx.weights import symmetric_int8
from edgekit.quantization.tflite.integers import Scale, constant, made, rescaled
from edgekit.types import Array

_UNIT = Scale(2.0**-15, 0, FINE)
_NEAR_A_POWER = 1e-3
"""How near its logarithm may lie to that of a power of two for TFLite to take a scale for one; a sum of three such has
another kernel, with other bounds."""


HEADROOM = 2.0
"""How far int16 reaches beyond the range that was seen: 14 bits are left of it, and what is clipped in a state stays
wrong in all steps behind."""


def fine(found: Range, headroom: float = HEADROOM) -> Scale:
    """The int16 scale of a range, symmetric, and not a power of two."""
    step = beside_powers(headroom * max(-found.low, found.high, 1e-9) / 32767)
    return Scale(float(np.float32(step)), 0, FINE)


def beside_powers(step: float) -> float:
    """A scale of int16, made larger by some thousandths where TFLite would take it for a power of two."""
    while abs(math.log2(step) - round(math.log2(step))) < 2 * _NEAR_A_POWER:
        step *= 1 + 2 * _NEAR_A_POWER
    return step


class IntegerStep:
    """The body of a WHILE, of which every real tensor becomes one of integers.

    Args:
        body: the subgraph.
        node: the WHILE, an operator of the main graph.
        ranges: of the body's tensors, by name.
    """

    def __init__(self, body: Graph, node: Any, ranges: Mapping[str, Range]) -> None:
        self.body, self.node, self.ranges = body, node, ranges
        self.inputs, self.outputs = (list(map(int, side)) for side in (body.raw.inputs, body.raw.outputs))
        self.makers = body.makers()
        self.scales: dict[int, Scale] = {}
        self.turned: dict[tuple[int, Scale], int] = {}

    def why_not(self) -> str:
        """Why the step has no integer form; empty where it has."""
        real = [node for node in self.body.raw.operators if self._is_real(node)]
        unknown = {self.body.kind(node) for node in real} - KINDS
        if unknown:
            return f"a step of the loop has {', '.join(sorted(unknown))}"
        missing = [name for node in real for name in self._ranged(node) if name not in self.ranges]
        if missing:
            return f"the calibration has no range of {', '.join(missing)}"
        for place in range(len(self.inputs)):
            if self.is_state(place) and self.body.kind(self.makers[self.outputs[place]]) not in (*FIXED, *SUMS):
                return f"the state {self.body.name(self.outputs[place])} is not the result of a sum or a function"
        return ""

    def is_real(self, place: int) -> bool:
        """Whether a variable of the loop stands for real numbers."""
        return self.body.dtype(self.inputs[place]) == "float32"

    def is_state(self, place: int) -> bool:
        """Whether a variable is computed anew at every step, and not handed on or written into."""
        maker = self.makers.get(self.outputs[place])
        return self.is_real(place) and maker is not None and self.body.kind(maker) != UPDATE

    def is_room(self, place: int) -> bool:
        """Whether results are collected in a variable."""
        maker = self.makers.get(self.outputs[place])
        return self.is_real(place) and maker is not None and self.body.kind(maker) == UPDATE

    def state_scale(self, place: int, start: Range) -> Scale:
        """The scale of a state that begins within ``start``."""
        output = self.outputs[place]
        if self.body.kind(self.makers[output]) in FIXED:
            return _UNIT
        own = self.ranges[self.body.name(output)]
        return fine(Range(min(own.low, start.low), max(own.high, start.high)))

    def write(self, variables: Mapping[int, Scale]) -> None:
        """Rewrites the step.

        Args:
            variables: place of every real variable -> its scale.
        """
        for place, scale in variables.items():
            self._becomes(self.inputs[place], scale)
            if self.outputs[place] != self.inputs[place]:
                self.scales[self.outputs[place]] = scale
        operators: list[Any] = []
        self.body.insert_at(operators)
        for node in list(self.body.raw.operators):
            node.inputs, node.outputs = [[int(k) for k in side] for side in (node.inputs, node.outputs)]
            if self._is_real(node):
                self._operator(node)
            operators.append(node)
        self.body.raw.operators = operators

    def _is_real(self, node: Any) -> bool:
        return any(self.body.dtype(int(k)) == "float32" for k in node.outputs)

    def _ranged(self, node: Any) -> list[str]:
        """Results whose scales come from the calibration."""
        known = self.body.kind(node) in (*SUMS, PRODUCT)
        return [self.body.name(k) for k in node.outputs] if known else []

    def _operator(self, node: Any) -> None:
        body, kind = self.body, self.body.kind(node)
        if kind == UPDATE:
            scale = self._scale(node.inputs[0])
            node.inputs[1] = self._as(node.inputs[1], scale)
        elif kind in CARRIED:
            scale = self._scale(node.inputs[CARRIED[kind]])
        else:
            read = 1 if kind == PRODUCT else len(node.inputs)
            node.inputs[:read] = [self._fine(k) for k in node.inputs[:read]]
            scale = _UNIT if kind in FIXED else self.scales.get(node.outputs[0]) or self._found(node.outputs[0])
        if kind == PRODUCT:
            self._weights(node)
        if kind in ("ADD", "SUB"):
            options = node.builtinOptions or getattr(schema, f"{kind.title()}OptionsT")()
            options.potScaleInt16 = False
            node.builtinOptions, node.builtinOptionsType = (
                options,
                getattr(schema.BuiltinOptions, f"{kind.title()}Options"),
            )
        for output in node.outputs:
            self._becomes(output, scale)
        version = VERSIONS.get((kind, scale.dtype))
        if version is not None:
            node.opcodeIndex = body.editor.code(getattr(schema.BuiltinOperator, kind), version)

    def _weights(self, node: Any) -> None:
        """int8 weights with one scale, an int64 bias of the scale of the sums."""
        body, taken = self.body, self._scale(node.inputs[0])
        value = body.data(node.inputs[1])
        assert value is not None  # KINDS: a product with weights
        integers, step = symmetric_int8(value, ())
        weight = Scale(float(step.reshape(-1)[0]), 0)
        node.inputs[1] = constant(body, body.name(node.inputs[1]), integers, weight)
        if len(node.inputs) > 2 and node.inputs[2] >= 0:
            bias: Array | None = body.data(node.inputs[2])
            assert bias is not None
            sums = Scale(taken.step * weight.step, 0, "int64")
            exact = np.round(bias.astype(np.float64) / sums.step)
            node.inputs[2] = constant(body, body.name(node.inputs[2]), exact, sums)

    def _found(self, tensor: int) -> Scale:
        return fine(self.ranges[self.body.name(tensor)])

    def _scale(self, tensor: int) -> Scale:
        return self.scales[tensor]

    def _becomes(self, tensor: int, scale: Scale) -> None:
        self.scales[tensor] = scale
        rescaled(self.body, tensor, scale)

    def _fine(self, tensor: int) -> int:
        """A tensor in int16."""
        scale = self._scale(tensor)
        if scale.dtype == FINE:
            return tensor
        low, high = scale.reals()
        return self._as(tensor, fine(Range(low, high), 1.0))

    def _as(self, tensor: int, scale: Scale) -> int:
        """A tensor in another scale."""
        if self._scale(tensor) == scale:
            return tensor
        if (tensor, scale) not in self.turned:
            self.turned[tensor, scale] = turned(self.body, tensor, scale)
            self.scales[self.turned[tensor, scale]] = scale
        return self.turned[tensor, scale]


def turned(graph: Graph, tensor: int, scale: Scale) -> int:
    """Integers of ``tensor`` in another scale, by QUANTIZE."""
    result = made(graph, f"{graph.name(tensor)}_{scale.dtype}", graph.shape(tensor), scale)
    graph.operator("QUANTIZE", [tensor], [result], version=2 if scale.dtype == FINE else 1)
    return result
