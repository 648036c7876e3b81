"""Reads of flatbuffer bytes that stay inside the file and take time with its length, whatever it says.

Source: the flatbuffers binary format (tables with a vtable, unsigned 32-bit offsets that point forward). Several
offsets may point to one table, so that a small file can stand for any number of parts: what is read in all is bounded.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, Final

from edgekit.errors import ModelError

Layout = Mapping[int, Any]
"""Field -> bytes of an element of its vector (a text has 1), a layout for a table, a list of one for many tables."""
_SHARING: Final = 8
"""How many times the file's own length is read at most: converters share texts and shapes, not whole graphs."""


class Reader:
    """Little-endian numbers and references of ``data``; every method raises ModelError where they leave it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
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
            raise ModelError(f"the TFLite file is cut short: byte {at:,} is needed, the file has {len(self.data):,}")
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
            raise ModelError(f"the TFLite file is cut short: a list of {count:,} parts ends behind the file")
        self._left -= itemsize * count
        if self._left < 0:
            raise ModelError(f"the TFLite file refers to the same parts more than {_SHARING} times over")
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

    def verify(self, table: int, layout: Layout) -> None:
        """Raises ModelError unless ``table`` and all that ``layout`` says is below it lie inside the file."""
        self._tables -= 1
        if self._tables < 0:
            raise ModelError("the TFLite file refers to the same tables again and again")
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
