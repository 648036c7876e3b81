"""Mutations of zip, tar and gzip files for scripts/fuzz: members, headers, directories, links and bombs."""

from __future__ import annotations

import bz2
import functools
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from fuzz_bytes import EDGES, MOST_BYTES, Mutator, mutate_bytes

BOMB_BYTES = 3 << 29
"""What a bomb unpacks to, 1.5 GiB: half as much again as an input may cost."""
NAMES = (
    b"../outside", b"/outside", b"..\\outside", b"a/../../outside", b"./x", b"", b"/", b"C:\\outside", b"x" * 300,
    b"a/" * 600 + b"x", b"\x1b[31m.png", b"a\nb.png", b"a\0b.png", b"\xff\xfe.png", b" ", b".hidden/x.png",
    "é\u202e.png".encode(), b"dir/",
)  # fmt: skip
_PIECE = 1 << 26
_STORED, _DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
_LOCAL, _ENTRY, _END = struct.Struct("<4s5H3I2H"), struct.Struct("<4s6H3I5H2I"), struct.Struct("<4s4H2IH")
_LOCAL_FIELDS = ("version", "flags", "method", "time", "date", "crc", "packed", "size", "name", "extra")
_ENTRY_FIELDS = ("made", *_LOCAL_FIELDS, "note", "disk", "inner", "outer", "offset")
_END_FIELDS = ("disk", "first", "here", "all", "size", "offset", "note")
_WIDE = ("crc", "packed", "size", "outer", "offset")


# ---------------------------------------------------------------- zip


@dataclass(frozen=True)
class Member:
    """A file of a zip archive.

    Attributes:
        fields: what both its headers say in place of the truth, by name; ``own``: what its own header alone says.
        payload: its bytes in the archive, where they are not made of ``data``; ``fields`` then has size and checksum.
    """

    name: bytes
    data: bytes
    method: int = _STORED
    fields: Mapping[str, int] = field(default_factory=dict)
    own: Mapping[str, int] = field(default_factory=dict)
    payload: bytes | None = None

    @functools.cached_property
    def packed(self) -> bytes:
        if self.payload is not None:
            return self.payload
        if self.method == _DEFLATED:
            maker = zlib.compressobj(6, zlib.DEFLATED, -15)
            return maker.compress(self.data) + maker.flush()
        return self.data

    def header(self) -> bytes:
        """Its own header and its bytes."""
        return (
            _LOCAL.pack(b"PK\3\4", *_numbers(_LOCAL_FIELDS, self._truth() | dict(self.own))) + self.name + self.packed
        )

    def entry(self, offset: int) -> bytes:
        """Its entry in the central directory."""
        values = {"made": 3 << 8, "note": 0, "disk": 0, "inner": 0, "outer": 0o644 << 16, "offset": offset}
        return _ENTRY.pack(b"PK\1\2", *_numbers(_ENTRY_FIELDS, values | self._truth())) + self.name

    def _truth(self) -> dict[str, int]:
        truth = {
            "version": 20, "flags": 0, "method": self.method, "time": 0, "date": 33, "crc": zlib.crc32(self.data),
            "packed": len(self.packed), "size": len(self.data), "name": len(self.name), "extra": 0,
        }  # fmt: skip
        return truth | dict(self.fields)


def _numbers(names: Sequence[str], values: Mapping[str, int]) -> list[int]:
    return [values[name] % (1 << 32 if name in _WIDE else 1 << 16) for name in names]


