"""Where everything that edgekit writes goes: one way for files, pipes and devices.

A regular file is there whole or not at all; behind a symbolic link, the file it points to. A device node, a FIFO and a
descriptor that the program inherited (``/dev/fd/3``, ``/dev/stdout``, whatever is behind it) are written through and
never replaced. A folder and a socket's path are refused.
"""

from __future__ import annotations

import errno
import os
import re
import select
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from edgekit.errors import StorageError, UsageError
from edgekit.leftovers import holds_only_temporaries, scratch_folder, sweep, temporary_name
from edgekit.platforms import flag

_MOST_LINKS: Final = 40
"""As many as the kernel follows."""
_moved: dict[int, int] = {}


@contextmanager
def publishing(target: Path, suffix: str | None = None) -> Iterator[Path]:
    """A temporary path to write; on a clean exit its content becomes that of ``target``, else it is removed.

    ``suffix``: of the temporary path, where it is not that of ``target``. A folder that is not there is made.

    Raises:
        StorageError: the disk is full.
        UsageError: the place cannot be written, is a folder or a socket's path.
    """
    check_output(target)
    suffix = target.suffix if suffix is None else suffix
    stream = _stream(target)
    if stream is not None:
        with writing(target), scratch_folder() as folder:
            temporary = folder / f"{target.stem}{suffix}"
            yield temporary
            _write_through(temporary, stream)
        return
    place = real_place(target)
    with writing(target), output_folder(place.parent):
        sweep(place.parent)
        temporary = place.with_name(temporary_name(target.stem, suffix))
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | flag("O_CLOEXEC"), 0o666)
            mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
            os.close(descriptor)
            yield temporary
            with open(temporary, "rb+") as handle:
                os.fsync(handle.fileno())
                os.fchmod(handle.fileno(), mode)  # libraries that make temporary files make them private
            os.replace(temporary, place)
        finally:
            temporary.unlink(missing_ok=True)


def publish(source: Path, target: Path) -> None:
    """Moves the finished file ``source`` to ``target``; raises like :func:`publishing`."""
    with publishing(target) as temporary:
        shutil.move(source, temporary)


@contextmanager
def as_file(target: Path, suffix: str) -> Iterator[Path]:
    """The regular file of ``target``, behind symbolic links, for what keeps other files beside it; for a stream, a file
    in a scratch folder, which is written through on a clean exit.

    Raises:
        StorageError, UsageError: as :func:`publishing`.
    """
    if not is_stream(target):
        place = real_place(target)
        with output_folder(place.parent):
            yield place
        return
    with scratch_folder() as folder:
        file = folder / f"{target.stem}{suffix}"
        yield file
        publish(file, target)


def remove_output(target: Path) -> None:
    """Removes an earlier output, if it is a regular file (behind a symbolic link, too: the link stays)."""
    place = Path(os.path.realpath(target))
    if place.is_file() and _stream(target) is None:
        place.unlink(missing_ok=True)


