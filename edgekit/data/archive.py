"""What a ``.zip``, ``.tar`` or ``.tar.gz`` holds: files and folders, in bounded streams. Links are not followed.

Python's modules believe what an archive says of itself: sizes below zero, names outside, headers of any length.
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, Final, Self

from edgekit.errors import DataError
from edgekit.inputs import open_regular
from edgekit.limits import check, check_unpacked
from edgekit.reading import reading
from edgekit.unpacking import Bounded, check_zip

SUFFIXES = (".tar.gz", ".tgz", ".tar", ".zip")
_LIMIT: Final = "ARCHIVE_BYTES"
_GZIP, _ZIP, _BLOCK = b"\x1f\x8b", b"PK", 1 << 16
_LONGEST_NAME = 255
_DEEPEST = 50
"""Folders around a member; each is made and removed again by itself."""
_LONGEST_HEADER = 1 << 20
"""Bytes of a name or of a list of attributes in a tar; Python reads each at once."""
_HEADERS = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Member:
    """A file or a folder of ``archive``; ``name`` is relative, below the place it is unpacked to.

    The content of a file can be read until the next member is asked for.
    """

    archive: Path
    name: str
    stream: IO[bytes] | None = None

    @property
    def is_folder(self) -> bool:
        return self.stream is None

    def chunks(self) -> Iterator[bytes]:
        """The content, piece by piece; raises DataError and LimitError as :func:`members`."""
        with _reading(self.archive):
            while self.stream is not None and (data := self.stream.read(_BLOCK)):
                yield data

    def read(self) -> bytes:
        """The whole content."""
        return b"".join(self.chunks())


def is_archive(path: Path) -> bool:
    """Whether the name ends like an archive."""
    return path.name.lower().endswith(SUFFIXES)


def members(archive: Path, wanted: Callable[[str], bool] = lambda name: True) -> Iterator[Member]:
    """The members whose names are ``wanted``, in the order of the archive; others may be of any kind.

    Raises:
        DataError: it cannot be read, a file is in it twice, or a member is a link, a device, packed by another method
            than deflate, or would land outside.
        LimitError: too many members, or too large ones.
    """
    seen: set[str] = set()
    with open_regular(archive, DataError, "an archive (.tar.gz, .tar or .zip)") as file, _reading(archive):
        start, packed = file.read(2), file.seek(0, 2)
        file.seek(0)
        plain = gzip.GzipFile(fileobj=file) if start == _GZIP else file
        found = _of_zip(archive, file, packed, wanted) if start == _ZIP else _of_tar(archive, plain, packed, wanted)
        for member in found:
            name = str(PurePosixPath(member.name))
            if not member.is_folder and name in seen:
                raise DataError(f"{archive}: {name!r} is in it twice; pack it anew")
            seen.add(name)
            yield member


def _reading(archive: Path) -> AbstractContextManager[None]:
    return reading(archive, DataError, "an archive", advice="copy or download it again")


def _of_zip(archive: Path, file: BinaryIO, packed: int, wanted: Callable[[str], bool]) -> Iterator[Member]:
    with zipfile.ZipFile(file) as opened:
        listed = [info for info in opened.infolist() if wanted(info.filename)]
        check_zip(listed, packed, _LIMIT, DataError, archive)
        for info in listed:
            name = _inside(archive, info.filename)
            if info.is_dir():
                yield Member(archive, name)
                continue
            if (info.external_attr >> 16) & 0o170000 == 0o120000:
                raise _linked(archive, name)
            with opened.open(info) as stream:
                yield Member(archive, name, stream)


class _Header(tarfile.TarInfo):
    """A header of a tar, refused before Python acts on it; Python itself takes a damaged one for the end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            found = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if not buf.strip(b"\0"):
                raise  # the end is a block of zeros, or nothing
            raise tarfile.ReadError(f"a header is damaged ({error})") from error
        if found.size < 0 or (found.type in _HEADERS and found.size > _LONGEST_HEADER):
            raise tarfile.ReadError(f"a header says {found.size:,} bytes")
        return found


def _of_tar(archive: Path, plain: Any, packed: int, wanted: Callable[[str], bool]) -> Iterator[Member]:
    stream = io.BufferedReader(Bounded(plain, packed, _LIMIT, archive), _BLOCK)
    count = size = 0
    # "r|" never goes back, whatever sizes the headers claim
    with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Header) as opened:
        while (info := opened.next()) is not None:
            opened.members.clear()  # type: ignore[attr-defined]  # else it remembers every one
            count += 1
            check("ARCHIVE_MEMBERS", count, archive)
            if not wanted(info.name):
                continue
            name = _inside(archive, info.name)
            if info.isdir():
                yield Member(archive, name)
                continue
            if info.issym() or info.islnk():
                raise _linked(archive, name)
            content = opened.extractfile(info) if info.isreg() else None
            if content is None:
                raise DataError(f"{archive}: {name!r} is neither a file nor a folder; leave it out")
            size += info.size
            check_unpacked(_LIMIT, size, packed, archive)  # the holes of a sparse file are not in the stream
            yield Member(archive, name, content)
    while stream.read(_BLOCK):  # the checksum of gzip stands at the end
        pass


def _inside(archive: Path, name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise DataError(f"{archive}: {name!r} would land outside the folder it is unpacked to; use relative names")
    if len(path.parts) > _DEEPEST:
        raise DataError(f"{archive}: {name[:60]!r} … lies in more than {_DEEPEST} folders; pack it with fewer")
    if "\0" in name or any(len(os.fsencode(part)) > _LONGEST_NAME for part in path.parts):
        raise DataError(f"{archive}: {name[:60]!r} … is not a name that a file can have; use other names")
    return name


def _linked(archive: Path, name: str) -> DataError:
    return DataError(
        f"{archive}: {name!r} is a link, which is not unpacked; pack the files themselves: "
        "tar --dereference --hard-dereference -czf …"
    )
