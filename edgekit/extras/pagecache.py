"""The file's pages in the page cache: how many there are, and how they are dropped without being root (Linux)."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path
from typing import Any


def resident_share(path: str | Path) -> float | None:
    """Part of the file's pages that are in memory (``mincore``); None where the system does not tell."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            return 0.0
        pages = -(-size // mmap.PAGESIZE)
        states = (ctypes.c_ubyte * pages)()
        # a private, writable mapping: only of such a one does ctypes give the address; nothing is written to it
        with mmap.mmap(file.fileno(), size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE) as mapped:
            start = ctypes.c_char.from_buffer(mapped)
            try:
                mincore = ctypes.CDLL(None, use_errno=True).mincore
                failed = mincore(ctypes.c_void_p(ctypes.addressof(start)), ctypes.c_size_t(size), states)
            except AttributeError:
                return None
            finally:
                del start
        return None if failed else sum(state & 1 for state in states) / pages


def drop(path: str | Path) -> dict[str, Any]:
    """Writes the file's pages back and asks the system to forget them; ``{"before", "after"}`` are resident shares.

    Pages that another process has mapped stay: ``after`` says what became of it.
    """
    before = resident_share(path)
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return {"before": before, "after": resident_share(path)}
