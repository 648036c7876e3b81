"""TFLite files as flatbuffer bytes: just enough to check them and to carry the card, without a schema package.

Source: the flatbuffers binary format (tables with a vtable, unsigned 32-bit offsets that point forward) and TFLite's
schema.fbs: ``Model`` fields version 0, operator_codes 1, subgraphs 2, description 3, buffers 4, metadata_buffer 5,
metadata 6, signature_defs 7; ``Metadata`` name 0, buffer 1; ``Buffer`` data 0, offset 1, size 2.

The card is put in without rewriting anything: offsets point forward only, so a *prefix* right behind the file
identifier can hold a new root table that refers to every old part, which moves as one block. The prefix starts with a
marker, its own length, the old root and how many bytes were put behind the model, so that taking all of it out again
gives the first file back, byte for byte.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from edgekit import limits
from edgekit.errors import ModelError
from edgekit.flatbuffer import Layout, Reader, new_root
from edgekit.flatbuffer_writer import Number, encode

IDENTIFIER = b"TFL3"
_MARKER, _MARKER_WITHOUT_TAIL = b"edgekit\1", b"edgekit\0"
"""The second begins the prefix of files from before there was anything behind the model."""
_HEADER = 8  # root offset, identifier
_IN_FRONT = struct.Struct("<8sIII")
_ALIGNMENT = 64  # TFLite asks for 16 in constant buffers; the moved block keeps any alignment up to this
_MODEL_FIELDS, _BUFFERS, _METADATA = 8, 4, 6
_ASSIGN_VARIABLE = 144
_LESS, WHILE = 58, 119
_QUANTIZATION: Layout = {0: 4, 1: 4, 2: 4, 3: 8, 5: {}}
_SPARSITY: Layout = {0: 4, 1: 4, 2: [{4: {}, 6: {}}]}
_TENSOR: Layout = {0: 4, 3: 1, 4: _QUANTIZATION, 6: _SPARSITY, 7: 4, 9: [{0: 4}]}
_OPERATOR: Layout = {1: 4, 2: 4, 4: {}, 5: 1, 7: 1, 8: 4, 12: {}}
_SUBGRAPH: Layout = {0: [_TENSOR], 1: 4, 2: 4, 3: [_OPERATOR], 4: 1}
_SIGNATURE: Layout = {0: [{0: 1}], 1: [{0: 1}], 2: 1}
_MODEL: Layout = {1: [{1: 1}], 2: [_SUBGRAPH], 3: 1, 4: [{0: 1}], 5: 4, 6: [{0: 1}], 7: [_SIGNATURE]}
"""What stands below a model, by the numbers of the schema's fields."""


def check(data: bytes) -> None:
    """Raises ModelError unless ``data`` is a whole TFLite file: every part of it, weights too, lies inside it."""
    if data[4:8] != IDENTIFIER:
        raise ModelError(f"not a TFLite file: it should say {IDENTIFIER!r} at byte 4, it says {data[4:8]!r}")
    _check_parts(data)
    reader = Reader(data)
    model = reader.u32(0)
    for buffer in reader.vector(model, _BUFFERS):
        for place in _outside(reader, buffer):
            offset, size = reader.u64(place[0]), reader.u64(place[1])
            if offset + size > len(data):
                raise ModelError(
                    f"the TFLite file is cut short: weights end at byte {offset + size:,} of {len(data):,}"
                )


def _check_parts(data: bytes) -> None:
    """Raises ModelError unless every part of the model lies in ``data`` and every number of a part has one.

    Raises:
        LimitError: more operators than a model may have.
    """
    reader = Reader(data)
    model = reader.u32(0)
    if model < _HEADER:
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
        _below(buffers, "buffer", (reader.number(tensor, 2) for tensor in own))
        _below(len(own), "tensor", (*reader.numbers(graph, 1), *reader.numbers(graph, 2)))
        listed = reader.vector(graph, 3)
        operators += len(listed)
        limits.check("GRAPH_NODES", operators, "the TFLite file")
        for operator in listed:
            _below(codes, "operator code", [reader.number(operator, 0)])
            _below(len(own), "tensor", (*reader.numbers(operator, 1), *reader.numbers(operator, 2)), least=-1)
    for signature in reader.vector(model, 7):
        graph = reader.number(signature, 4)
        _below(len(tensors), "graph", [graph])
        entries = [*reader.vector(signature, 0), *reader.vector(signature, 1)]
        _below(tensors[graph], "tensor", (reader.number(entry, 1) for entry in entries))


