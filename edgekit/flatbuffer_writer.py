"""Writes small flatbuffers of nested tables, without a schema package: the fields of a table by the schema's numbers.

Source: the flatbuffers binary format. What is referred to stands behind what refers to it, since offsets are unsigned.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

Table: TypeAlias = "Mapping[int, Field | None]"
"""Number of a field in the schema -> its value; fields of None are left out."""


class Number(NamedTuple):
    """A scalar of the type that :mod:`struct` calls ``form``; ``B``, ``?``, ``i``, ``I`` and ``f`` are used here."""

    form: str
    value: float


class Numbers(NamedTuple):
    """A vector of scalars."""

    form: str
    values: Sequence[float]


Field: TypeAlias = "Number | Numbers | str | bytes | Sequence[str] | Sequence[Table] | Table"
_WORD: Final = 4
_BYTES_ALIGNMENT: Final = 16
"""Of a vector of bytes, which may be a flatbuffer itself."""


def encode(root: Table, identifier: bytes = bytes(4)) -> bytes:
    """The flatbuffer of ``root`` with the four bytes of ``identifier``, where it has one."""
    out = bytearray(struct.pack("<I4s", 0, identifier))
    struct.pack_into("<I", out, 0, _table(out, root))
    return bytes(out)


def _align(out: bytearray, to: int, before: int = 0) -> int:
    """Pads ``out`` until what follows ``before`` bytes of a header is aligned; the place of that header."""
    out.extend(bytes(-(len(out) + before) % to))
    return len(out)


def _table(out: bytearray, fields: Table) -> int:
    """Appends a table and all it refers to; its place."""
    present = {number: value for number, value in fields.items() if value is not None}
    slots = max(present, default=-1) + 1
    vtable = _align(out, _WORD)
    size = _WORD * (1 + len(present))
    places = {number: _WORD * (1 + k) for k, number in enumerate(sorted(present))}
    out.extend(struct.pack(f"<HH{slots}H", 4 + 2 * slots, size, *(places.get(k, 0) for k in range(slots))))
    table = _align(out, _WORD)
    out.extend(struct.pack("<i", table - vtable) + bytes(size - _WORD))
    for number, value in present.items():
        here = table + places[number]
        if isinstance(value, Number):
            struct.pack_into(f"<{value.form}", out, here, value.value)
        else:
            struct.pack_into("<I", out, here, _referred(out, value) - here)
    return table


def _referred(out: bytearray, value: Any) -> int:
    """Appends a text, a vector or a table; its place."""
    if isinstance(value, Mapping):
        return _table(out, value)
    if isinstance(value, str):
        text = value.encode()
        at = _align(out, _WORD)
        out.extend(struct.pack("<I", len(text)) + text + b"\0")
        return at
    if isinstance(value, bytes):
        at = _align(out, _BYTES_ALIGNMENT, _WORD)
        out.extend(struct.pack("<I", len(value)) + value)
        return at
    if isinstance(value, Numbers):
        at = _align(out, _WORD)
        out.extend(struct.pack(f"<I{len(value.values)}{value.form}", len(value.values), *value.values))
        return at
    at = _align(out, _WORD)
    out.extend(struct.pack("<I", len(value)) + bytes(_WORD * len(value)))
    for k, item in enumerate(value):
        here = at + _WORD * (1 + k)
        struct.pack_into("<I", out, here, _referred(out, item) - here)
    return at
