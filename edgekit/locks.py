"""Locks of the kernel on files: they hold between processes and go with the one that holds them, however it ends."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgekit.errors import UsageError
from edgekit.outputs import writing
from edgekit.platforms import flag, lock

log = logging.getLogger("edgekit")
FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | flag("O_CLOEXEC") | flag("O_NOFOLLOW")


def hold(path: Path, *, wait: bool = False) -> int | None:
    """A descriptor of the file ``path``, made if it is not there, that nobody else holds until it is closed.

    It appends where it is written to. None where another holds it, unless ``wait``. Who removes the file must hold it.

    Raises:
        UsageError, StorageError: it cannot be made.
    """
    while True:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, FLAGS, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise UsageError(
                    f"{path} is not a regular file, so it cannot be locked; remove it or name another place"
                )
            lock(handle, wait=wait)
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                return handle
        except BlockingIOError:
            os.close(handle)
            return None
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # who held it has removed it meanwhile: another file has the name now, or none


@contextmanager
def locked(path: Path, waiting: str = "") -> Iterator[None]:
    """Only one process at a time is in a block with this ``path``, a file for nothing else; others wait, and say
    ``waiting``.

    Raises:
        UsageError, StorageError: the file cannot be made.
    """
    handle = hold(path)
    if handle is None:
        if waiting:
            log.info("%s", waiting)
        handle = hold(path, wait=True)
    assert handle is not None
    try:
        yield
    finally:
        os.close(handle)
