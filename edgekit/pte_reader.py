"""ExecuTorch programs (``.pte``) as bytes: check, inputs, outputs, operators and card, without ExecuTorch.

Source: ExecuTorch's ``schema/program.fbs``, ``exir/_serialize/_program.py`` (the extended header behind the file
identifier). Numbers below are those of the schema's fields.

The card is named data of the program, ``edgekit``, which ExecuTorch's own ``NamedDataMap`` finds as well. It is put in
without rewriting anything (:func:`edgekit.flatbuffer.new_root`); what stood before the program's first table is kept in
front of the new one, so that taking the card out again gives the first file back, byte for byte.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from edgekit import limits
from edgekit.errors import ModelError, UnsupportedError
from edgekit.flatbuffer import Layout, Reader, new_root
from edgekit.flatbuffer_writer import Number, encode
from edgekit.types import Dim, Signature, TensorSpec
from edgekit.xnnpack_reader import Part

IDENTIFIER: Final = b"ET"
_VERSIONED: Final = b"ET12"
_WHAT: Final = "the ExecuTorch program"
_MARKER: Final = b"edgekit\1"
_EXTENDED: Final = b"eh00"
_HEADER: Final = struct.Struct("<4s4s4sIQQQ")
"""Root, identifier; of the extended header mark and length, bytes of the program, where segments begin, their bytes."""
_IN_FRONT: Final = struct.Struct("<8sIII")
"""Before the new root: the mark, bytes put before the old program, bytes of the old head, bytes put behind all."""
_ALIGNMENT: Final = 128
"""ExecuTorch asks for 16 in the program and 128 where segments begin."""
_FIELDS, _PLANS, _INLINE, _SEGMENTS, _NAMED = 8, 1, 3, 4, 7
_VALUES, _INPUTS, _OUTPUTS, _CHAINS, _OPERATORS, _DELEGATES = 2, 3, 4, 5, 6, 7
_TENSOR, _KERNEL_CALL, _DELEGATE_CALL = 5, 1, 2
_TENSOR_LAYOUT: Layout = {2: 4, 3: 1, 6: {}}
_PLAN: Layout = {
    0: 1, 2: [{}], 3: 4, 4: 4, 5: [{0: 4, 1: 4, 2: [{}]}], 6: [{0: 1, 1: 1}], 7: [{0: 1, 1: {}, 2: [{0: 1, 1: 1}]}],
    8: 8,
}  # fmt: skip
_OFFSETS: Layout = {1: 8}
_PROGRAM: Layout = {1: [_PLAN], 2: [{0: 1}], 3: [{0: 1}], 4: [{}], 5: _OFFSETS, 6: [_OFFSETS], 7: [{0: 1}]}
_DTYPES: Final = {
    0: "uint8", 1: "int8", 2: "int16", 3: "int32", 4: "int64", 5: "float16", 6: "float32", 7: "float64", 11: "bool",
    27: "uint16", 28: "uint32", 29: "uint64",
}  # fmt: skip
"""ScalarType -> numpy's name."""
_REAL: Final = (5, 6, 7, 15)
"""Those of them that are real numbers."""
XNNPACK: Final = "XnnpackBackend"


@dataclass(frozen=True, slots=True)
class Call:
    """An operator that a program runs.

    Attributes:
        name: ``aten::mean.out``, or what XNNPACK calls it.
        by: the backend that runs it; empty for ExecuTorch's own kernels.
        integers: it reads integers with a scale.
        real: it reads or gives real numbers; of a backend without a name here, it is not known.
    """

    name: str
    by: str = ""
    integers: bool = False
    real: bool = True


def check(data: bytes) -> None:
    """Raises ModelError unless ``data`` is a whole ExecuTorch program: every part of it, weights too, lies inside it.

    Raises:
        LimitError: more operators than a model may have.
    """
    if not is_program(data):
        raise ModelError(f"not an ExecuTorch program: it should say 'ET12' at byte 4, it says {data[4:8]!r}")
    reader = Reader(data, _WHAT)
    root = reader.u32(0)
    if root < len(IDENTIFIER):
        raise ModelError(f"{_WHAT} is damaged: its first table is said to stand at byte {root}")
    reader.verify(root, _PROGRAM)
    reader = Reader(data, _WHAT)
    segments = len(_segments(reader, root))
    _below(segments, "segment", *(reader.number(entry, 1) for entry in reader.vector(root, _NAMED)))
    plans = reader.vector(root, _PLANS)
    if not plans:
        raise ModelError(f"{_WHAT} holds no method")
    for plan in plans:
        _check_plan(reader, plan)