def _below(count: int, what: str, numbers: Iterable[int], least: int = 0) -> None:
    """``least``: -1 where an input may be left out."""
    for number in numbers:
        if not least <= number < count:
            raise ModelError(f"the TFLite file is damaged: it refers to {what} {number} of {count}")


def has_outside_buffers(data: bytes) -> bool:
    """Whether weights stand behind the flatbuffer, where readers of before 2023 and microcontrollers do not look."""
    reader = Reader(data)
    return any(any(_outside(reader, buffer)) for buffer in reader.vector(reader.u32(0), _BUFFERS))


def _outside(reader: Reader, buffer: int) -> Iterator[tuple[int, int]]:
    """Places of ``offset`` and ``size`` of a buffer that is stored behind the flatbuffer (files over 2 GB)."""
    offset, size = reader.field(buffer, 1), reader.field(buffer, 2)
    if offset and size and reader.u64(offset) > 1:
        yield offset, size


def metadata(data: bytes) -> dict[str, bytes]:
    """Name -> bytes of the model's metadata buffers."""
    reader = Reader(data)
    model = reader.u32(0)
    buffers = reader.vector(model, _BUFFERS)
    found = {}
    for entry in reader.vector(model, _METADATA):
        name_at, index_at = reader.field(entry, 0), reader.field(entry, 1)
        index = reader.u32(index_at) if index_at else 0
        if not name_at or index >= len(buffers):
            raise ModelError("the TFLite file's metadata refers to a buffer that does not exist")
        data_at = reader.field(buffers[index], 0)
        found[reader.blob(name_at).decode("utf-8", "replace")] = reader.blob(data_at) if data_at else b""
    return found


def without_prefix(data: bytes) -> bytes:
    """The file as it was before :func:`with_metadata`; other files are returned as they are."""
    marker = data[_HEADER : _HEADER + len(_MARKER)]
    if marker not in (_MARKER, _MARKER_WITHOUT_TAIL):
        return data
    reader, at = Reader(data), _HEADER + len(_MARKER)
    length, root = reader.u32(at), reader.u32(at + 4)
    end = len(data) - (reader.u32(at + 8) if marker == _MARKER else 0)
    if _HEADER + length > end or not _HEADER <= root < end - length:
        raise ModelError("the TFLite file is damaged: the card before its model is said to end behind the file")
    body = bytearray(struct.pack("<I", root) + data[4:_HEADER] + data[_HEADER + length : end])
    _shift_outside_buffers(body, -length)
    return bytes(body)


def with_metadata(data: bytes, entries: Mapping[str, bytes], tail: bytes = b"") -> bytes:
    """The same model with a metadata buffer for each of ``entries`` and ``tail`` behind it; replaces what an earlier
    call put in."""
    original = without_prefix(data)
    taken = [name for name in entries if name in metadata(original)]
    if taken:
        raise ModelError(f"the TFLite file already has a metadata buffer {taken[0]!r} that edgekit did not write")
    prefix, root = _prefix(Reader(original), entries, len(tail))
    body = bytearray(original[:_HEADER] + prefix + original[_HEADER:])
    struct.pack_into("<I", body, 0, root)
    _shift_outside_buffers(body, len(prefix))
    return bytes(body) + tail


def _prefix(reader: Reader, added: Mapping[str, bytes], tail: int) -> tuple[bytes, int]:
    """Marker, length, old root, length of the tail; then a root table with a Metadata and a Buffer table for each of
    ``added``; and the place of that root."""
    root = reader.u32(0)
    first = len(reader.vector(root, _BUFFERS))
    tables = {
        _BUFFERS: [encode({0: value}) for value in added.values()],
        _METADATA: [encode({0: name, 1: Number("I", first + number)}) for number, name in enumerate(added)],
    }
    out, place = new_root(reader, (_HEADER, _HEADER), _IN_FRONT.size, _MODEL_FIELDS, tables, _ALIGNMENT)
    _IN_FRONT.pack_into(out, 0, _MARKER, len(out), root, tail)
    return bytes(out), place


