"""What is not a regular file is written through and stays what it is; a regular file is there whole or not at all."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit.errors import StorageError, UsageError
from edgekit.outputs import (
    as_file,
    check_output,
    descriptor_of,
    is_stream,
    moved_descriptor,
    output_folder,
    output_suffix,
    publish,
    publishing,
    remove_output,
    writable_folder,
)

DATA = os.urandom(300_000)  # more than a pipe holds
NULL, FULL = (1, 3), (1, 7)


def _write(target: Path, data: bytes = DATA) -> None:
    check_output(target)
    with publishing(target) as temporary:
        temporary.write_bytes(data)


def _node(path: Path, numbers: tuple[int, int]) -> Path:
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(*numbers))
        os.close(os.open(path, os.O_WRONLY))
    except PermissionError:
        pytest.skip("device nodes are made by root, on a disk that has them")
    return path


def _read_in_background(opened: Callable[[], int]) -> tuple[threading.Thread, bytearray]:
    got = bytearray()

    def read() -> None:
        descriptor = opened()
        while some := os.read(descriptor, 1 << 16):
            got.extend(some)
        os.close(descriptor)

    thread = threading.Thread(target=read)
    thread.start()
    return thread, got


def test_a_failed_run_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.onnx"
    target.write_text("old")
    with pytest.raises(RuntimeError), publishing(target) as temporary:
        temporary.write_text("half of the n")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.onnx"]
    with publishing(target) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["a.onnx"]


@pytest.mark.parametrize(("code", "error"), [(errno.ENOSPC, StorageError), (errno.EACCES, UsageError)])
def test_refusals_of_the_system_have_a_class(code: int, error: type[Exception], tmp_path: Path) -> None:
    with pytest.raises(error, match=r"a\.onnx"), publishing(tmp_path / "new" / "a.onnx"):
        raise OSError(code, "as the system says")
    assert not list(tmp_path.iterdir()), "nor the folder that was made for it"


def test_a_new_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with publishing(tmp_path / "a") as temporary:
            temporary.unlink()
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT, 0o600))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_a_long_name_is_a_name(tmp_path: Path) -> None:
    _write(tmp_path / ("é" * 120 + ".onnx"))
    with pytest.raises(UsageError, match="too long"):
        _write(tmp_path / ("é" * 130 + ".onnx"))


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        writable_folder(tmp_path / "f")
    for place in (tmp_path / "f" / "below", tmp_path / "f" / "far" / "below"):
        with pytest.raises(UsageError):
            writable_folder(place)
        with pytest.raises(UsageError):
            check_output(place / "x")


def test_a_device_node_is_written_through_and_stays(tmp_path: Path) -> None:
    null, full = _node(tmp_path / "null", NULL), _node(tmp_path / "full", FULL)
    _write(null)
    assert stat.S_ISCHR(null.stat().st_mode)
    with pytest.raises(StorageError, match="full"):
        _write(full)
    assert stat.S_ISCHR(full.stat().st_mode)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["full", "null"]


@pytest.mark.parametrize("link", [False, True])
def test_a_fifo_is_written_through_and_stays(link: bool, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("fifo")
    thread, got = _read_in_background(lambda: os.open(tmp_path / "fifo", os.O_RDONLY))
    _write(tmp_path / ("link" if link else "fifo"))
    thread.join()
    assert got == DATA
    assert stat.S_ISFIFO((tmp_path / "fifo").stat().st_mode)
    assert (tmp_path / "link").is_symlink()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fifo", "link"]


@pytest.mark.parametrize("folder", ["/dev/fd", "/proc/self/fd", "/proc/thread-self/fd", "link"])
def test_a_descriptor_is_written_through_whatever_is_behind_it(folder: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev/fd")
    place = Path(folder) if folder.startswith("/") else tmp_path / folder
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    thread, got = _read_in_background(lambda: reader)
    _write(place / str(writer))
    os.close(writer)
    thread.join()
    assert got == DATA
    with open(tmp_path / "file", "wb") as opened:  # as the shell's 3>file: its place in the file counts
        opened.write(b"before ")
        opened.flush()
        _write(place / str(opened.fileno()), b"and after")
    assert (tmp_path / "file").read_bytes() == b"before and after"
    left, right = socket.socketpair()
    with left, right:
        _write(place / str(left.fileno()), b"hello")
        assert right.recv(10) == b"hello"


def test_a_descriptor_that_takes_nothing_is_refused_before_the_work(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with pytest.raises(UsageError, match="for reading only"):
        check_output(f"/dev/fd/{reader}")
    os.close(reader)
    os.close(writer)
    with pytest.raises(UsageError, match="no descriptor"):
        check_output(f"/dev/fd/{reader}")


def test_a_descriptor_that_was_moved_is_found(tmp_path: Path) -> None:
    with open(tmp_path / "a", "wb") as first, open(tmp_path / "b", "wb") as second:
        with moved_descriptor(first.fileno(), second.fileno()):
            _write(Path(f"/dev/fd/{first.fileno()}"), b"moved")
        _write(Path(f"/dev/fd/{first.fileno()}"), b"not moved")
    assert [(tmp_path / name).read_bytes() for name in "ab"] == [b"not moved", b"moved"]


def test_behind_a_link_the_file_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    for name in ("there", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "there" / "old").write_text("old")
    (tmp_path / "link").symlink_to("there/old")
    (tmp_path / "second").symlink_to("link")
    (tmp_path / "dangling").symlink_to("there/new")
    (tmp_path / "far").symlink_to("nowhere/yet")
    for name, real in (("second", "there/old"), ("dangling", "there/new"), ("far", "nowhere/yet")):
        _write(tmp_path / name)
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / real).read_bytes() == DATA
        assert not (tmp_path / real).is_symlink()
    assert sorted(p.name for p in (tmp_path / "there").iterdir()) == ["new", "old"]
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(UsageError, match="circle"):
        _write(tmp_path / "a")
    assert (tmp_path / "a").is_symlink()


def test_folders_and_sockets_are_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(".")
    for name in (".", "link"):
        with pytest.raises(UsageError, match="is a folder"):
            check_output(tmp_path / name)
        with pytest.raises(UsageError, match="is a folder"):
            _write(tmp_path / name)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        with pytest.raises(UsageError, match="is a socket"):
            _write(tmp_path / "socket")
    with pytest.raises(UsageError, match="not a file name"):
        check_output("a\0b")


def test_checking_makes_nothing(tmp_path: Path) -> None:
    check_output(tmp_path / "new" / "folder" / "x")
    assert not list(tmp_path.iterdir())


def test_a_finished_file_is_moved_through_as_well(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    thread, got = _read_in_background(lambda: os.open(tmp_path / "fifo", os.O_RDONLY))
    (tmp_path / "made").write_bytes(DATA)
    publish(tmp_path / "made", tmp_path / "fifo")
    thread.join()
    assert got == DATA


def test_what_keeps_files_beside_its_output_has_a_file(tmp_path: Path) -> None:
    (tmp_path / "link.safetensors").symlink_to("there/x.safetensors")
    with as_file(tmp_path / "link.safetensors", ".safetensors") as file:
        assert file == tmp_path / "there" / "x.safetensors"
    with pytest.raises(RuntimeError), as_file(tmp_path / "new" / "x.safetensors", ".safetensors"):
        raise RuntimeError
    assert not (tmp_path / "new").exists()
    reader, writer = os.pipe()
    with as_file(Path(f"/dev/fd/{writer}"), ".safetensors") as file:
        file.write_bytes(b"weights")
        folder = file.parent
    assert (os.read(reader, 100), file.suffix, folder.exists()) == (b"weights", ".safetensors", False)
    assert output_suffix(f"/dev/fd/{writer}", ".npz") == ".npz"
    assert output_suffix("x.png", ".npz") == ".png"
    assert output_suffix("x", ".npz") == ""
    assert is_stream(f"/dev/fd/{writer}")
    assert descriptor_of(f"/dev/fd/{writer}") == writer
    assert not is_stream(tmp_path)
    os.close(reader)
    os.close(writer)


def test_only_files_are_taken_away(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    for name in ("fifo", "link", "missing", "."):
        remove_output(tmp_path / name)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fifo", "link"]


def test_a_folder_goes_again_if_nothing_came_of_it(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), output_folder(tmp_path / "a" / "b"):
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    with pytest.raises(RuntimeError), output_folder(tmp_path / "a" / "b") as folder:
        (folder / "kept").touch()
        raise RuntimeError
    with output_folder(tmp_path / "c"):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "c"]


KILLED = """
import sys
from pathlib import Path
from edgekit.leftovers import scratch_folder
from edgekit.outputs import publishing
with publishing(Path("half.onnx")) as temporary, scratch_folder() as folder:
    temporary.write_bytes(b"half")
    (folder / "work").touch()
    print(temporary, folder, flush=True)
    sys.stdin.read()
