"""Names of temporary files and folders by which the next command knows what a killed one left, and removes it.

A name holds the process that made it: its id, when it started (an id is used again), and a hash of the host and its
table of processes (a folder may be shared). What belongs to a living process, to another user or to another host
stays.
"""

from __future__ import annotations

import atexit
import functools
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

from edgekit.errors import StorageError

_NAME: Final = re.compile(r"(?:\..*\.)?edgekit-(\d+)-(\d+)-([0-9a-f]{8})[.-].+", re.DOTALL)
_LONGEST: Final = 40
"""Characters of a file's own name in that of its temporary file: a name has 255 bytes at most."""


def temporary_name(name: str, suffix: str = "") -> str:
    """A name that nothing else has, hidden, for what will be called ``name`` once it is whole."""
    return f".{name[:_LONGEST]}.{_prefix(os.getpid())}.{os.urandom(4).hex()}{suffix}"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new folder for temporary files, removed at the end of the block; of a killed process, by the next command.

    Raises:
        StorageError: none can be made.
    """
    folder = _new_folder()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@functools.cache
def process_folder() -> Path:
    """A folder for temporary files of the whole process, removed when it ends; of a killed one, by the next command.

    Raises:
        StorageError: none can be made.
    """
    maker, folder = os.getpid(), _new_folder()

    def remove() -> None:
        if os.getpid() == maker:  # a forked process has inherited the folder, not the right to it
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder


def sweep(folder: str | Path | None = None) -> None:
    """Removes from ``folder`` the temporary files and folders whose process has ended; once a process and folder.

    None: the folder for temporary files, which need not be writable.
    """
    if not hasattr(os, "getuid"):  # Windows
        return
    _sweep(str(folder or tempfile.tempdir or os.environ.get("TMPDIR") or "/tmp"), os.getpid())


def holds_only_temporaries(folder: Path) -> bool:
    """Whether there is something in ``folder``, and nothing but what running commands have made for the time being."""
    try:
        names = os.listdir(folder)
    except OSError:
        return False
    return bool(names) and all(_NAME.fullmatch(name) for name in names)


def _new_folder() -> Path:
    sweep()
    try:
        return Path(tempfile.mkdtemp(prefix=f"{_prefix(os.getpid())}-"))
    except OSError as error:
        raise StorageError(
            f"no temporary folder can be made: {error.strerror or error}; free some space, or set TMPDIR elsewhere"
        ) from error


@functools.cache
def _sweep(folder: str, _pid: int) -> None:
    with suppress(OSError), os.scandir(folder) as entries:  # what cannot be listed cannot be cleared either
        for entry in entries:
            found = _NAME.fullmatch(entry.name)
            if found is None or found[3] != _host() or _started(int(found[1])) == found[2]:
                continue
            with suppress(OSError):  # another process clears it just now
                if entry.stat(follow_symlinks=False).st_uid != os.getuid():
                    continue
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    os.unlink(entry.path)


@functools.cache
def _prefix(pid: int) -> str:
    return f"edgekit-{pid}-{_started(pid)}-{_host()}"


@functools.cache
def _host() -> str:
    """Of the host and its table of processes: an id says nothing elsewhere, nor in another container."""
    try:
        table = os.stat("/proc/self/ns/pid").st_ino
    except OSError:  # no /proc: names have no time either then, and nothing is swept
        table = 0
    return sha256(f"{platform.node()} {table}".encode()).hexdigest()[:8]


def _started(pid: int) -> str:
    """When the process started, in ticks since boot; empty where none runs under this id.

    Its first thread is asked, since qemu makes up ``/proc/PID/stat`` for the programs it runs.
    """
    try:
        stat = Path(f"/proc/{pid}/task/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    state, *fields = stat.rpartition(")")[2].split()
    return "" if state in "ZX" else fields[18]
