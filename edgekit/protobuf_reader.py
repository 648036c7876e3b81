"""ONNX files as protobuf bytes: just enough to check them and to carry the card, without the onnx package.

Source: the protobuf encoding (tag = field << 3 | wire type) and onnx.proto's ``ModelProto``: ``ir_version`` 1,
``graph`` 7, ``opset_import`` 8, ``metadata_props`` 14. Fields may stand in any order, so that a card is appended.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from edgekit import limits
from edgekit.errors import ModelError

PLACEHOLDERS = ("", "?", "-1", "None")
"""What exporters write where they know no size: unlike a symbol, two of them need not be equal."""

_IR_VERSION, _GRAPH, _OPSET, _METADATA = 1, 7, 8, 14
_FUNCTION, _GRAPH_NODE, _FUNCTION_NODE, _NODE_ATTRIBUTE, _ATTRIBUTE_GRAPHS = 25, 1, 7, 5, (6, 11)
_DEEPEST = 90
"""Protobuf itself takes 100 levels of messages."""
_GRAPH_INITIALIZER, _TENSOR_EXTERNAL, _TENSOR_LOCATION = 5, 13, 14
Field = tuple[int, int, int, int, int]
"""Field number, wire type, start of the tag, start of the payload, end of the payload (byte offsets)."""


def fields(data: bytes | memoryview, start: int = 0, end: int | None = None) -> Iterator[Field]:
    """Every field of the message in ``data[start:end]``.

    Raises:
        ModelError: not protobuf, or cut short.
    """
    stop = len(data) if end is None else end
    at = start
    while at < stop:
        tag_at = at
        tag, at = _varint(data, at, stop)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise ModelError("not an ONNX file: a protobuf field has the number 0")
        if wire == 0:
            _, close = _varint(data, at, stop)
            begin = at
        elif wire == 1:
            begin, close = at, at + 8
        elif wire == 5:
            begin, close = at, at + 4
        elif wire == 2:
            size, begin = _varint(data, at, stop)
            close = begin + size
        else:
            raise ModelError(f"not an ONNX file: protobuf wire type {wire} at byte {tag_at}")
        if close > stop:
            raise ModelError(f"the ONNX file is cut short: a field at byte {tag_at} ends {close - stop:,} bytes later")
        yield number, wire, tag_at, begin, close
        at = close


def _varint(data: bytes | memoryview, at: int, stop: int) -> tuple[int, int]:
    value = shift = 0
    while at < stop and shift < 70:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
    raise ModelError(f"the ONNX file is cut short or damaged: no end to the number at byte {at}")


def signed(data: bytes | memoryview, at: int, stop: int) -> tuple[int, int]:
    """The whole number (int64) at byte ``at``, and where it ends."""
    value, end = _varint(data, at, stop)
    return value - (1 << 64) if value >> 63 else value, end


def check(data: bytes) -> None:
    """Raises ModelError unless ``data`` is a whole ``ModelProto`` with a graph and an opset.

    Raises:
        LimitError: more operators than a model may have, those that functions stand for included.
    """
    found, functions, graphs = dict[int, int](), list[tuple[int, int]](), list[tuple[int, int]]()
    for number, wire, _, begin, close in fields(data):
        found[number] = wire
        if wire == 2 and number in (_GRAPH, _FUNCTION):
            (graphs if number == _GRAPH else functions).append((begin, close))
    for number, wire, name in ((_IR_VERSION, 0, "IR version"), (_GRAPH, 2, "graph"), (_OPSET, 2, "opset")):
        if found.get(number) != wire:
            raise ModelError(f"not an ONNX file, or cut short: it has no {name}")
    operators = _Operators(data, functions)
    for begin, close in graphs:
        operators.count(begin, close, _GRAPH_NODE, 0)


class _Operators:
    """How many operators a model has, those in bodies of loops and branches and behind every call of a function too.

    A function may call others twice each, so that a small file stands for any number of operators.
    Source: ``FunctionProto`` name 1, node 7, domain 10; ``NodeProto`` op_type 4, attribute 5, domain 7;
    ``AttributeProto`` g 6, graphs 11; ``GraphProto`` node 1.
    """

    def __init__(self, data: bytes, functions: list[tuple[int, int]]) -> None:
        self._data, self._most = data, limits.limit("GRAPH_NODES")
        self._known: dict[tuple[bytes, bytes], int | None] = {}
        self._places = {self._name(*place, 1, 10): place for place in functions}

    def _name(self, begin: int, close: int, name: int, domain: int) -> tuple[bytes, bytes]:
        texts = {n: self._data[b:c] for n, _, _, b, c in fields(self._data, begin, close) if n in (name, domain)}
        return texts.get(domain, b""), texts.get(name, b"")

    def count(self, begin: int, close: int, node: int, depth: int) -> int:
        """Operators of the graph or function at ``begin``, whose own ones are its fields ``node``."""
        if depth > _DEEPEST:
            raise ModelError(f"the ONNX file nests graphs and functions more than {_DEEPEST} deep")
        found = 0
        for number, wire, _, start, end in fields(self._data, begin, close):
            if number == node and wire == 2:
                found += 1 + self._inside(start, end, depth + 1)
                if found > self._most:
                    limits.check("GRAPH_NODES", found, "the ONNX file")
        return found

    def _inside(self, begin: int, close: int, depth: int) -> int:
        """Operators of the bodies of an operator and of the function it calls."""
        found = 0
        for number, wire, _, start, end in fields(self._data, begin, close):
            if number == _NODE_ATTRIBUTE and wire == 2:
                for inner, kind, _, at, stop in fields(self._data, start, end):
                    if inner in _ATTRIBUTE_GRAPHS and kind == 2:
                        found += self.count(at, stop, _GRAPH_NODE, depth)
        called = self._name(begin, close, 4, 7) if self._places else None
        return found + (self._called(called, depth) if called in self._places else 0)

    def _called(self, name: Any, depth: int) -> int:
        """Operators of the function ``name``, which is read once."""
        if name not in self._known:
            self._known[name] = None
            self._known[name] = self.count(*self._places[name], _FUNCTION_NODE, depth)
        found = self._known[name]
        if found is None:
            raise ModelError(f"the ONNX file's function {name[1][:60]!r} calls itself")
        return found


def metadata(data: bytes) -> dict[str, bytes]:
    """``metadata_props`` as key -> value bytes."""
    found = {}
    for number, _, _, begin, close in fields(data):
        if number == _METADATA:
            entry = {n: bytes(data[b:c]) for n, _, _, b, c in fields(data, begin, close)}
            found[entry.get(1, b"").decode("utf-8", "replace")] = entry.get(2, b"")
    return found


def with_metadata(data: bytes, key: str, value: bytes) -> bytes:
    """The same model with ``metadata_props[key] = value``, every other byte kept."""
    kept = []
    for number, _, tag_at, begin, close in fields(data):
        if number == _METADATA:
            entry = {n: bytes(data[b:c]) for n, _, _, b, c in fields(data, begin, close)}
            if entry.get(1) == key.encode():
                continue
        kept.append(data[tag_at:close])
    entry_bytes = _field(1, key.encode()) + _field(2, value)
    return b"".join(kept) + _field(_METADATA, entry_bytes)


def external_locations(data: bytes) -> list[str]:
    """Paths, as the file states them, of the tensors whose data lies outside the file."""
    found = []
    for number, _, _, begin, close in fields(data):
        if number != _GRAPH:
            continue
        for inner, _, _, tensor_begin, tensor_close in fields(data, begin, close):
            if inner == _GRAPH_INITIALIZER:
                found += _tensor_locations(data, tensor_begin, tensor_close)
    return list(dict.fromkeys(found))


def _tensor_locations(data: bytes, begin: int, close: int) -> list[str]:
    found = []
    for number, wire, _, b, c in fields(data, begin, close):
        if number == _TENSOR_EXTERNAL and wire == 2:
            entry = {n: bytes(data[x:y]) for n, _, _, x, y in fields(data, b, c)}
            if entry.get(1) == b"location":
                found.append(entry.get(2, b"").decode("utf-8", "replace"))
    return found


def _field(number: int, payload: bytes) -> bytes:
    return _encode(number << 3 | 2) + _encode(len(payload)) + payload


def _encode(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