def is_program(data: bytes) -> bool:
    """Whether ``data`` begins as an ExecuTorch program of the format of today."""
    return data[4:8] == _VERSIONED


def _check_plan(reader: Reader, plan: int) -> None:
    values = reader.vector(plan, _VALUES)
    for place in values:
        tensor = _tensor(reader, place)
        if tensor:
            reader.verify(tensor, _TENSOR_LAYOUT)
    for side in (_INPUTS, _OUTPUTS):
        _below(len(values), "value", *reader.numbers(plan, side))
    operators, delegates = len(reader.vector(plan, _OPERATORS)), len(reader.vector(plan, _DELEGATES))
    instructions = list(_instructions(reader, plan))
    limits.check("GRAPH_NODES", len(instructions), _WHAT)
    for kind, call in instructions:
        if kind in (_KERNEL_CALL, _DELEGATE_CALL):
            what, count = ("operator", operators) if kind == _KERNEL_CALL else ("delegate", delegates)
            _below(count, what, reader.number(call, 0))
            _below(len(values), "value", *reader.numbers(call, 1))


def _below(count: int, what: str, *numbers: int) -> None:
    for number in numbers:
        if not 0 <= number < count:
            raise ModelError(f"{_WHAT} is damaged: it refers to {what} {number} of {count}")


def _union(reader: Reader, table: int) -> tuple[int, int]:
    """Kind and place of the union that ``table`` is."""
    kind, at = reader.field(table, 0), reader.field(table, 1)
    return (reader.u8(kind), reader.target(at)) if kind and at else (0, 0)


def _tensor(reader: Reader, value: int) -> int:
    """The place of the tensor that a value of a plan is; 0 for any other."""
    kind, at = _union(reader, value)
    return at if kind == _TENSOR else 0


def _segments(reader: Reader, root: int) -> list[tuple[int, int]]:
    """Where each segment begins and ends.

    Raises:
        ModelError: one ends behind the file.
    """
    base, found = _base(reader.data), []
    for segment in reader.vector(root, _SEGMENTS):
        offset, size = (reader.u64(at) if at else 0 for at in (reader.field(segment, 0), reader.field(segment, 1)))
        end = base + offset + size
        if end > len(reader.data):
            raise ModelError(f"{_WHAT} is cut short: weights end at byte {end:,} of {len(reader.data):,}")
        found.append((end - size, end))
    if sum(end - start for start, end in found) > len(reader.data):
        raise ModelError(f"{_WHAT} is damaged: its segments overlap")
    return found


def _base(data: bytes) -> int:
    """Where segments begin."""
    return int(_HEADER.unpack_from(data)[5]) if _head(data) > 8 else 0


def _head(data: bytes) -> int:
    """Bytes before the program's tables: root and identifier, and the extended header where there is one."""
    if data[8:12] != _EXTENDED or len(data) < _HEADER.size:
        return 8
    return 8 + int(_HEADER.unpack_from(data)[3])


# ---------------------------------------------------------------- the card


def metadata(data: bytes) -> dict[str, bytes]:
    """Name -> bytes of the program's named data, of a file that :func:`check` has seen."""
    reader = Reader(data, _WHAT)
    root = reader.u32(0)
    segments = _segments(reader, root)
    named = {reader.text(entry, 0): segments[reader.number(entry, 1)] for entry in reader.vector(root, _NAMED)}
    return {name: data[start:end] for name, (start, end) in named.items()}


def without_metadata(data: bytes) -> bytes:
    """The file as it was before :func:`with_metadata`; other files are returned as they are."""
    head = _head(data)
    if data[head : head + len(_MARKER)] != _MARKER or len(data) < head + _IN_FRONT.size:
        return data
    _, length, old_head, tail = _IN_FRONT.unpack_from(data, head)
    body, end = head + length, len(data) - tail
    if old_head not in (8, _HEADER.size) or not head + _IN_FRONT.size + old_head <= body <= end:
        raise ModelError(f"{_WHAT} is damaged: the card before it is said to end behind the file")
    start = head + _IN_FRONT.size
    return data[start : start + old_head] + data[body:end]


