"""The folder of files on a device: its limit, what it never removes, and file systems without nameless files."""

from __future__ import annotations

import fcntl
import hashlib
import os
from pathlib import Path

import pytest

from edgekit.devices import store as store_module
from edgekit.devices.store import Store
from edgekit.errors import TransferError


def put(store: Store, data: bytes) -> Path:
    place = store.put(hashlib.sha256(data).hexdigest(), ".onnx", len(data), 0, memoryview(data), True)
    assert place is not None
    return place


def test_what_was_used_longest_ago_makes_room(tmp_path: Path) -> None:
    """Ten files of 100 bytes in a folder of 350; each came from a process that has ended since."""
    places = []
    for index in range(10):
        places.append(put(Store(tmp_path, 350), bytes([index]) * 100))
        os.utime(places[-1], (index, index))
    assert [place.exists() for place in places] == [False] * 7 + [True] * 3
    assert Store(tmp_path, 350).find(hashlib.sha256(bytes([7]) * 100).hexdigest(), ".onnx", 100) == places[7]
    put(Store(tmp_path, 350), b"new" * 33)
    assert places[7].exists() and not places[8].exists()  # it was used, so the next one went


def test_a_model_in_several_files_goes_with_the_first_of_them(tmp_path: Path) -> None:
    """Its folder is of hard links: it takes no room of its own, and is worth nothing without one of them."""
    store = Store(tmp_path, 350)
    model, weights = put(store, b"m" * 100), put(store, b"w" * 100)
    names = [(file.stem, file.suffix, name) for file, name in ((model, "m.onnx"), (weights, "deep/w.data"))]
    place = store.together(names)
    assert place.read_bytes() == b"m" * 100 and (place.parent / "deep" / "w.data").samefile(weights)
    assert store.document()["kept_bytes"] == 200 and Store(tmp_path, 350).find(*names[0][:2], 100) == model
    put(Store(tmp_path, 350), b"n" * 100)
    put(Store(tmp_path, 350), b"o" * 100)
    assert place.exists()  # both are in use
    for held in store._used:
        held.close()
    os.utime(weights, (0, 0))
    put(Store(tmp_path, 350), b"p" * 100)
    assert not weights.exists() and not place.parent.exists() and model.exists()


def test_a_file_that_is_in_use_is_never_removed(tmp_path: Path) -> None:
    using = Store(tmp_path, 150)
    held = put(using, b"a" * 100)
    os.utime(held, (0, 0))
    other = put(Store(tmp_path, 150), b"b" * 100)
    assert held.read_bytes() == b"a" * 100 and other.exists()  # above the limit rather than pulled from under a worker


def test_a_file_above_the_limit_is_taken(tmp_path: Path) -> None:
    assert put(Store(tmp_path, 10), b"c" * 1000).stat().st_size == 1000


def test_without_nameless_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on NFS or a memory card: a name of its own, locked, and removed by the next one when its writer died."""
    monkeypatch.setattr(store_module, "_NAMELESS", 0)
    dead, alive = tmp_path / "part-1-dead", tmp_path / "part-2-alive"
    dead.write_bytes(b"half")
    alive.write_bytes(b"half")
    with open(alive, "rb") as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        place = put(Store(tmp_path), b"d" * 100)
    assert place.read_bytes() == b"d" * 100
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([".lock", place.name, alive.name])
    with pytest.raises(TransferError, match="arrived with SHA-256"):
        Store(tmp_path).put("e" * 64, "", 3, 0, memoryview(b"abc"), True)
    assert {file.name for file in tmp_path.iterdir()} == {".lock", place.name}


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(TransferError, match="cannot be written"):
        put(Store(tmp_path / "file" / "folder"), b"f")


def test_everything_is_for_its_user_alone(tmp_path: Path) -> None:
    """Also what an older edgekit left open, and where there are no nameless files."""
    folder = tmp_path / "files"
    folder.mkdir(mode=0o755)
    mask = os.umask(0o077)  # as the worker program sets it
    try:
        store = Store(folder, 1000)
        model, weights = put(store, b"m" * 100), put(store, b"w" * 100)
        names = [(file.stem, file.suffix, name) for file, name in ((model, "m.onnx"), (weights, "deep/w.data"))]
        store.together(names)
    finally:
        os.umask(mask)
    modes = {file.relative_to(tmp_path): file.stat().st_mode & 0o777 for file in tmp_path.rglob("*")}
    assert len(modes) == 8
    for file, mode in modes.items():
        assert mode == (0o700 if (tmp_path / file).is_dir() else 0o600), file