def _shift_outside_buffers(body: bytearray, by: int) -> None:
    """Moves the absolute places of buffers stored behind the flatbuffer."""
    reader = Reader(bytes(body))
    for buffer in reader.vector(reader.u32(0), _BUFFERS):
        for offset_at, _ in _outside(reader, buffer):
            place = reader.u64(offset_at) + by
            if not 0 < place < 1 << 63:
                raise ModelError(f"the TFLite file is damaged: weights are said to stand at byte {place}")
            struct.pack_into("<Q", body, offset_at, place)


def custom_operators(data: bytes) -> tuple[str, ...]:
    """Names of the custom operators that the file lists, sorted; those of TensorFlow (Flex) start with ``Flex``.

    Source: ``OperatorCode`` custom_code 1.
    """
    reader = Reader(data)
    places = (reader.field(entry, 1) for entry in reader.vector(reader.u32(0), 1))
    return tuple(sorted({_string(reader, at) for at in places if at}))


_TYPES = {0: "<f4", 1: "<f2", 2: "<i4", 3: "|u1", 4: "<i8", 6: "|b1", 7: "<i2", 9: "|i1", 10: "<f8", 15: "<u4"}
"""TensorType -> numpy dtype, of those whose bytes are the values."""


def constants(data: bytes) -> Iterator[tuple[str, bytes]]:
    """numpy dtype and bytes of every tensor whose values stand in the file, each buffer once.

    Source: ``SubGraph`` tensors 0; ``Tensor`` type 1, buffer 2. Tensors of other types (4 bits, strings) are left out.
    """
    reader = Reader(data)
    model = reader.u32(0)
    buffers = reader.vector(model, _BUFFERS)
    seen: set[int] = set()
    for graph in reader.vector(model, 2):
        for tensor in reader.vector(graph, 0):
            type_at, buffer_at = reader.field(tensor, 1), reader.field(tensor, 2)
            kind, number = (reader.u8(type_at) if type_at else 0), (reader.u32(buffer_at) if buffer_at else 0)
            if number in seen or number >= len(buffers) or kind not in _TYPES:
                continue
            at = reader.field(buffers[number], 0)
            if at:
                seen.add(number)
                yield _TYPES[kind], reader.blob(at)


@dataclass(frozen=True, slots=True)
class GraphTensor:
    """Shape and bytes of an element; ``value`` of a constant whole number alone, None otherwise."""

    shape: tuple[int, ...]
    itemsize: int
    constant: bool
    value: int | None


@dataclass(frozen=True, slots=True)
class GraphOperator:
    """BuiltinOperator's number, tensor indices, and the first whole numbers of its options table."""

    code: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """One subgraph."""

    tensors: tuple[GraphTensor, ...]
    inputs: tuple[int, ...]
    operators: tuple[GraphOperator, ...]


def graphs(data: bytes) -> list[Graph]:
    """Every subgraph of the file, the main one first.

    Source: ``SubGraph`` tensors 0, inputs 1, operators 3; ``Tensor`` shape 0, type 1, buffer 2; ``Operator``
    opcode_index 0, inputs 1, outputs 2, builtin_options 4; ``OperatorCode`` deprecated_builtin_code 0, builtin_code 3.
    """
    reader = Reader(data)
    model = reader.u32(0)
    buffers = reader.vector(model, _BUFFERS)
    codes = _codes(reader, model)
    found = []
    for graph in reader.vector(model, 2):
        tensors = tuple(_graph_tensor(reader, tensor, buffers) for tensor in reader.vector(graph, 0))
        operators = []
        for operator in reader.vector(graph, 3):
            code_at, options_at = reader.field(operator, 0), reader.field(operator, 4)
            options = reader.target(options_at) if options_at else 0
            places = [reader.field(options, k) for k in range(2)] if options else []
            operators.append(
                GraphOperator(
                    codes[reader.u32(code_at) if code_at else 0],
                    reader.numbers(operator, 1),
                    reader.numbers(operator, 2),
                    tuple(reader.u32(at) if at else 0 for at in places),
                )
            )
        found.append(Graph(tensors, reader.numbers(graph, 1), tuple(operators)))
    return found


