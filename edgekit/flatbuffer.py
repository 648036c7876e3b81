"""Reads of flatbuffer bytes that stay inside the file and take time with its length, whatever it says.

Source: the flatbuffers binary format (tables with a vtable, unsigned 32-bit offsets that point forward). Several
offsets may point to one table, so that a small file can stand for any number of parts: what is read in all is bounded.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

from edgekit.errors import ModelError

Layout = Mapping[int, Any]
"""Field -> bytes of an element of its vector (a text has 1), a layout for a table, a list of one for many tables."""
_SHARING: Final = 8
"""How many times the file's own length is read at most: converters share texts and shapes, not whole graphs."""


class Reader:
    """Little-endian numbers and references of ``data``; every method raises ModelError where they leave it.

    ``what``: what messages call the file.
    """

    def __init__(self, data: bytes, what: str = "the TFLite file") -> None:
        self.data, self.what = data, what
        self._left = _SHARING * len(data) + 4096
        self._tables = len(data) // 8 + 64  # one takes 8 bytes at least, with the offset that points to it

    def u8(self, at: int) -> int:
        return int(self._unpack("<B", at, 1))

    def u16(self, at: int) -> int:
        return int(self._unpack("<H", at, 2))

    def u32(self, at: int) -> int:
        return int(self._unpack("<I", at, 4))

    def u64(self, at: int) -> int:
        return int(self._unpack("<Q", at, 8))

    def _unpack(self, form: str, at: int, size: int) -> int:
        if at < 0 or at + size > len(self.data):
            raise ModelError(f"{self.what} is cut short: byte {at:,} is needed, the file has {len(self.data):,}")
        return int(struct.unpack_from(form, self.data, at)[0])

    def field(self, table: int, index: int) -> int:
        """Absolute place of a field's value in ``table``, or 0 when the field is absent."""
        vtable = table - int(struct.unpack("<i", struct.pack("<I", self.u32(table)))[0])
        size = self.u16(vtable)
        slot = 4 + 2 * index
        if slot + 2 > size:
            return 0
        offset = self.u16(vtable + slot)
        return table + offset if offset else 0

    def target(self, at: int) -> int:
        return at + self.u32(at)

    def span(self, at: int, itemsize: int) -> tuple[int, int]:
        """Start and count of the elements of a vector whose reference stands at ``at``."""
        start = self.target(at)
        count = self.u32(start)
        if start + 4 + itemsize * count > len(self.data):
            raise ModelError(f"{self.what} is cut short: a list of {count:,} parts ends behind the file")
        self._left -= itemsize * count
        if self._left < 0:
            raise ModelError(f"{self.what} refers to the same parts more than {_SHARING} times over")
        return start + 4, count

    def vector(self, table: int, index: int) -> list[int]:
        """Absolute places of the tables in a vector field (empty when absent)."""
        at = self.field(table, index)
        if not at:
            return []
        start, count = self.span(at, 4)
        return [self.target(start + 4 * k) for k in range(count)]

    def blob(self, at: int) -> bytes:
        """A byte vector or string whose reference stands at ``at``."""
        start, count = self.span(at, 1)
        return self.data[start : start + count]

    def numbers(self, table: int, index: int) -> tuple[int, ...]:
        """A vector of signed 32-bit numbers (empty when absent)."""
        at = self.field(table, index)
        if not at:
            return ()
        start, count = self.span(at, 4)
        return struct.unpack_from(f"<{count}i", self.data, start)

    def text(self, table: int, index: int) -> str:
        """A string field (empty when absent)."""
        at = self.field(table, index)
        return self.blob(at).decode("utf-8", "replace") if at else ""

    def number(self, table: int, index: int) -> int:
        """A field of 32 bits (0 when absent)."""
        at = self.field(table, index)
        return self.u32(at) if at else 0

    def verify(self, table: int, layout: Layout) -> None:
        """Raises ModelError unless ``table`` and all that ``layout`` says is below it lie inside the file."""
        self._tables -= 1
        if self._tables < 0:
            raise ModelError(f"{self.what} refers to the same tables again and again")
        for index, kind in layout.items():
            at = self.field(table, index)
            if not at:
                continue
            if isinstance(kind, int):
                self.span(at, kind)
            elif isinstance(kind, list):
                for inner in self.vector(table, index):
                    self.verify(inner, kind[0])
            else:
                self.verify(self.target(at), kind)


def new_root(
    reader: Reader, head: tuple[int, int], reserved: int, fields: int, added: Mapping[int, Sequence[bytes]], unit: int
) -> tuple[bytearray, int]:
    """What goes before everything behind the first ``head[0]`` bytes of a file: a root table that has all that the old
    one has, and ``added``: for a field, tables at the end of its vector, each as a flatbuffer of its own.

    Nothing else is rewritten: offsets point forward only, so all old parts move as one block.

    Args:
        head: bytes before the root, of the old file and of the new one.
        reserved: bytes in front of it for the caller.
        fields: of the root table; field 0 is a number of 32 bits, all others are references.
        unit: the block moves by a multiple of so many bytes, and so keeps any alignment up to that.

    Returns:
        The bytes, and the place of the root table in the new file.
    """
    root, (old_head, new_head) = reader.u32(0), head
    places = [reader.field(root, index) for index in range(fields)]
    vectors = {index: reader.vector(root, index) for index in added}
    vtable_at = -(-reserved // 4) * 4
    vtable = 4 + 2 * fields
    table_at = vtable_at + -(-vtable // 4) * 4
    end = table_at + 4 + 4 * fields
    vector_at = {}
    for index, tables in added.items():
        vector_at[index] = end
        end += 4 + 4 * (len(vectors[index]) + len(tables))
    content_at: dict[int, list[int]] = {}
    for index, tables in added.items():
        content_at[index] = []
        for table in tables:
            end = -(-(end + new_head) // 16) * 16 - new_head
            content_at[index].append(end)
            end += len(table)
    end += -(end + new_head - old_head) % unit
    out = bytearray(end)
    shift = end + new_head - old_head

    def moved(place: int) -> int:
        return place + shift - new_head  # an old absolute place, counted from the start of what is made here

    slots = [4 + 4 * index if place or index in added else 0 for index, place in enumerate(places)]
    struct.pack_into(f"<{2 + fields}H", out, vtable_at, vtable, 4 + 4 * fields, *slots)
    struct.pack_into("<i", out, table_at, table_at - vtable_at)
    for index, place in enumerate(places):
        here = table_at + 4 + 4 * index
        if index in added:
            struct.pack_into("<I", out, here, vector_at[index] - here)
        elif place:
            struct.pack_into("<I", out, here, moved(reader.target(place)) - here if index else reader.u32(place))
    for index, tables in added.items():
        targets = [moved(old) for old in vectors[index]]
        targets += [
            place + struct.unpack_from("<I", table)[0] for place, table in zip(content_at[index], tables, strict=True)
        ]
        start = vector_at[index]
        struct.pack_into("<I", out, start, len(targets))
        for k, target in enumerate(targets):
            struct.pack_into("<I", out, start + 4 + 4 * k, target - (start + 4 + 4 * k))
        for place, table in zip(content_at[index], tables, strict=True):
            out[place : place + len(table)] = table
    return out, new_head + table_at
