"""Archives that every reader takes for the same thing open; any other one is refused before a member is read."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit.errors import LimitError, ModelError
from edgekit.zipreader import Archive

CONTENT = {"a/one.txt": b"one " * 50, "a/two.bin": bytes(range(256)), "a/empty": b""}


def archive(data: bytes) -> Archive:
    return Archive(io.BytesIO(data), "m.zip", ModelError)


def written(method: int = zipfile.ZIP_STORED, content: dict[str, bytes] = CONTENT, comment: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as out:
        out.comment = comment
        for name, data in content.items():
            out.writestr(name, data)
    return buffer.getvalue()


def streamed() -> bytes:
    """As Python writes it where it cannot go back: checksums and sizes behind each member."""

    class OneWay(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: int) -> int:
            raise io.UnsupportedOperation

        def tell(self) -> int:
            raise io.UnsupportedOperation

    buffer = OneWay()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in CONTENT.items():
            out.writestr(name, data)
    return buffer.getvalue()


def as_torch(wide: int = 0, padding: int = 20) -> bytes:
    """As torch writes it: padding in the extra field, sizes behind the member, both end records. ``wide``: with so many
    64-bit values in the header of its own, as it writes them for members of more than 4 GiB."""
    body, rows = b"", b""
    for name, data in CONTENT.items():
        extra = b""
        if wide:
            extra = struct.pack("<2H", 1, 8 * wide) + struct.pack("<2Q", len(data), 0)[: 8 * wide]
        extra += struct.pack("<2H", 0x4246, padding) + b"Z" * padding
        sizes = struct.pack("<4s3I", b"PK\x07\x08", zlib.crc32(data), len(data), len(data))
        if wide:
            sizes = struct.pack("<4sI2Q", b"PK\x07\x08", zlib.crc32(data), len(data), len(data))
        row = struct.pack(
            "<4s6H3I5H2I", b"PK\x01\x02", 0, 0, 0x0808, 0, 0, 0, zlib.crc32(data), len(data), len(data),
            len(name), 0, 0, 0, 0, 0, len(body),
        )  # fmt: skip
        rows += row + name.encode()
        head = struct.pack("<4s5H3I2H", b"PK\x03\x04", 0, 0x0808, 0, 0, 0, 0, 0, 0, len(name), len(extra))
        body += head + name.encode() + extra + data + sizes
    wide_end = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 0x031E, 45, 0, 0, 3, 3, len(rows), len(body))
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, len(body) + len(rows), 1)
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 3, 3, len(rows), len(body), 0)
    return body + rows + wide_end + locator + end


@pytest.mark.parametrize(
    "data",
    [written(), written(zipfile.ZIP_DEFLATED), streamed(), as_torch(), as_torch(1), as_torch(2)],
    ids=["stored", "deflated", "streamed", "torch", "torch, 1 wide", "torch, 2 wide"],
)
def test_what_python_and_torch_write_opens(data: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as theirs:
        assert {name: theirs.read(name) for name in theirs.namelist()} == CONTENT  # the samples are archives
    found = archive(data)
    assert {name: found.read(name) for name in found.members} == CONTENT


def test_torch_itself_writes_such_an_archive(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    writer = torch._C.PyTorchFileWriter(str(tmp_path / "m.pt2"))
    writer.set_min_version(6)
    for name, data in CONTENT.items():
        writer.write_record(name, data, len(data))
    writer.write_end_of_file()
    with open(tmp_path / "m.pt2", "rb") as file:
        found = Archive(file, "m.pt2", ModelError)
        assert {name: found.read(f"m/{name}") for name in CONTENT} == CONTENT


def two_directories() -> bytes:
    """Python reads the directory before the end record, other readers the one at the place that is stated."""
    first, second = (written(content={"a/x": data}) for data in (b"evil", b"good"))
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, 49, first.index(b"PK\x01\x02"), 0)
    return first[:-22] + second[:-22] + end


def shared_bytes() -> bytes:
    """Both members have the place of the first one."""
    data = bytearray(written(content={"a/x": b"data", "a/y": b"data"}))
    second = data.rindex(b"PK\x01\x02")
    data[second + 42 : second + 46] = struct.pack("<I", 0)
    return bytes(data)


def patched(offset: int, value: int, sign: bytes = b"PK\x01\x02", data: bytes = b"") -> bytes:
    """The byte ``offset`` of the first record with this signature as ``value``."""
    changed = bytearray(data or written())
    changed[changed.index(sign) + offset] = value
    return bytes(changed)


EVIL: dict[str, Callable[[], bytes]] = {
    "two directories": two_directories,
    "two members of one name": lambda: written(content={"a/x": b"1", "a/y": b"2"}).replace(b"a/y", b"a/x"),
    "members that share bytes": shared_bytes,
    "a prefix": lambda: b"#!/bin/sh\n" + written(),
    "a suffix": lambda: written() + b"more",
    "a comment": lambda: written(comment=b"comment"),
    "a gap": lambda: written().replace(b"PK\x01\x02", b"gap!PK\x01\x02", 1),
    "cut short": lambda: written()[:-40],
    "half": lambda: written()[: len(written()) // 2],
    "nothing": lambda: b"",
    "no archive": lambda: b"not an archive, and longer than an end record",
    "a name in the header of its own": lambda: written().replace(b"a/one.txt", b"a/two.txt", 1),
    "another size in the header of its own": lambda: patched(22, 7, b"PK\x03\x04"),
    "another checksum in the header of its own": lambda: patched(14, 7, b"PK\x03\x04"),
    "encrypted": lambda: patched(8, 1),
    "an unknown method": lambda: patched(10, 99),
    "more members than it states": lambda: patched(10, 2, b"PK\x05\x06"),
    "a part of several": lambda: patched(4, 1, b"PK\x05\x06"),
    "its own folder": lambda: written(content={"a/../b": b""}),
    "an absolute name": lambda: written(content={"/etc/passwd": b""}),
    "a folder": lambda: written(content={"a/": b""}),
    "a name of control characters": lambda: written(content={"a/\x1b]0;title\x07": b""}),
    "64-bit end that disagrees": lambda: patched(32, 9, b"PK\x06\x06", as_torch()),
    "an extra field with another name": lambda: as_torch().replace(b"FB", b"up"),
    "sizes behind that disagree": lambda: patched(8, 9, b"PK\x07\x08", as_torch()),
}


@pytest.mark.parametrize("name", EVIL)
def test_what_readers_could_understand_differently_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match=r"^m\.zip: not an archive that is safe to open: "):
        archive(EVIL[name]())


def test_two_directories_are_read_differently() -> None:
    """The attack is a real one: Python sees other bytes than those the stated directory leads to."""
    data = two_directories()
    with zipfile.ZipFile(io.BytesIO(data)) as theirs:
        assert theirs.read("a/x") == b"good"
    stated = struct.unpack_from("<I", data, len(data) - 6)[0]
    place = struct.unpack_from("<I", data, stated + 42)[0]
    assert data[place + 33 : place + 37] == b"evil"


def test_damage_inside_a_member_is_noticed() -> None:
    stored, deflated = bytearray(written()), bytearray(written(zipfile.ZIP_DEFLATED))
    for data in (stored, deflated):
        data[30 + len("a/one.txt") + 2] ^= 0x55
        with pytest.raises(ModelError, match=r"damaged|do not end"):
            archive(bytes(data)).read("a/one.txt")
    with pytest.raises(ModelError, match="no member 'a/three'"):
        archive(written()).read("a/three")


def test_a_member_never_unpacks_to_more_than_it_states() -> None:
    """A bomb that lies about its size: what is made of it stays near what it states."""
    data = bytearray(written(zipfile.ZIP_DEFLATED, {"a/x": bytes(50_000_000)}))
    for sign, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        place = data.index(sign) + offset
        data[place : place + 4] = struct.pack("<I", 1000)
    made = 0
    with pytest.raises(ModelError, match="do not end"):
        for piece in archive(bytes(data)).chunks("a/x"):
            made += len(piece)
    assert made <= 2 << 20


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_LIMIT_ARCHIVE_MEMBERS", "2")
    with pytest.raises(LimitError, match="EDGEKIT_LIMIT_ARCHIVE_MEMBERS"):
        archive(written())
    monkeypatch.undo()
    monkeypatch.setenv("EDGEKIT_LIMIT_ARCHIVE_BYTES", "300")
    with pytest.raises(LimitError, match="EDGEKIT_LIMIT_ARCHIVE_BYTES"):
        archive(written())
    monkeypatch.undo()
    with pytest.raises(LimitError, match="EDGEKIT_LIMIT_UNPACKED_RATIO"):
        archive(written(zipfile.ZIP_DEFLATED, {"a/x": bytes(100_000_000)}))