def write_zip(
    members: Sequence[Member],
    *,
    again: Sequence[int] = (),
    around: tuple[bytes, bytes, bytes] = (b"", b"", b""),
    comment: bytes = b"",
    end: Mapping[str, int] | None = None,
) -> bytes:
    """A zip archive.

    Args:
        again: members whose entries stand in the directory once more.
        around: bytes before everything, behind each member, and behind everything.
        end: what the end record says in place of the truth.
    """
    body, entries = around[0], []
    for member in members:
        entries.append(member.entry(len(body) - len(around[0])))
        body += member.header() + around[1]
    entries += [entries[index] for index in again if index < len(members)]
    directory = b"".join(entries)
    values = {"disk": 0, "first": 0, "here": len(entries), "all": len(entries), "size": len(directory)}
    values |= {"offset": len(body) - len(around[0]), "note": len(comment)} | dict(end or {})
    return body + directory + _END.pack(b"PK\5\6", *_numbers(_END_FIELDS, values)) + comment + around[2]


def two_directories(stated: Sequence[Member], nearest: Sequence[Member]) -> bytes:
    """An archive with two directories: readers that go by the offset in the end record see ``stated``, readers that
    look right before the end record (Python's zipfile) see ``nearest``. Both lists have the same names."""
    pad = sum(len(member.header()) for member in nearest)
    body, first = b"\0" * pad, []
    for member in stated:
        first.append(member.entry(len(body)))
        body += member.header()
    start, second = len(body), []
    body += b"".join(first)
    shift = len(b"".join(first)) + pad
    for member in nearest:
        second.append(member.entry(len(body) - shift))
        body += member.header()
    directory = b"".join(second)
    return body + directory + _END.pack(b"PK\5\6", 0, 0, len(second), len(second), len(directory), start, 0)


