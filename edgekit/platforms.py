"""What not every operating system has: locks of the kernel on files, flags of files.

On Windows edgekit runs and inspects files; what needs a lock, a process group or a worker says so.
"""

from __future__ import annotations

import os
import sys

from edgekit.errors import UnsupportedError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def flag(name: str) -> int:
    """A flag of ``os.open`` (``O_CLOEXEC``); 0 where the system has none of that name."""
    return int(getattr(os, name, 0))


def lock(handle: int, *, wait: bool = True, shared: bool = False) -> None:
    """Locks an open file until it is closed, against other processes; ``shared``: others may hold it so, too.

    Raises:
        BlockingIOError: another process holds it, and ``wait`` is False.
        UnsupportedError: the system has no such locks.
    """
    if fcntl is None:
        raise UnsupportedError(
            f"this needs Linux or macOS, whose kernels lock files; on {sys.platform} edgekit runs and inspects files: "
            "edgekit.load(), edgekit inspect"
        )
    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    fcntl.flock(handle, how if wait else how | fcntl.LOCK_NB)


def unlock(handle: int) -> None:
    """Gives back what :func:`lock` took."""
    if fcntl is not None:
        fcntl.flock(handle, fcntl.LOCK_UN)
