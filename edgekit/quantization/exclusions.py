"""Operators that a static scheme leaves in float whatever is asked, because integers cannot hold what they do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.graph import ops
from edgekit.graph.ops import Family, Kernel
from edgekit.graph.tflite_editor import NONE, Editor
from edgekit.quantization.calibrate.histogram import UNBOUNDED, Range
from edgekit.types import Array

MASKED = "it reads or writes infinity (a mask), which no integer stands for beside other values"
UNEVEN = "it joins outputs of very different ranges, and one scale for all would round the small ones to nothing"
LAST = "it adds an input to an output, or scales one by it: a range from older data would cut that off"
DIVIDES = "TFLite's integer DIV ends the process when the divisor rounds to zero"
STEPS = 32
"""Least steps of 255 that each tensor must have for several to share one scale: 24 dB for evenly spread values."""
_JOINS = ops.names(None, Family.JOIN)
_MOVES = ops.names(None, Family.RESHAPE, Family.SLICE, Family.SPLIT)
"""Operators that give values of their first input and change none."""
_ARITHMETIC = ops.names(None, Family.ARITHMETIC, kernel=Kernel.STATIC)


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator: its type, its name, and the tensors that it reads as values and writes."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Ranged:
    """The main graph of a file with the range of every float tensor, constants included."""

    def __init__(
        self,
        operators: Iterable[Operator],
        ranges: Mapping[str, Range],
        inputs: Iterable[str],
        outputs: Iterable[str],
    ) -> None:
        self.operators, self.ranges = tuple(operators), ranges
        self.inputs, self.outputs = frozenset(inputs), frozenset(outputs)
        self.maker = {name: one for one in self.operators for name in one.outputs}
        self.readers: dict[str, list[Operator]] = {}
        for one in self.operators:
            for name in one.inputs:
                self.readers.setdefault(name, []).append(one)

    @classmethod
    def onnx(cls, model: Any, ranges: Mapping[str, Range]) -> Ranged:
        """Of an ONNX model; ``ranges``: of its activations."""
        import onnx

        graph = model.graph
        held = [tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
        known = {**ranges, **{tensor.name: range_of(onnx.numpy_helper.to_array(tensor)) for tensor in held}}
        operators = []
        for node in graph.node:
            read = node.input[:1] if node.op_type == "Clip" else node.input  # its bounds are not values
            operators.append(Operator(node.op_type, node.name, tuple(read), tuple(node.output)))
        return cls(operators, known, (v.name for v in graph.input), (v.name for v in graph.output))

    @classmethod
    def tflite(cls, content: bytes, ranges: Mapping[str, Range]) -> Ranged:
        """Of a TFLite file; operators are called by their first output."""
        graph = Editor(content).main()
        values = ((graph.name(place), graph.data(place)) for place in range(len(graph.raw.tensors)))
        known = {**ranges, **{name: range_of(value) for name, value in values if value is not None}}

        def names(tensors: Any) -> tuple[str, ...]:
            return tuple(graph.name(tensor) for tensor in tensors if int(tensor) != NONE)

        operators = []
        for node in graph.raw.operators:
            written = names(node.outputs)  # a variable is written without any
            operators.append(Operator(graph.kind(node), (written or ("",))[0], names(node.inputs), written))
        return cls(operators, known, names(graph.raw.inputs), names(graph.raw.outputs))

    def exclusions(self, integer_io: bool = False) -> dict[str, str]:
        """Name of an operator -> why it stays in float. ``integer_io``: outputs have to be integers."""
        found = {one.name: DIVIDES for one in self.operators if one.kind == "DIV"}
        found |= {one.name: MASKED for one in self.operators if self._is_masked(one)}
        if integer_io:
            return found
        found |= {one.name: LAST for one in self.operators if self._is_last(one)}
        return found | {part.name: UNEVEN for one in self.operators if self._is_uneven(one) for part in self._tail(one)}

    def _is_masked(self, one: Operator) -> bool:
        """Whether a tensor there holds values that stand for infinity; the padding of a max-pool may be the lowest."""
        names = (*one.inputs, *one.outputs)
        if not any(name in self.ranges and self.ranges[name].unbounded for name in names):
            return False
        padding = one if one.kind == "PADV2" else self.maker.get(one.inputs[0]) if one.inputs else None
        return padding is None or padding.kind != "PADV2" or not self._pads_a_maximum(padding)

    def _pads_a_maximum(self, padding: Operator) -> bool:
        below = all(self.ranges[name].high <= 0 for name in padding.inputs[1:] if name in self.ranges)
        readers = self.readers.get(padding.outputs[0], [])
        source = self.ranges.get(padding.inputs[0])
        plain = source is not None and not source.unbounded and padding.outputs[0] not in self.outputs
        return below and plain and bool(readers) and all(reader.kind == "MAX_POOL_2D" for reader in readers)

    def _is_last(self, one: Operator) -> bool:
        given = one.kind in _ARITHMETIC and any(self._moved(name) in self.inputs for name in one.inputs)
        return given and not self.outputs.isdisjoint(one.outputs)

    def _moved(self, name: str) -> str:
        """The tensor that ``name`` was before it was moved about."""
        while (maker := self.maker.get(name)) is not None and maker.kind in _MOVES:
            name = maker.inputs[0]
        return name

    def _is_uneven(self, one: Operator) -> bool:
        if one.kind not in _JOINS or not all(name in self.ranges for name in (*one.inputs, *one.outputs)):
            return False
        spans = [self.ranges[name].high - self.ranges[name].low for name in (*one.inputs, one.outputs[0])]
        return any(0 < 255 * span < STEPS * spans[-1] for span in spans) and bool(self._tail(one))

    def _tail(self, one: Operator) -> list[Operator]:
        """``one`` and all behind it, where that moves values to the outputs and computes nothing; else nothing."""
        found, waiting = [], [one]
        while waiting:
            part = waiting.pop()
            found.append(part)
            for name in part.outputs:
                readers = self.readers.get(name, [])
                moved = all(reader.kind in (*_MOVES, *_JOINS) for reader in readers)
                if not moved or not (readers or name in self.outputs):
                    return []
                waiting += readers
        return found


def range_of(values: Array) -> Range:
    """The range of a constant."""
    bounded = values[np.abs(values) < UNBOUNDED]
    return Range(float(bounded.min(initial=0)), float(bounded.max(initial=0)), bounded.size < values.size)
