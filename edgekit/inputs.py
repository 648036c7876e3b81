"""Opening what the user named: only regular files are read, which is decided before the first byte.

A FIFO, a socket or a device node could keep a reader waiting for ever or feed it without end.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from edgekit.errors import InputError
from edgekit.limits import check
from edgekit.platforms import flag
from edgekit.reading import why

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def _kind(mode: int) -> str:
    return next((name for test, name in _KINDS if test(mode)), "a special file")


def open_regular(path: str | Path, error: type[InputError], wanted: str, limit: str | None = None) -> BinaryIO:
    """The regular file at ``path`` (behind symbolic links, too), opened for reading.

    Args:
        path: what the user named.
        error: class of the error of the caller's room.
        wanted: what the file should be, for messages: ``a .onnx, .tflite or .pt2 file``.
        limit: name of the limit on its size, see :mod:`edgekit.limits`.

    Raises:
        InputError: of the class ``error``: missing, not a regular file, not readable.
        LimitError: larger than ``limit``.
    """
    try:
        # O_NONBLOCK: opening a FIFO without a writer returns at once; it changes nothing for a regular file.
        descriptor = os.open(path, os.O_RDONLY | flag("O_NONBLOCK") | flag("O_CLOEXEC") | flag("O_NOCTTY"))
    except FileNotFoundError as cause:
        raise error(f"{path} does not exist; give the path of {wanted}") from cause
    except (OSError, ValueError) as cause:  # ValueError: a NUL byte in the name
        raise error(f"{path} cannot be read: {why(cause)}; give the path of {wanted}") from cause
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise error(f"{path} is {_kind(status.st_mode)}, only regular files are read; give the path of {wanted}")
        if limit is not None:
            check(limit, status.st_size, path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: str | Path, error: type[InputError], wanted: str, limit: str | None = None) -> bytes:
    """The bytes of the regular file at ``path``; arguments and errors as of :func:`open_regular`."""
    with open_regular(path, error, wanted, limit) as file:
        try:
            return file.read()
        except OSError as cause:
            raise error(f"{path} cannot be read: {why(cause)}; give the path of {wanted}") from cause


def require_regular_inside(folder: str | Path, error: type[InputError]) -> Path:
    """``folder`` for a library that opens what is in it.

    Raises:
        InputError: of the class ``error``: something in it, or in a folder below, is not a regular file.
    """
    for place, _, names in os.walk(folder):
        for name in names:
            file = Path(place, name)
            mode = file.stat().st_mode if file.exists() else stat.S_IFREG  # a dangling link is for the library to miss
            if not stat.S_ISREG(mode):
                raise error(f"{file} is {_kind(mode)}, only regular files are read; take it out of the folder")
    return Path(folder)


def require_regular(path: str | Path, error: type[InputError], wanted: str, limit: str | None = None) -> Path:
    """``path`` for a library that opens it itself, checked as by :func:`open_regular`."""
    open_regular(path, error, wanted, limit).close()
    return Path(path)