def loop_rounds(all_graphs: list[Graph]) -> dict[int, int | None]:
    """Subgraph of a loop's body -> how often it runs, None where the condition does not tell."""
    return {
        operator.options[1]: rounds_of(
            all_graphs[operator.options[0]], [all_graphs[0].tensors[index].value for index in operator.inputs]
        )
        for operator in all_graphs[0].operators
        if operator.code == WHILE
    }


def rounds_of(condition: Graph, given: list[int | None]) -> int | None:
    """How often a loop with this condition runs: the limit of ``counter < limit``, which is there or handed in."""
    for operator in condition.operators:
        if operator.code == _LESS and len(operator.inputs) == 2:
            limit = operator.inputs[1]
            return given[condition.inputs.index(limit)] if limit in condition.inputs else condition.tensors[limit].value
    return None


_SIDES = {"inputs": (1, 0), "outputs": (2, 1)}
"""Field of ``SubGraph``, field of ``SignatureDef``."""


def input_names(data: bytes) -> dict[int, str]:
    """Tensor number of every input of the main graph -> its name, see :func:`tensor_names`."""
    return tensor_names(data, "inputs")


def tensor_names(data: bytes, side: str) -> dict[int, str]:
    """Tensor number of every input or output (``side``) of the main graph -> its name: the signature's where there is
    one, else its own. In the order of the graph; of two names of one tensor the last.

    Source: ``SignatureDef`` inputs 0, outputs 1, subgraph_index 4; ``TensorMap`` name 0, tensor_index 1; ``Tensor``
    name 3; ``SubGraph`` inputs 1, outputs 2.
    """
    reader = Reader(data)
    model = reader.u32(0)
    graph = reader.vector(model, 2)[0]
    of_graph, of_signature = _SIDES[side]
    tensors, own = reader.vector(graph, 0), reader.numbers(graph, of_graph)
    for signature in reader.vector(model, 7):
        subgraph_at = reader.field(signature, 4)
        if subgraph_at and reader.u32(subgraph_at):
            continue
        entries = [(reader.field(entry, 1), reader.field(entry, 0)) for entry in reader.vector(signature, of_signature)]
        named = {reader.u32(at) if at else 0: _string(reader, name) for at, name in entries}
        return {number: named[number] for number in own if number in named}
    return {number: _string(reader, reader.field(tensors[number], 3)) for number in own}


def _string(reader: Reader, at: int) -> str:
    return reader.blob(at).decode("utf-8", "replace") if at else ""


def _graph_tensor(reader: Reader, tensor: int, buffers: list[int]) -> GraphTensor:
    type_at, buffer_at = reader.field(tensor, 1), reader.field(tensor, 2)
    dtype = _TYPES.get(reader.u8(type_at) if type_at else 0, "|u1")
    number = reader.u32(buffer_at) if buffer_at else 0
    at = reader.field(buffers[number], 0) if number < len(buffers) else 0
    held = reader.blob(at) if at else b""
    shape, itemsize = reader.numbers(tensor, 0), int(dtype[2])
    whole = bool(held) and dtype[1] == "i" and len(held) == itemsize
    return GraphTensor(shape, itemsize, bool(held), int.from_bytes(held, "little", signed=True) if whole else None)


def keeps_variables(data: bytes) -> bool:
    """Whether the file has a state that outlives a run: variable tensors, or resource variables that it writes.

    Source: ``SubGraph`` tensors 0, operators 3; ``Tensor`` is_variable 5; ``Operator`` opcode_index 0.
    """
    reader = Reader(data)
    model = reader.u32(0)
    subgraphs = reader.vector(model, 2)
    places = (reader.field(tensor, 5) for graph in subgraphs for tensor in reader.vector(graph, 0))
    if any(at and reader.u8(at) for at in places):
        return True
    codes = _codes(reader, model)
    used = (reader.field(operator, 0) for graph in subgraphs[:1] for operator in reader.vector(graph, 3))
    return any(codes[reader.u32(at) if at else 0] == _ASSIGN_VARIABLE for at in used)


def _codes(reader: Reader, model: int) -> list[int]:
    """BuiltinOperator's number of every operator code. Source: deprecated_builtin_code 0, builtin_code 3."""
    codes = []
    for entry in reader.vector(model, 1):
        old_at, new_at = reader.field(entry, 0), reader.field(entry, 3)
        codes.append(max(reader.u8(old_at) if old_at else 0, reader.u32(new_at) if new_at else 0))
    return codes
