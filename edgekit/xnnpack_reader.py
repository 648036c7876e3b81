"""The parts of an ExecuTorch program that XNNPACK runs: their nodes, and which of them compute on integers.

Source: ExecuTorch's ``backends/xnnpack/serialization/schema.fbs``; the numbers below are those of its fields. A part
begins with a header of its own, which says where its flatbuffer lies.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Final

from edgekit import limits
from edgekit.errors import ModelError
from edgekit.flatbuffer import Reader

_WHAT: Final = "XNNPACK's part of the program"
_MARK: Final = b"XH00"
_ONE, _TWO, _CONV, _POOL, _CAT = (0,), (0, 1), (15,), (10,), (1, 2)
_KINDS: Final[tuple[tuple[str, tuple[int, ...], int], ...]] = (
    ("", (), 0), ("Add", _TWO, 2), ("FullyConnected", _ONE, 3), ("Softmax", _ONE, 1), ("Sigmoid", _ONE, 1),
    ("StaticTranspose", (2,), 3), ("Clamp", _ONE, 1), ("Conv2d", _CONV, 18), ("Div", _TWO, 2),
    ("StaticResizeBilinear2D", (2,), 3), ("StaticConstantPad", (3,), 4), ("AvgPooling2d", _POOL, 11),
    ("Minimum", _TWO, 2), ("DepthwiseConv2d", _CONV, 18), ("MaxPooling2d", _POOL, 11), ("Multiply", _TWO, 2),
    ("Subtract", _TWO, 2), ("Floor", _ONE, 1), ("Convert", _ONE, 1), ("GlobalAvgPooling2d", _ONE, 1),
    ("StaticReshape", (2,), 3), ("ArgMaxPooling2d", (6,), 7), ("SquareRoot", _ONE, 1), ("Ceiling", _ONE, 1),
    ("Hardswish", _ONE, 1), ("LeakyReLU", (1,), 2), ("Maximum", _TWO, 2), ("Negate", _ONE, 1), ("Square", _ONE, 1),
    ("ELU", (1,), 2), ("Abs", _ONE, 1), ("PReLU", _TWO, 2), ("Concatenate2", _CAT, 5), ("Concatenate3", _CAT, 5),
    ("Concatenate4", _CAT, 5), ("StaticSlice", (3,), 4), ("ScaledDotProductAttention", _TWO, 5),
    ("BatchMatrixMultiply", _TWO, 2), ("Concatenate5", _CAT, 5), ("ConvTranspose2d", _CONV, 18),
    ("ReciprocalSquareRoot", _ONE, 1), ("Log", _ONE, 1), ("Gelu", _ONE, 1), ("Tanh", _ONE, 1), ("Exp", _ONE, 1),
    ("Sin", _ONE, 1), ("Copy", _ONE, 1), ("Cos", _ONE, 1),
)  # fmt: skip
"""By the number of XNodeUnion: name, fields that hold its inputs, field that holds its output."""
CONVERSION: Final = "Convert"
"""The kind of node that only changes the number format."""
_BITS: Final = {1: 32, 2: 16, 3: 8, 4: 8, 5: 32, 6: 8, 7: 32, 8: 4, 9: 8, 10: 4, 11: 8, 12: 32, 13: 32, 14: 16}
_INTEGERS: Final = (3, 4, 6, 8, 9, 10, 11)
"""XNNDatatype: bits of an element, and which of them are integers of 8 bits or fewer with a scale."""
_QUANTIZED: Final = 2
"""The number of XNNQuantizedTensorValue in XValueUnion."""


@dataclass(frozen=True, slots=True)
class Node:
    """One node: its kind without ``XNN``, and whether its inputs and its output are integers with a scale."""

    kind: str
    reads_integers: bool
    gives_integers: bool


@dataclass(frozen=True, slots=True)
class _Value:
    """A tensor: its XNNDatatype, its elements, whether its values stand in the file."""

    datatype: int
    elements: int
    constant: bool

    @property
    def integer(self) -> bool:
        return self.datatype in _INTEGERS


class Part:
    """One part, as the bytes that ExecuTorch hands to XNNPACK. ``nodes``: in order.

    Raises:
        ModelError: it is damaged.
        LimitError: more nodes than a model may have.
    """

    def __init__(self, blob: bytes) -> None:
        if blob[4:8] == _MARK and len(blob) >= 18:
            start, size = struct.unpack_from("<II", blob, 10)
            blob = blob[start : start + size]
        self._reader = Reader(blob, _WHAT)
        root = self._reader.u32(0)
        self._values = dict(self._value(place) for place in self._reader.vector(root, 2))
        places = self._reader.vector(root, 1)
        limits.check("GRAPH_NODES", len(places), _WHAT)
        self.nodes = tuple(self._node(place) for place in places)

    def _union(self, table: int) -> tuple[int, int]:
        kind, at = self._reader.field(table, 0), self._reader.field(table, 1)
        if not kind or not at:
            raise ModelError(f"{_WHAT} is damaged: a node or a value of it is empty")
        return self._reader.u8(kind), self._reader.target(at)

    def _value(self, place: int) -> tuple[int, _Value]:
        reader = self._reader
        kind, tensor = self._union(place)
        if kind == _QUANTIZED:
            at = reader.field(tensor, 0)
            tensor = reader.target(at) if at else tensor
        at = reader.field(tensor, 0)
        elements = math.prod(abs(size) for size in reader.numbers(tensor, 2))
        return reader.number(tensor, 6), _Value(reader.u16(at) if at else 0, elements, reader.number(tensor, 3) > 0)

    def _node(self, place: int) -> Node:
        number, node = self._union(place)
        if not 0 < number < len(_KINDS):
            return Node(f"node {number}", False, False)
        kind, inputs, output = _KINDS[number]
        read = [self._values.get(self._reader.number(node, field)) for field in inputs]
        made = self._values.get(self._reader.number(node, output))
        return Node(kind, all(value is not None and value.integer for value in read), made is not None and made.integer)

    def weight_bytes(self) -> tuple[int, int]:
        """Bytes of the constants in integers of 8 bits or fewer, and of all constants."""
        held = [
            (value.integer, value.elements * _BITS.get(value.datatype, 32) // 8)
            for value in self._values.values()
            if value.constant
        ]
        return sum(size for integer, size in held if integer), sum(size for _, size in held)