"""
NEXT = "from pathlib import Path; from edgekit.outputs import publishing as p; from edgekit.leftovers import *\n"
NEXT += "with p(Path('next')) as t, scratch_folder(): pass"


def test_what_a_killed_run_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}

    def begun() -> tuple[subprocess.Popen[str], list[Path]]:
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED], cwd=tmp_path, env=environment, stdin=-1, stdout=-1, text=True
        )
        assert process.stdout is not None
        return process, [tmp_path / name for name in process.stdout.readline().split()]

    (killed, left), (alive, kept) = begun(), begun()
    killed.kill()
    killed.communicate()
    own, host = str(killed.pid), left[0].name.split(".")[-3].split("-")[3]
    foreign = [path.with_name(path.name.replace(host, "0" * len(host))) for path in left]
    reused = tmp_path / left[0].name.replace(own, str(os.getpid()))  # the id of a process that is there
    foreign[1].mkdir()
    for path in (foreign[0], reused, tmp_path / ".half.onnx.4711"):
        path.touch()
    subprocess.run([sys.executable, "-c", NEXT], cwd=tmp_path, env=environment, check=True)
    assert not any(path.exists() for path in [*left, reused]), "of the killed one"
    assert all(path.exists() for path in kept), "of one that lives"
    assert all(path.exists() for path in [*foreign, tmp_path / ".half.onnx.4711"]), "nothing of edgekit's here"
    alive.communicate("")
    assert not any(path.exists() for path in kept)
    assert (tmp_path / "half.onnx").read_bytes() == b"half"