def check_output(target: str | Path) -> None:
    """Refuses, before any work, a place that could not be written; makes and changes nothing.

    Raises:
        UsageError: a folder, a socket's path, a descriptor that takes nothing, a folder that cannot be written.
        StorageError: the disk is full.
    """
    if "\0" in str(target):
        raise UsageError(f"{str(target)!r} is not a file name; choose another place")
    with writing(target):
        stream = _stream(Path(target))
        if isinstance(stream, int):
            _check_descriptor(target, stream)
            return
        place = real_place(target)
        mode = place.stat().st_mode if place.exists() else stat.S_IFREG
        if stat.S_ISDIR(mode):
            raise UsageError(f"{target} is a folder; name a file")
        if stat.S_ISSOCK(mode):
            raise UsageError(f"{target} is a socket, which has no file to write; name a file, a FIFO or a device")
        if stream is not None:
            if not os.access(stream, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return
        folder = next(folder for folder in place.parents if os.path.lexists(folder))
        if not folder.is_dir():
            raise UsageError(f"{folder} is a file, a folder is needed; choose another place")
        with tempfile.TemporaryFile(dir=folder):
            return


def is_stream(target: str | Path) -> bool:
    """Whether ``target`` is written through: a device node, a FIFO, or a descriptor of this process."""
    return _stream(Path(target)) is not None


def output_suffix(target: str | Path, default: str) -> str:
    """The suffix of ``target``; ``default`` for a stream whose name has none (``/dev/fd/63``)."""
    suffix = Path(target).suffix
    return default if not suffix and is_stream(target) else suffix


def descriptor_of(target: str | Path) -> int | None:
    """N where ``target`` leads to ``/proc/self/fd/N``, as ``/dev/fd/N`` and ``/dev/stdout`` do; else None."""
    place = Path(target)
    for _ in range(_MOST_LINKS):
        folder = os.path.realpath(place.parent)
        if place.name.isdecimal() and re.fullmatch(rf"/proc/{os.getpid()}(/task/\d+)?/fd", folder):
            return int(place.name)
        try:
            place = Path(folder, os.readlink(Path(folder, place.name)))
        except OSError:
            return None
    return None


@contextmanager
def moved_descriptor(number: int, now: int) -> Iterator[None]:
    """Within the block ``/dev/fd/NUMBER`` stands for the descriptor ``now``, which leads where ``number`` had led."""
    _moved[number] = now
    try:
        yield
    finally:
        del _moved[number]


def real_place(target: str | Path) -> Path:
    """``target`` behind its symbolic links, whether anything is there or not.

    Raises:
        UsageError: the links lead in a circle.
    """
    place = Path(os.path.realpath(target))
    if place.is_symlink():
        raise UsageError(f"{target} is a symbolic link that leads in a circle; remove it, or name another place")
    return place


@contextmanager
def output_folder(path: str | Path) -> Iterator[Path]:
    """The folder ``path``, made if it is not there; what was made is taken away again if the block fails and leaves it
    empty.

    Raises:
        UsageError, StorageError: as :func:`writable_folder`.
    """
    folder = Path(path)
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    if not made and holds_only_temporaries(folder):
        made = [folder]  # of another run, which has just made it
    try:
        yield writable_folder(folder)
    except BaseException:
        for one in made:
            with suppress(OSError):  # not empty, or not made
                one.rmdir()
        raise


def writable_folder(path: str | Path) -> Path:
    """The folder ``path``, made if it is not there.

    Raises:
        UsageError: it cannot be made or written.
        StorageError: the disk is full.
    """
    folder = Path(path)
    with writing(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise UsageError(f"{folder} is a file, a folder is needed; choose another place") from error
        with tempfile.TemporaryFile(dir=folder):
            return folder


@contextmanager
def writing(target: str | Path) -> Iterator[None]:
    """Turns the operating system's refusals to write ``target`` into the errors of the tree."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StorageError(
                f"no space left while writing {target}: {error.strerror}; nothing was published. Free some space, or "
                "choose another place"
            ) from error
        if error.errno in (
            errno.EACCES,
            errno.EPERM,
            errno.EROFS,
            errno.ENOTDIR,
            errno.EISDIR,
            errno.ENAMETOOLONG,
            errno.ENOENT,
            errno.ENXIO,
            errno.ELOOP,
        ):
            raise UsageError(f"cannot write {target}: {error.strerror}; choose another place") from error
        raise


def _stream(target: Path) -> int | Path | None:
    """The descriptor or the node that is written through; None where it is a regular file, or will be one."""
    number = descriptor_of(target)
    if number is not None:
        return number
    try:
        mode = os.stat(target).st_mode
    except OSError:
        return None
    return target if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else None


def _check_descriptor(target: str | Path, number: int) -> None:
    import fcntl

    try:
        mode = fcntl.fcntl(_moved.get(number, number), fcntl.F_GETFL) & os.O_ACCMODE
    except OSError as error:
        raise UsageError(f"{target}: no descriptor {number} is open; name another place") from error
    if mode == os.O_RDONLY:
        raise UsageError(f"{target}: descriptor {number} is open for reading only; name another place")


def _write_through(source: Path, stream: int | Path) -> None:
    if isinstance(stream, int):
        descriptor = os.dup(_moved.get(stream, stream))
    else:
        descriptor = os.open(stream, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)  # of a FIFO: waits for its reader
    try:
        with open(source, "rb") as file:
            while chunk := memoryview(file.read(1 << 20)):
                while chunk:
                    try:
                        chunk = chunk[os.write(descriptor, chunk) :]
                    except BlockingIOError:  # somebody has made the pipe non-blocking
                        select.select([], [descriptor], [])
    finally:
        os.close(descriptor)
