"""Whether a TFLite file is whole: every part lies inside it, and every number of a part has one.

Source: TFLite's schema.fbs; the numbers of the fields are its own.
"""

from __future__ import annotations

from collections.abc import Iterable

from edgekit.errors import ModelError
from edgekit.flatbuffer import Layout, Reader
from edgekit.limits import check

_QUANTIZATION: Layout = {0: 4, 1: 4, 2: 4, 3: 8, 5: {}}
_SPARSITY: Layout = {0: 4, 1: 4, 2: [{4: {}, 6: {}}]}
_TENSOR: Layout = {0: 4, 3: 1, 4: _QUANTIZATION, 6: _SPARSITY, 7: 4, 9: [{0: 4}]}
_OPERATOR: Layout = {1: 4, 2: 4, 4: {}, 5: 1, 7: 1, 8: 4, 12: {}}
_SUBGRAPH: Layout = {0: [_TENSOR], 1: 4, 2: 4, 3: [_OPERATOR], 4: 1}
_SIGNATURE: Layout = {0: [{0: 1}], 1: [{0: 1}], 2: 1}
_MODEL: Layout = {1: [{1: 1}], 2: [_SUBGRAPH], 3: 1, 4: [{0: 1}], 5: 4, 6: [{0: 1}], 7: [_SIGNATURE]}
_ROOT_AT = 8
"""Behind the first offset and the identifier."""


def check_parts(data: bytes) -> None:
    """Raises ModelError unless every part of the model lies in ``data`` and every number of a part has one.

    Raises:
        LimitError: more operators than a model may have.
    """
    reader = Reader(data)
    model = reader.u32(0)
    if model < _ROOT_AT:
        raise ModelError(f"the TFLite file is damaged: its first table is said to stand at byte {model}")
    reader.verify(model, _MODEL)
    reader = Reader(data)
    subgraphs = reader.vector(model, 2)
    if not subgraphs:
        raise ModelError("the TFLite file holds no graph")
    buffers, codes = len(reader.vector(model, 4)), len(reader.vector(model, 1))
    tensors, operators = [], 0
    for graph in subgraphs:
        own = reader.vector(graph, 0)
        tensors.append(len(own))
        _below(buffers, "buffer", (_number(reader, tensor, 2) for tensor in own))
        _below(len(own), "tensor", (*reader.numbers(graph, 1), *reader.numbers(graph, 2)))
        listed = reader.vector(graph, 3)
        operators += len(listed)
        check("GRAPH_NODES", operators, "the TFLite file")
        for operator in listed:
            _below(codes, "operator code", [_number(reader, operator, 0)])
            _below(len(own), "tensor", (*reader.numbers(operator, 1), *reader.numbers(operator, 2)), least=-1)
    for signature in reader.vector(model, 7):
        graph = _number(reader, signature, 4)
        _below(len(tensors), "graph", [graph])
        entries = [*reader.vector(signature, 0), *reader.vector(signature, 1)]
        _below(tensors[graph], "tensor", (_number(reader, entry, 1) for entry in entries))


def _number(reader: Reader, table: int, index: int) -> int:
    at = reader.field(table, index)
    return reader.u32(at) if at else 0


def _below(count: int, what: str, numbers: Iterable[int], least: int = 0) -> None:
    """``least``: -1 where an input may be left out."""
    for number in numbers:
        if not least <= number < count:
            raise ModelError(f"the TFLite file is damaged: it refers to {what} {number} of {count}")
