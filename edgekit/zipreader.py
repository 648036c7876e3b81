"""Zip archives read in the only way that every reader agrees on.

A zip archive says where things are in several places, and readers differ in which they believe. An archive is opened
here only where all of them say the same: one central directory right before the end record, every byte belongs to a
member, each member's own header agrees with the directory, no two share a name. Source: PKWARE's APPNOTE.TXT 6.3.
"""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Final

from edgekit.errors import InputError
from edgekit.limits import check, check_unpacked

_END, _END64, _LOCATOR = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_CENTRAL, _LOCAL, _DESCRIPTOR = b"PK\x01\x02", b"PK\x03\x04", b"PK\x07\x08"
_STORED, _DEFLATED = 0, 8
_SIZES_BEHIND, _UTF8, _LEVEL = 0x0008, 0x0800, 0x0006
"""Bits of a member's flags: its sizes follow its bytes, its name is UTF-8, how hard it was compressed."""
_ZIP64, _PADDING = 0x0001, 0x4246
"""Ids of extra fields: 64-bit sizes, and the padding that torch aligns its tensors with."""
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF
CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an archive: where its ``packed`` bytes start, and the ``size`` and CRC-32 of what they unpack to."""

    name: str
    start: int
    packed: int
    size: int
    crc: int
    deflated: bool


class Archive:
    """An open zip archive.

    Args:
        file: opened for reading; it stays the caller's.
        subject: what messages begin with.
        error: class of the errors of the caller's room.

    Attributes:
        members: by name, in the order in which they lie in the file.

    Raises:
        InputError: of the class ``error``: not a zip archive, cut short, or one that readers understand differently.
        LimitError: it unpacks to more than ``ARCHIVE_BYTES`` or, relative to its size, ``UNPACKED_RATIO``, or has more
            than ``ARCHIVE_MEMBERS``.
    """

    def __init__(self, file: BinaryIO, subject: object, error: type[InputError]) -> None:
        self._file, self._subject, self._error = file, subject, error
        self.members: Mapping[str, Member] = {member.name: member for member in self._layout()}

    def read(self, name: str) -> bytes:
        """The whole content of a member.

        Raises:
            InputError: no such member, or damaged.
        """
        return b"".join(self.chunks(name))

    def chunks(self, name: str) -> Iterator[bytes]:
        """The content of a member in pieces of at most a megabyte; damage is noticed at the end.

        Raises:
            InputError: as :meth:`read`.
        """
        if name not in self.members:
            raise self._refused(f"it has no member {name!r}")
        member = self.members[name]
        crc = made = 0
        for piece in self._inflated(member) if member.deflated else self._stored(member):
            crc, made = zlib.crc32(piece, crc), made + len(piece)
            yield piece
        if (crc, made) != (member.crc, member.size):
            raise self._refused(f"{name!r} is damaged: its checksum or size is not the one that the archive states")

    def _stored(self, member: Member) -> Iterator[bytes]:
        for done in range(0, member.packed, CHUNK):
            yield self._at(member.start + done, min(CHUNK, member.packed - done))

    def _inflated(self, member: Member) -> Iterator[bytes]:
        """Never makes more than a chunk beyond the stated size, whatever the bytes say."""
        unpacker, made = zlib.decompressobj(-zlib.MAX_WBITS), 0
        try:
            for raw in self._stored(member):
                while raw and made <= member.size:
                    piece = unpacker.decompress(raw, CHUNK)
                    raw, made = unpacker.unconsumed_tail, made + len(piece)
                    yield piece
            if not unpacker.eof or unpacker.unused_data:
                raise self._refused(f"the compressed bytes of {member.name!r} do not end where the archive says")
        except zlib.error as error:
            raise self._refused(f"the compressed bytes of {member.name!r} are damaged ({error})") from error

    def _refused(self, reason: str) -> InputError:
        return self._error(f"{self._subject}: not an archive that is safe to open: {reason}")

    def _at(self, place: int, count: int) -> bytes:
        self._file.seek(place)
        data = self._file.read(count)
        if len(data) != count:
            raise self._refused("it is cut short")
        return data

    def _layout(self) -> list[Member]:
        """The members in the order of their places, every byte of the file accounted for."""
        count, start, end = self._directory()
        check("ARCHIVE_MEMBERS", count, self._subject)
        entries = sorted(self._entries(count, start, end), key=lambda entry: entry.place)
        names = [entry.name for entry in entries]
        if len(set(names)) != len(names):
            raise self._refused(f"two members are called {Counter(names).most_common(1)[0][0]!r}")
        check_unpacked("ARCHIVE_BYTES", sum(entry.size for entry in entries), end, self._subject)
        ends = [entry.place for entry in entries[1:]] + [start]
        if (entries[0].place if entries else start) != 0:
            raise self._refused("bytes stand before its first member")
        return [self._member(entry, stop) for entry, stop in zip(entries, ends, strict=True)]

    def _directory(self) -> tuple[int, int, int]:
        """How many members the archive states, where its directory starts, and where it ends."""
        length = self._file.seek(0, 2)
        if length < 22:
            raise self._refused("it is not a zip archive, or cut short")
        end = length - 22
        sign, disk, first, here, count, size, start, comment = struct.unpack("<4s4H2IH", self._at(end, 22))
        if sign != _END or comment:
            raise self._refused("it does not end with an end record; it is cut short, no zip archive, or has a comment")
        if disk or first or here != count:
            raise self._refused("it is a part of several")
        if end >= 20 and self._at(end - 20, 4) == _LOCATOR:
            end, (count, size, start) = self._directory64(end - 20, (count, size, start))
        if start + size != end:
            raise self._refused("its directory does not end right before its end record")
        check("DOCUMENT_BYTES", size, f"{self._subject}: its directory")
        return count, start, end

    def _directory64(self, locator: int, stated: tuple[int, int, int]) -> tuple[int, tuple[int, int, int]]:
        """Place of the 64-bit end record and its count, size and start; those of the short record must agree."""
        _, disk, place, disks = struct.unpack("<4sIQI", self._at(locator, 20))
        if disk or disks != 1 or place + 56 != locator:
            raise self._refused("its 64-bit end record does not stand right before the locator")
        sign, rest, _, _, disk, first, here, *wide = struct.unpack("<4sQ2H2I4Q", self._at(place, 56))
        if sign != _END64 or rest != 44 or disk or first or here != wide[0]:
            raise self._refused("its 64-bit end record is damaged")
        for short, long, full in zip(stated, wide, (_FULL16, _FULL32, _FULL32), strict=True):
            if short not in (long, full):
                raise self._refused("its two end records disagree")
        return place, (wide[0], wide[1], wide[2])

    def _entries(self, count: int, start: int, end: int) -> Iterator[_Entry]:
        rows, at = self._at(start, end - start), 0
        for _ in range(count):
            sign, *numbers = struct.unpack("<4s6H3I5H2I", rows[at : at + 46].ljust(46, b"\0"))
            _, _, flags, method, _, _, crc, packed, size, name, extra, comment, disk, _, _, place = numbers
            if sign != _CENTRAL or comment or disk or at + 46 + name + extra > len(rows):
                raise self._refused("its directory is damaged, or a member has a comment")
            text = self._name(rows[at + 46 : at + 46 + name], flags)
            wide = self._wide(rows[at + 46 + name : at + 46 + name + extra], text)
            size, packed, place = self._whole((size, packed, place), wide, text)
            if flags & ~(_SIZES_BEHIND | _UTF8 | _LEVEL) or method not in (_STORED, _DEFLATED):
                raise self._refused(f"{text!r} is encrypted, or packed by a method other than stored and deflated")
            if method == _STORED and packed != size:
                raise self._refused(f"{text!r} is stored, and has two sizes")
            yield _Entry(text, flags, method, crc, packed, size, place)
            at += 46 + name + extra
        if at != len(rows):
            raise self._refused("its directory has more than the members it states")

    def _name(self, raw: bytes, flags: int) -> str:
        try:
            name = raw.decode("utf-8" if flags & _UTF8 else "ascii")
        except UnicodeDecodeError as error:
            raise self._refused(f"a member has a name that is not text: {raw[:60]!r}") from error
        parts = name.split("/")
        if not name.isprintable() or "\\" in name or any(part in ("", ".", "..") for part in parts):
            raise self._refused(f"{name[:60]!r} is not a plain name of a file in it")
        return name

    def _wide(self, extra: bytes, name: str) -> tuple[int, ...]:
        """The 64-bit values of the extra fields, of which only known kinds may be there."""
        fields: dict[int, bytes] = {}
        while extra:
            kind, size = struct.unpack("<2H", extra[:4]) if len(extra) >= 4 else (0, 0)
            if kind not in (_ZIP64, _PADDING) or kind in fields or len(extra) < 4 + size:
                raise self._refused(f"{name!r} has an extra field that readers understand differently")
            fields[kind], extra = extra[4 : 4 + size], extra[4 + size :]
        wide = fields.get(_ZIP64, b"")
        if len(wide) % 8:
            raise self._refused(f"{name!r} has a damaged extra field")
        return struct.unpack(f"<{len(wide) // 8}Q", wide)

    def _whole(self, stated: tuple[int, ...], wide: tuple[int, ...], name: str) -> tuple[int, ...]:
        """``stated`` with the 64-bit values in place of those that 32 bits do not hold."""
        if len(wide) != stated.count(_FULL32):
            raise self._refused(f"{name!r} has sizes of 32 and of 64 bits that disagree")
        values = iter(wide)
        return tuple(next(values) if value == _FULL32 else value for value in stated)

    def _member(self, entry: _Entry, stop: int) -> Member:
        """The member of a directory entry, whose own header must agree and whose bytes must fill all up to ``stop``."""
        head = self._at(entry.place, min(30, max(stop - entry.place, 0)))
        header = struct.unpack("<4s5H3I2H", head.ljust(30, b"\0"))
        sign, _, flags, method, _, _, crc, packed, size, name, extra = header
        start = entry.place + 30 + name + extra
        if sign != _LOCAL or start + entry.packed > stop:
            raise self._refused(f"{entry.name!r} overlaps with what follows it, or is not where the directory says")
        behind = bool(flags & _SIZES_BEHIND)
        names = self._at(entry.place + 30, name + extra)
        text, wide = self._name(names[:name], flags), self._wide(names[name:], entry.name)
        if behind and (crc, packed, size) == (0, 0, 0):  # torch writes what it does not know yet as 0
            agrees = {0, entry.size, entry.packed, entry.place}.issuperset(wide)
        else:
            agrees = (crc, *self._whole((size, packed), wide, text)) == (entry.crc, entry.size, entry.packed)
        if (text, flags, method) != (entry.name, entry.flags, entry.method) or not agrees:
            raise self._refused(f"{entry.name!r} has a header that disagrees with the directory")
        rest = self._at(start + entry.packed, min(stop - start - entry.packed, 25))
        sizes = (entry.crc, entry.packed, entry.size)
        if rest not in ([_DESCRIPTOR + struct.pack(form, *sizes) for form in _forms(sizes)] if behind else [b""]):
            raise self._refused(f"bytes that belong to no member follow {entry.name!r}, or its sizes do")
        return Member(entry.name, start, entry.packed, entry.size, entry.crc, entry.method == _DEFLATED)


@dataclass(frozen=True, slots=True)
class _Entry:
    """A member as the central directory has it; ``place`` is that of its own header."""

    name: str
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    place: int


def _forms(sizes: tuple[int, int, int]) -> list[str]:
    """How checksum and sizes may stand behind a member."""
    return ["<IQQ"] if max(sizes) > _FULL32 else ["<III", "<IQQ"]