def with_metadata(data: bytes, key: str, payload: bytes) -> bytes:
    """The same program with ``payload`` as named data; replaces what an earlier call put in.

    Raises:
        ModelError: the file has named data of this name from elsewhere.
    """
    original = without_metadata(data)
    if key in metadata(original):
        raise ModelError(f"{_WHAT} already has named data {key!r} that edgekit did not write")
    reader = Reader(original, _WHAT)
    root, old_head = reader.u32(0), _head(original)
    size, base, _ = _HEADER.unpack_from(original)[4:] if old_head > 8 else (len(original), 0, 0)
    if old_head not in (8, _HEADER.size):
        raise UnsupportedError(f"{_WHAT} has a header of {old_head} bytes, of a version that edgekit does not know")
    reserved = _IN_FRONT.size + old_head
    number = len(reader.vector(root, _SEGMENTS))

    def prefix(offset: int) -> tuple[bytearray, int]:
        tables = {_SEGMENTS: [_data_segment(offset, len(payload))], _NAMED: [encode({0: key, 1: Number("I", number)})]}
        return new_root(reader, (old_head, _HEADER.size), reserved, _FIELDS, tables, _ALIGNMENT)

    shift = len(prefix(0)[0]) + _HEADER.size - old_head
    padding = -(len(original) + shift) % _ALIGNMENT
    place = len(original) + shift + padding
    base = base + shift if base else place
    made, root_at = prefix(place - base)
    _IN_FRONT.pack_into(made, 0, _MARKER, len(made), old_head, padding + len(payload))
    made[_IN_FRONT.size : reserved] = original[:old_head]
    header = _HEADER.pack(
        struct.pack("<I", root_at), _VERSIONED, _EXTENDED, _HEADER.size - 8, size + shift, base,
        place + len(payload) - base,
    )  # fmt: skip
    return header + bytes(made) + original[old_head:] + bytes(padding) + payload


def _data_segment(offset: int, size: int) -> bytes:
    """A flatbuffer of one DataSegment, whose numbers have 64 bits."""
    return struct.pack("<IxxxxHHHHiiQQ", 16, 8, 24, 8, 16, 8, 0, offset, size)


# ---------------------------------------------------------------- what it holds


def method(data: bytes) -> str:
    """The name of the method that is run: ``forward``, or the only one.

    Raises:
        UnsupportedError: there are several, none of which is called so.
    """
    reader = Reader(data, _WHAT)
    return _names(reader)[_chosen(reader)]


def _names(reader: Reader) -> list[str]:
    return [reader.text(plan, 0) for plan in reader.vector(reader.u32(0), _PLANS)]


def _chosen(reader: Reader) -> int:
    names = _names(reader)
    if "forward" in names:
        return names.index("forward")
    if len(names) == 1:
        return 0
    raise UnsupportedError(
        f"{_WHAT} has the methods {', '.join(names)}; edgekit runs one that is called forward, or the only one"
    )


def _plan(reader: Reader) -> int:
    return reader.vector(reader.u32(0), _PLANS)[_chosen(reader)]


def signature(data: bytes) -> Signature:
    """Inputs and outputs of :func:`method`, which a program does not name: ``input_0``, ``output_0``; every axis of a
    tensor whose shape may vary is free, since the file does not say which of them do.

    Raises:
        UnsupportedError: one is not a tensor, or of a type that numpy has not.
    """
    reader = Reader(data, _WHAT)
    plan = _plan(reader)
    sides = (("input", reader.numbers(plan, _INPUTS)), ("output", reader.numbers(plan, _OUTPUTS)))
    found = []
    for side, numbers in sides:
        tensors = [_tensor(reader, reader.vector(plan, _VALUES)[number]) for number in numbers]
        found.append(tuple(_spec(reader, f"{side}_{k}", tensor) for k, tensor in enumerate(tensors)))
    return Signature(*found)


def _spec(reader: Reader, name: str, tensor: int) -> TensorSpec:
    if not tensor:
        raise UnsupportedError(f"{name} of {_WHAT} is a plain number or a list; edgekit runs tensors")
    kind = _scalar_type(reader, tensor)
    if kind not in _DTYPES:
        raise UnsupportedError(f"{name} of {_WHAT} has the type {kind} of ScalarType, which numpy has not")
    dynamism = reader.field(tensor, 8)
    free = dynamism and reader.u8(dynamism)
    sizes: tuple[Dim, ...] = reader.numbers(tensor, 2)
    return TensorSpec(name, _DTYPES[kind], tuple(f"{name}_{k}" if free else size for k, size in enumerate(sizes)))


