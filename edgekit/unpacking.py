"""Unpacking what a stranger packed: in bounded streams, so that a small file cannot become a large one in memory."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import IO, Any, Final
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipInfo

from edgekit.errors import InputError
from edgekit.limits import check, check_unpacked

_CHUNK: Final = 1 << 20
_METHODS: Final = (ZIP_STORED, ZIP_DEFLATED)
_ENCRYPTED: Final = 1


class Bounded(io.RawIOBase):
    """A stream that is unpacked as it is read, and refuses to become larger than ``limit`` allows.

    Args:
        stream: gives the unpacked bytes.
        packed: bytes of the file they come from.
        limit: name of the limit, see :mod:`edgekit.limits`.
        subject: of the messages.
    """

    _PATIENCE: Final = 1000
    """Reads behind the end, of which a library that waits for more bytes would make any number."""

    def __init__(self, stream: IO[bytes], packed: int, limit: str, subject: object) -> None:
        self._stream, self._packed, self._limit, self._subject = stream, packed, limit, subject
        self._count = self._behind = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Raises LimitError, EOFError, and what the stream raises."""
        data = self._stream.read(min(len(buffer), _CHUNK))
        self._count += len(data)
        self._behind += not data
        if self._behind > self._PATIENCE:
            raise EOFError("it ends before its parts do")
        check_unpacked(self._limit, self._count, self._packed, self._subject)
        buffer[: len(data)] = data
        return len(data)


def check_zip(members: Sequence[ZipInfo], packed: int, limit: str, error: type[InputError], subject: object) -> None:
    """Checks what a zip file says of its members before one of them is read.

    Raises:
        InputError: of the class ``error``: a password, or another compression than deflate.
        LimitError: too many members, or too large ones.
    """
    check("ARCHIVE_MEMBERS", len(members), subject)
    check_unpacked(limit, sum(member.file_size for member in members), packed, subject)
    for member in members:
        if member.flag_bits & _ENCRYPTED or member.compress_type not in _METHODS:
            how = "with a password" if member.flag_bits & _ENCRYPTED else f"by the method {member.compress_type}"
            raise error(f"{subject}: {member.filename!r} is packed {how}; stored and deflated members are read")
