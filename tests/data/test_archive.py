"""Archives of strangers: links, names outside, sizes that lie, bombs; and the cache, which keeps nothing of them."""

import gzip
import io
import os
import random
import tarfile
import threading
import zipfile
from dataclasses import replace

import pytest

from edgekit.data import open_data
from edgekit.data.archive import members
from edgekit.data.cache import unpacked
from edgekit.errors import DataError, LimitError
from edgekit.limits import LIMITS

FILES = {
    "set/train/a/1.txt": b"one",
    "set/train/b/2.txt": b"",
    "set/test/a/3.txt": bytes(700),
    "set/test/b/4.txt": b"x",
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def tar(path, entries=FILES, mode="w:gz", **options):
    """An archive of names with their content, or of ready headers with theirs."""
    with tarfile.open(path, mode, **options) as out:
        for name, content in entries.items():
            info = name
            if isinstance(name, str):
                info = tarfile.TarInfo(name)
                info.size = len(content)
            out.addfile(info, io.BytesIO(content))
    return path


def zipped(path, entries=FILES, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as out:
        for name, content in entries.items():
            out.writestr(name, content)
    return path


def header(name="x", kind=tarfile.REGTYPE, link="", size=0):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


def left(cache):
    return [path for path in cache.rglob("*") if path.is_file()] + [*(cache / "unpacked").glob("*")]


@pytest.mark.parametrize("make", [
    lambda p: tar(p / "a.tar.gz"), lambda p: tar(p / "a.tgz"), lambda p: tar(p / "a.tar", mode="w"),
    lambda p: tar(p / "a.tar.gz", format=tarfile.GNU_FORMAT), lambda p: tar(p / "a.tar.gz", format=tarfile.PAX_FORMAT),
    lambda p: zipped(p / "a.zip"), lambda p: zipped(p / "a.ZIP", method=zipfile.ZIP_STORED),
])  # fmt: skip
def test_good_archives(tmp_path, make):
    archive = make(tmp_path)
    assert {member.name: member.read() for member in members(archive)} == FILES
    root = unpacked(archive)
    assert root.name == "set"
    assert {str(f.relative_to(root.parent)): f.read_bytes() for f in root.rglob("*") if f.is_file()} == FILES


def test_long_names_and_empty_folders(tmp_path):
    long = "set/" + "/".join("directory" * 5 for _ in range(6)) + "/größe.txt"
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        entries = {header("set/empty", tarfile.DIRTYPE): b"", long: b"1"}
        found = list(members(tar(tmp_path / f"{form}.tar.gz", entries, format=form)))
        assert [(m.name, m.is_folder) for m in found] == [("set/empty", True), (long, False)]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as out:
        out.mkdir("set/empty")
    assert (unpacked(tmp_path / "a.zip") / "empty").is_dir()


BAD = {
    "hard link": ({"set/a": b"1", header("set/b", tarfile.LNKTYPE, "set/a"): b""}, "is a link.*--dereference"),
    "hard link to nothing": ({header("set/b", tarfile.LNKTYPE, "nothing"): b""}, "is a link"),
    "symbolic link": ({header("set/b", tarfile.SYMTYPE, "/etc/passwd"): b""}, "is a link"),
    "device": ({header("set/b", tarfile.CHRTYPE): b""}, "neither a file nor a folder"),
    "fifo": ({header("set/b", tarfile.FIFOTYPE): b""}, "neither a file nor a folder"),
    "absolute": ({"/tmp/edgekit-evil": b"1"}, "would land outside"),
    "climbs": ({"set/../../evil": b"1"}, "would land outside"),
    "long part": ({"x" * 300: b"1"}, "not a name that a file can have"),
    "deep": ({"a/" * 60 + "x": b"1"}, "more than 50 folders"),
    "file as folder": ({"set/a": b"1", "set/a/b": b"1"}, "cannot be unpacked"),
    "folder as file": ({"set/a/b": b"1", "set/a": b"1"}, "cannot be unpacked"),
}


@pytest.mark.parametrize("name", BAD)
def test_members_that_are_refused(tmp_path, cache, name):
    entries, words = BAD[name]
    archives = [tar(tmp_path / "a.tar.gz", entries)]
    if all(isinstance(entry, str) for entry in entries):
        archives.append(zipped(tmp_path / "a.zip", entries))
    for archive in archives:
        with pytest.raises(DataError, match=words):
            unpacked(archive)
        assert not left(cache)
    assert not os.path.exists("/tmp/edgekit-evil")


def test_a_link_in_a_zip_is_refused(tmp_path):
    info = zipfile.ZipInfo("set/b")
    info.external_attr = 0o120777 << 16
    with pytest.raises(DataError, match="is a link"):
        unpacked(zipped(tmp_path / "a.zip", {info: b"/etc/passwd"}))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_of_a_zip(tmp_path, method):
    with pytest.raises(DataError, match="by the method"):
        unpacked(zipped(tmp_path / "a.zip", method=method))


@pytest.mark.parametrize("mode", ["w:bz2", "w:xz"])
def test_other_compressions_of_a_tar(tmp_path, mode):
    with pytest.raises(DataError, match="cannot be read as an archive"):
        unpacked(tar(tmp_path / "a.tar.gz", mode=mode))


def test_a_small_archive_does_not_become_a_large_one(tmp_path, cache, monkeypatch):
    monkeypatch.setitem(LIMITS, "ARCHIVE_BYTES", replace(LIMITS["ARCHIVE_BYTES"], small=1 << 20))
    zeros = {"set/a": bytes((1 << 20) + 1)}
    for archive in (tar(tmp_path / "a.tar.gz", zeros), zipped(tmp_path / "a.zip", zeros)):
        with pytest.raises(LimitError, match="EDGEKIT_LIMIT_UNPACKED_RATIO"):
            unpacked(archive)
        assert not left(cache)


def test_members_are_counted(tmp_path, cache, monkeypatch):
    monkeypatch.setenv("EDGEKIT_LIMIT_ARCHIVE_MEMBERS", "3")
    for archive in (tar(tmp_path / "a.tar.gz"), zipped(tmp_path / "a.zip")):
        with pytest.raises(LimitError, match="ARCHIVE_MEMBERS"):
            unpacked(archive)
        assert not left(cache)


def raw_tar(path, *blocks):
    path.write_bytes(gzip.compress(b"".join(blocks)))
    return path


def block(kind, size, name=b"x"):
    """A header whose size is as large, or as negative, as one likes."""
    field = (b"\x80" if size >= 0 else b"\xff") + size.to_bytes(11, "big", signed=True)
    head = name.ljust(100, b"\0") + b"0000644\0" * 3 + field + b"00000000000\0" + b" " * 8 + kind + bytes(100)
    head = (head + b"ustar\x0000").ljust(512, b"\0")
    return head[:148] + f"{sum(head):06o}\0 ".encode() + head[156:]


@pytest.mark.parametrize("blocks", [
    (block(b"0", -512),), (block(b"0", -1024), block(b"0", 0)), (block(b"x", -512),), (block(b"L", -512),),
    (block(b"0", 2**62),), (block(b"x", 2**62),), (block(b"L", 1 << 30),), (block(b"g", 1 << 40),),
    (block(b"S", 2**60),), (block(b"0", 512), bytes(100)), (block(b"0", 0), b"y" * 512),
])  # fmt: skip
def test_sizes_that_lie(tmp_path, cache, blocks):
    with pytest.raises((DataError, LimitError)):
        unpacked(raw_tar(tmp_path / "a.tar.gz", *blocks))
    assert not left(cache)


def test_a_sparse_file_that_never_ends(tmp_path, cache):
    pax = b"".join(
        f"{len(text) + 4 if len(text) + 4 < 100 else len(text) + 5} {text}\n".encode()
        for text in ("GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.realsize=9999999999999999")
    )
    blocks = (block(b"x", len(pax)), pax.ljust(512, b"\0"), block(b"0", 512), b"1".ljust(512, b"0"))
    with pytest.raises((DataError, LimitError)):
        unpacked(raw_tar(tmp_path / "a.tar.gz", *blocks))
    assert not left(cache)


def test_what_a_reader_refuses_leaves_the_cache(tmp_path, cache):
    archive = tar(tmp_path / "pets.tar.gz", {"pets/cat/1.txt": b"not an image"})
    for spelling in ("images", "audio"):
        with pytest.raises(DataError):
            open_data(f"{spelling}:{archive}")
        assert not left(cache)


def test_three_at_once(tmp_path):
    archive, found = tar(tmp_path / "a.tar.gz"), []
    threads = [threading.Thread(target=lambda: found.append(unpacked(archive))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3 and len(set(found)) == 1


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "a.tar.gz")
    with pytest.raises(DataError, match="is a FIFO"):
        list(members(tmp_path / "a.tar.gz"))


@pytest.mark.parametrize("form", ["tar.gz", "tar", "zip"])
def test_damage_is_a_data_error(tmp_path, form):
    dice = random.Random(form)
    path = tmp_path / f"a.{form}"
    whole = (zipped(path) if form == "zip" else tar(path, mode="w:gz" if form == "tar.gz" else "w")).read_bytes()
    refused = 0
    for _ in range(200):
        data = bytearray(whole)
        for _ in range(dice.choice((1, 1, 2, 8))):
            data[dice.randrange(min(len(data), 4000))] = dice.choice((0, 1, 127, 128, 255, dice.randrange(256)))
        cut = dice.randrange(len(data)) if dice.random() < 0.2 else len(data)
        path.write_bytes(data[:cut])
        try:
            for member in members(path):
                member.read()
        except DataError:
            refused += 1
        except LimitError:
            refused += 1
    assert refused > 0  # else nothing was damaged


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_file_that_is_in_it_twice(tmp_path, cache):
    with tarfile.open(tmp_path / "a.tar", "w") as out, zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        for name in ("set/a", "set/./a"):
            out.addfile(header(name))
            packed.writestr(name, b"")
    for name in ("a.tar", "a.zip"):
        with pytest.raises(DataError, match=r"'set/a' is in it twice"):
            unpacked(tmp_path / name)
        assert not left(cache)