def read_zip(data: bytes) -> list[Member]:
    """The members of a zip file that is whole; none of another one."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            if sum(info.file_size for info in infos) > _PIECE:
                return []  # it is a bomb already
            return [Member(_encoded(i.filename), archive.read(i), _known(i.compress_type)) for i in infos]
    except Exception:  # zipfile's errors share no class; a damaged archive is changed as bytes
        return []


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _known(method: int) -> int:
    return method if method in (_STORED, _DEFLATED) else _DEFLATED


def mutate_zip(inner: Callable[[str], Mutator]) -> Mutator:
    """Changes of zip archives; ``inner`` gives the mutator of a member by its name."""

    def mutate(rng: Random, data: bytes) -> bytes:
        members = read_zip(data)
        if not members or rng.random() < 0.2:
            return mutate_bytes(rng, data)
        options: dict[str, Any] = {}
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            index = rng.randrange(len(members))
            one = members[index]
            action = rng.randrange(12)
            if action <= 3:
                members[index] = replace(one, data=inner(_text(one.name))(rng, one.data))
            elif action == 4:
                members.insert(index, replace(one, name=rng.choice((*NAMES, members[-1].name))))
            elif action == 5:
                members.append(replace(one, data=inner(_text(one.name))(rng, one.data)))
            elif action == 6 and len(members) > 1:
                del members[index]
            elif action == 7:
                members[index] = replace(one, fields={rng.choice(_LOCAL_FIELDS[:8]): rng.choice(EDGES)})
            elif action == 8:
                members[index] = replace(one, own={rng.choice(_LOCAL_FIELDS[:8]): rng.choice(EDGES)})
            elif action == 9:
                members[index] = replace(one, **_odd(rng))
            elif action == 10:
                options |= _framed(rng, len(members))
            else:
                members[index] = bomb(one.name, zeros_before=one.data if rng.random() < 0.5 else b"")
        if rng.random() < 0.05:
            return two_directories([replace(m, data=rng.randbytes(64)) for m in members], members)[:MOST_BYTES]
        return write_zip(members, **options)[:MOST_BYTES]

    return mutate


def _odd(rng: Random) -> dict[str, Any]:
    """What a member can be besides a file: a link, a folder, encrypted, packed by a method that is not there."""
    return rng.choice(
        (
            {"data": b"../../outside", "fields": {"outer": 0o120777 << 16}},
            {"data": b"/etc/passwd", "fields": {"outer": 0o120777 << 16}},
            {"fields": {"outer": 0o010644 << 16}},
            {"fields": {"outer": 0o040000 << 16}},
            {"fields": {"flags": 1}},
            {"fields": {"flags": 0x808}},
            {"fields": {"method": rng.choice((1, 9, 12, 14, 93, 95, 99))}},
        )
    )


def _framed(rng: Random, count: int) -> dict[str, Any]:
    """What can be wrong around the members."""
    noise = rng.randbytes(rng.randrange(1, 64))
    return rng.choice(
        (
            {"again": [rng.randrange(count)] * rng.choice((1, 100, 20_000))},
            {"around": (noise, b"", b"")},
            {"around": (b"", noise, b"")},
            {"around": (b"", b"", noise)},
            {"comment": noise},
            {"comment": b"PK\5\6" + b"\0" * 18},
            {"end": {rng.choice(_END_FIELDS): rng.choice(EDGES)}},
        )
    )


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")


def bomb(name: bytes, *, zeros_before: bytes = b"") -> Member:
    """A member that unpacks to :data:`BOMB_BYTES` of zeros, behind the beginning ``zeros_before`` of a real file."""
    piece, count, last = _deflated_zeros(), BOMB_BYTES // _PIECE, b"\x03\x00"
    maker = zlib.compressobj(6, zlib.DEFLATED, -15)
    payload = maker.compress(zeros_before) + maker.flush(zlib.Z_FULL_FLUSH) + piece * count + last
    size = len(zeros_before) + count * _PIECE  # the checksum is wrong: who looks at it has unpacked everything
    return Member(name, b"", _DEFLATED, {"size": size, "packed": len(payload)}, payload=payload)


@functools.lru_cache(maxsize=1)
def _deflated_zeros() -> bytes:
    """Zeros in blocks of their own, which can stand one behind the other any number of times."""
    maker = zlib.compressobj(9, zlib.DEFLATED, -15)
    return maker.compress(bytes(_PIECE)) + maker.flush(zlib.Z_FULL_FLUSH)


def prepare() -> None:
    """Makes what many inputs share; otherwise every process makes it for itself."""
    _deflated_zeros()
    _packed_zeros("gz")


# ---------------------------------------------------------------- gzip and its like


@functools.lru_cache(maxsize=4)
def _packed_zeros(kind: str) -> bytes:
    return _pack(kind, bytes(_PIECE))


def _pack(kind: str, data: bytes) -> bytes:
    if kind == "gz":
        return gzip.compress(data, 6, mtime=0)
    if kind == "xz":
        return lzma.compress(data, preset=0)
    return bz2.compress(data) if kind == "bz2" else data


def _unpack(data: bytes) -> bytes:
    """What is packed in the file, not more than a few megabytes of it; the file where nothing is."""
    makers: tuple[Any, ...] = (functools.partial(zlib.decompressobj, 31), lzma.LZMADecompressor, bz2.BZ2Decompressor)
    for maker in makers:
        try:
            return bytes(maker().decompress(data, MOST_BYTES))
        except (OSError, EOFError, zlib.error, lzma.LZMAError):
            continue
    return data


def mutate_packed(inner: Mutator) -> Mutator:
    """Changes of gzip files: of what is in them, of the stream, of how often and by whom it is packed."""

    def mutate(rng: Random, data: bytes) -> bytes:
        action = rng.randrange(8)
        if action <= 3:
            return _pack("gz", inner(rng, _unpack(data)))[:MOST_BYTES]
        if action == 4:
            return data + _packed_zeros("gz") * (BOMB_BYTES // _PIECE)
        if action == 5:
            kind = rng.choice(("gz", "xz", "bz2", ""))
            return _pack(kind, data if rng.random() < 0.3 else _unpack(data))
        if action == 6:
            return data + rng.choice((data, rng.randbytes(32), b"\0" * 512))
        return mutate_bytes(rng, data)

    return mutate


# ---------------------------------------------------------------- tar

_LINKS = (b"../../outside", b"/etc/passwd", b".", b"..", b"nowhere", b"outside", b"x" * 5000)
_KINDS = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE,
          tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE, b"Z")  # fmt: skip


def mutate_tar(inner: Callable[[str], Mutator]) -> Mutator:
    """Changes of tar archives, packed or not; ``inner`` as for :func:`mutate_zip`."""

    def mutate(rng: Random, data: bytes) -> bytes:
        plain = _unpack(data)
        members = _read_tar(plain)
        kind = rng.choice(("gz", "gz", "gz", "xz", "bz2", ""))
        if not members or rng.random() < 0.25:
            return mutate_bytes(rng, data) if rng.random() < 0.5 else _pack(kind, mutate_bytes(rng, plain))
        for _ in range(rng.choice((1, 1, 2, 3))):
            index = rng.randrange(len(members))
            info, content = members[index]
            action = rng.randrange(8)
            if action <= 2:
                members[index] = info, inner(info.name)(rng, content)
            elif action == 3:
                members[index] = _tar_info(_text(rng.choice(NAMES))), content
            elif action == 4:
                members.insert(index, (_linked(rng, info.name), b""))
            elif action == 5:
                members[index] = _linked(rng, info.name), content
            elif action == 6:
                members.insert(rng.randrange(len(members)), (info, content))
            else:
                members[index] = _described(rng, info.name), content
        if rng.random() < 0.04:
            return _pack("gz", _written(members[:-1], end=False)) + _bomb_member(members[-1][0].name)
        return _pack(kind, _written(members))[:MOST_BYTES]

    return mutate


def _read_tar(data: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    found = []
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for info in archive:
                file = archive.extractfile(info) if info.isfile() else None
                found.append((info, b"" if file is None else file.read()))
    except Exception:  # as in read_zip
        return []
    return found


def _tar_info(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def _linked(rng: Random, name: str) -> tarfile.TarInfo:
    """Something that is not a file, mostly a link, under a name that a file has or anywhere."""
    place = name if rng.random() < 0.5 else _text(rng.choice((*NAMES, b"outside")))
    made = _tar_info(place, rng.choice(_KINDS), _text(rng.choice(_LINKS)))
    made.devmajor, made.devminor = 1, 7
    return made


def _described(rng: Random, name: str) -> tarfile.TarInfo:
    """A member whose extended header says odd things."""
    info = _tar_info(name)
    values = ("-1", "1e9", "9" * 30, "", "x", "../../outside", "nan", "9" * 5000, "BINARY")
    keys = (
        "size",
        "path",
        "linkpath",
        "mtime",
        "uid",
        "hdrcharset",
        "GNU.sparse.size",
        "GNU.sparse.map",
        "GNU.sparse.major",
    )
    info.pax_headers = {key: rng.choice(values) for key in rng.sample(keys, 2)}
    info.mode = rng.choice((0, 0o4777, 0o644))
    return info


def _written(members: Sequence[tuple[tarfile.TarInfo, bytes]], *, end: bool = True) -> bytes:
    body = b""
    for info, content in members:
        whole = _tar_info(info.name, info.type, info.linkname)
        whole.pax_headers, whole.mode, whole.devmajor, whole.devminor = (
            info.pax_headers,
            info.mode,
            info.devmajor,
            info.devminor,
        )
        whole.size = len(content)
        try:
            body += whole.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        except (ValueError, UnicodeError):
            whole.pax_headers = {}
            whole.name, whole.linkname = ascii(whole.name)[:90], ascii(whole.linkname)[:90]
            body += whole.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        body += content + b"\0" * (-len(content) % 512)
    return body + (b"\0" * 1024 if end else b"")


def _bomb_member(name: str) -> bytes:
    info = _tar_info(name)
    info.size = BOMB_BYTES
    return (
        _pack("gz", info.tobuf(tarfile.PAX_FORMAT))
        + _packed_zeros("gz") * (BOMB_BYTES // _PIECE)
        + _pack("gz", bytes(1024))
    )