def _scalar_type(reader: Reader, tensor: int) -> int:
    at = reader.field(tensor, 0)
    return reader.u8(at) if at else 0


def largest(data: bytes) -> tuple[tuple[int, ...], ...]:
    """The shapes of the inputs of :func:`method`; of those that may vary the largest that memory was planned for."""
    reader = Reader(data, _WHAT)
    plan = _plan(reader)
    values = reader.vector(plan, _VALUES)
    tensors = [_tensor(reader, values[number]) for number in reader.numbers(plan, _INPUTS)]
    return tuple(reader.numbers(tensor, 2) if tensor else () for tensor in tensors)


def calls(data: bytes) -> Iterator[Call]:
    """The operators of :func:`method` in order, those inside XNNPACK's parts too.

    Parts of another backend are one each, called by its name: what is in them is known to it alone.
    """
    reader = Reader(data, _WHAT)
    root, plan = reader.u32(0), _plan(reader)
    operators = [
        ".".join(part for part in (reader.text(one, 0), reader.text(one, 1)) if part)
        for one in reader.vector(plan, _OPERATORS)
    ]
    delegates, values, parts = _delegates(reader, root, plan), reader.vector(plan, _VALUES), 0
    for kind, call in _instructions(reader, plan):
        if kind == _KERNEL_CALL:
            tensors = [_tensor(reader, values[number]) for number in reader.numbers(call, 1)]
            real = any(_scalar_type(reader, tensor) in _REAL for tensor in tensors if tensor)
            yield Call(operators[reader.number(call, 0)], real=real)
        elif kind == _DELEGATE_CALL:
            backend, part = delegates[reader.number(call, 0)]
            if part is None:
                yield Call(backend, backend)
                continue
            parts += len(part.nodes)
            limits.check("GRAPH_NODES", parts, _WHAT)
            for node in part.nodes:
                yield Call(node.kind, XNNPACK, node.reads_integers, not (node.reads_integers and node.gives_integers))


def writes_buffers(data: bytes) -> bool:
    """Whether :func:`method` writes buffers of its own, which outlive a call: by operators that work in place
    (``aten::copy_``), as ExecuTorch ends a method with that changes some."""
    return any(call.name.partition(".")[0].endswith("_") for call in calls(data) if not call.by)


def _instructions(reader: Reader, plan: int) -> Iterator[tuple[int, int]]:
    """Kind and place of each call of a method."""
    for chain in reader.vector(plan, _CHAINS):
        for one in reader.vector(chain, 2):
            yield _union(reader, one)


def xnnpack_weight_bytes(data: bytes) -> tuple[int, int]:
    """Bytes of the constants of XNNPACK's parts of :func:`method`: in integers of 8 bits or fewer, and in all."""
    reader = Reader(data, _WHAT)
    root, plan = reader.u32(0), _plan(reader)
    parts = {id(part): part.weight_bytes() for _, part in _delegates(reader, root, plan) if part is not None}
    return sum(integers for integers, _ in parts.values()), sum(whole for _, whole in parts.values())


def _delegates(reader: Reader, root: int, plan: int) -> list[tuple[str, Part | None]]:
    """The backend of each delegate of a method, and what it holds where that is XNNPACK; each part is read once."""
    found: list[tuple[str, Part | None]] = []
    known: dict[tuple[bool, int], Part] = {}
    segments = _segments(reader, root)
    for delegate in reader.vector(plan, _DELEGATES):
        backend = reader.text(delegate, 0)
        if backend != XNNPACK:
            found.append((backend, None))
            continue
        at = reader.field(delegate, 1)
        reference = reader.target(at) if at else 0
        location = reader.field(reference, 0) if reference else 0
        key = (bool(location and reader.u8(location)), reader.number(reference, 1) if reference else 0)
        if key not in known:
            known[key] = Part(_blob(reader, root, segments, *key))
        found.append((backend, known[key]))
    return found


def _blob(reader: Reader, root: int, segments: list[tuple[int, int]], apart: bool, number: int) -> bytes:
    """What a backend is given of the file: segment ``number`` where it stands ``apart``, else a part of the program."""
    if apart:
        _below(len(segments), "segment", number)
        return reader.data[slice(*segments[number])]
    inline = reader.vector(root, _INLINE)
    _below(len(inline), "delegate's part", number)
    at = reader.field(inline[number], 0)
    return reader.blob(at) if at else b""
