"""Which integer inputs of a model file are rows of a constant table, and how many rows that has.

Read from the bytes (:mod:`edgekit.protobuf_reader`, :mod:`edgekit.flatbuffer_reader`), so that a board can do it: an
index beyond the table is refused by some runtimes, and read from foreign memory by others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edgekit import flatbuffer_reader, protobuf_reader
from edgekit.errors import ModelError
from edgekit.graph import ops
from edgekit.graph.ops import Family, Trait
from edgekit.types import Format

Shape = tuple[int, ...]
_SAME_INDICES = ops.names(None, Family.RESHAPE, Family.SLICE, Family.CAST)
"""Operators behind which indices are still the same."""


@dataclass(frozen=True, slots=True)
class _Node:
    """An operator: its type, the names of its inputs and outputs, and the axis along which it looks up."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    axis: int = 0


def index_bounds(data: bytes, format: Format) -> dict[str, int]:
    """Input of a file's main graph -> rows of the smallest constant table that its values are looked up in.

    Args:
        data: the file; one of another format than ONNX and TFLite has no such inputs.
    """
    read = {Format.ONNX: _onnx, Format.TFLITE: _tflite}.get(format)
    return _bounds(format, *read(data)) if read else {}


def _bounds(
    format: Format, nodes: Iterable[_Node], tables: dict[str, Shape], inputs: Mapping[str, str]
) -> dict[str, int]:
    """``inputs``: name in the graph -> name of the input."""
    sources, bounds = dict(inputs), dict[str, int]()
    for node in nodes:
        first = node.inputs[0] if node.inputs else ""
        op = ops.get(format, node.kind)
        if op is not None and Trait.UNPACKS_TABLE in op.traits and first in tables:
            tables[node.outputs[0]] = tables[first]
        if node.kind in _SAME_INDICES and first in sources:
            sources[node.outputs[0]] = sources[first]
        for indices, table in op.lookups if op is not None else ():
            if max(indices, table) >= len(node.inputs):
                continue
            source, shape = sources.get(node.inputs[indices]), tables.get(node.inputs[table], ())
            if source is not None and -len(shape) <= node.axis < len(shape):
                bounds[source] = min(shape[node.axis], bounds.get(source, shape[node.axis]))
    return bounds


def _onnx(data: bytes) -> tuple[list[_Node], dict[str, Shape], dict[str, str]]:
    """Source: ``ModelProto`` graph 7; ``GraphProto`` node 1, initializer 5, input 11 (``ValueInfoProto`` name 1)."""
    nodes: list[_Node] = []
    tables: dict[str, Shape] = {}
    inputs: list[str] = []
    for graph, _, _, start, end in protobuf_reader.fields(data):
        if graph != 7:
            continue
        for number, _, _, begin, close in protobuf_reader.fields(data, start, end):
            if number == 1:
                node, constant = _onnx_node(data, begin, close)
                nodes.append(node)
                tables.update({node.outputs[0]: constant} if constant is not None else {})
            elif number == 5:
                name, shape = _onnx_tensor(data, begin, close)
                tables[name] = shape
            elif number == 11:
                inputs.append(_text(data, begin, close, 1))
    return nodes, tables, {name: name for name in inputs if name not in tables}


def _onnx_node(data: bytes, begin: int, close: int) -> tuple[_Node, Shape | None]:
    """An operator, and the shape of what it gives where it is a Constant.

    Source: ``NodeProto`` input 1, output 2, op_type 4, attribute 5; ``AttributeProto`` name 1, i 3, t 5.
    """
    texts: dict[int, list[str]] = {1: [], 2: [], 4: []}
    axis, constant = 0, None
    for number, _, _, start, end in protobuf_reader.fields(data, begin, close):
        if number in texts:
            texts[number].append(data[start:end].decode("utf-8", "replace"))
        if number != 5:
            continue
        name = _text(data, start, end, 1)
        for inner, _, _, at, stop in protobuf_reader.fields(data, start, end):
            if inner == 3 and name in ("axis", "gather_axis"):
                axis = protobuf_reader.signed(data, at, stop)[0]
            elif inner == 5 and name == "value" and texts[4] == ["Constant"]:
                constant = _onnx_tensor(data, at, stop)[1]
    return _Node("".join(texts[4]), tuple(texts[1]), tuple(texts[2]), axis), constant


def _onnx_tensor(data: bytes, begin: int, close: int) -> tuple[str, Shape]:
    """Name and shape. Source: ``TensorProto`` dims 1 (one number a field, or all in one), name 8."""
    shape: list[int] = []
    for number, _, _, start, end in protobuf_reader.fields(data, begin, close):
        while number == 1 and start < end:
            size, start = protobuf_reader.signed(data, start, end)
            shape.append(size)
    return _text(data, begin, close, 8), tuple(shape)


def _text(data: bytes, begin: int, close: int, wanted: int) -> str:
    found = (data[b:c] for number, _, _, b, c in protobuf_reader.fields(data, begin, close) if number == wanted)
    return next(found, b"").decode("utf-8", "replace")


def _tflite(data: bytes) -> tuple[list[_Node], dict[str, Shape], dict[str, str]]:
    graphs = flatbuffer_reader.graphs(data)
    if not graphs:
        raise ModelError("the TFLite file has no graph")
    main = graphs[0]
    nodes = [_tflite_node(op, ops.tflite_names().get(op.code, "")) for op in main.operators]
    tables = {str(number): tensor.shape for number, tensor in enumerate(main.tensors) if tensor.constant}
    return nodes, tables, {str(number): name for number, name in flatbuffer_reader.input_names(data).items()}


def _tflite_node(operator: flatbuffer_reader.GraphOperator, kind: str) -> _Node:
    """Source: ``GatherOptions`` axis 0; other operators look up along the first axis."""
    axis = operator.options[0] if kind == "GATHER" and operator.options else 0
    axis -= (1 << 32) if axis >> 31 else 0
    return _Node(kind, tuple(map(str, operator.inputs)), tuple(map(str, operator.outputs)), axis)
