"""A lease: a lock on the machine this runs on, so that two users of one board do not time into each other's runs.

The lock (``flock``) is the kernel's and goes with its process, however that ends. The file says who holds it, since
when and until when, by the clock since boot, which nobody sets. After its time a lease may be taken over; its former
holder sees that when it looks (:meth:`Lease.mine`), and has to say that its figures may be spoilt.

Every user of the machine has to be able to lock the file, so it is the one thing edgekit leaves there that is open to
all of them. What stands in it is believed only as far as it is a holder.
"""

from __future__ import annotations

import json
import math
import os
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from edgekit.errors import DeviceError
from edgekit.platforms import flag, lock

PLACE: Final = Path("/tmp/edgekit.lease")
"""One for the whole machine, whoever is logged in."""
LONGEST_S: Final = 6 * 3600.0
_FOREVER_S: Final = 1e9


class Lease:
    """A lease on this machine, not yet held."""

    def __init__(self, place: Path | None = None) -> None:
        self._place = place or Path(os.environ.get("EDGEKIT_LEASE") or PLACE)
        self._handle = -1

    def take(self, owner: str, seconds: float) -> Mapping[str, Any] | None:
        """None when it is held from now on, for at most ``seconds``; else who holds it.

        The holder: ``owner``, ``held_s`` and ``left_s`` (below 0: its time is over, and its file cannot be removed).

        Raises:
            DeviceError: what lies there in the file's place cannot be locked.
        """
        # of two that find its time over at once, the second would take it from the first
        alone = _open(self._place.with_name(f"{self._place.name}.lock"))
        try:
            lock(alone)
            return self._take(owner, seconds)
        finally:
            os.close(alone)

    def _take(self, owner: str, seconds: float) -> Mapping[str, Any] | None:
        handle = _open(self._place)
        try:
            lock(handle, wait=False)
        except BlockingIOError:
            holder = _read(handle)
            os.close(handle)
            if holder["left_s"] >= 0 or not _remove(self._place):
                return holder
            return self._take(owner, seconds)
        now = _now_s()
        row = {"owner": owner[:200], "since_s": now, "until_s": now + min(seconds, LONGEST_S), "pid": os.getpid()}
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(row).encode(), 0)
        self._handle = handle
        return None

    def mine(self) -> bool:
        """Whether it is still held: nobody has taken it over."""
        if self._handle < 0:
            return False
        try:
            return os.path.samestat(os.stat(self._place), os.fstat(self._handle))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Gives it up; twice does no harm."""
        if self._handle >= 0:
            with suppress(OSError):
                os.ftruncate(self._handle, 0)
            os.close(self._handle)
            self._handle = -1


def holder(place: Path | None = None) -> Mapping[str, Any] | None:
    """Who holds the lease on this machine, None when nobody does."""
    lease = Lease(place)
    found = lease.take("a look", 0)
    lease.release()
    return found


def _open(place: Path) -> int:
    """The file, made for everybody: another user's process has to be able to lock it."""
    flags = os.O_RDWR | flag("O_CLOEXEC") | flag("O_NOFOLLOW") | flag("O_NONBLOCK")
    try:
        try:
            handle = os.open(place, flags)
        except FileNotFoundError:
            handle = os.open(place, flags | os.O_CREAT, 0o666)
            with suppress(PermissionError):  # somebody else made it just now
                os.fchmod(handle, 0o666)
    except OSError as error:
        raise DeviceError(f"the lease {place} cannot be locked: {error.strerror}; remove what lies there") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise DeviceError(f"the lease {place} cannot be locked: it is not a regular file; remove what lies there")
    return handle


def _read(handle: int) -> dict[str, Any]:
    try:
        row = json.loads(os.pread(handle, 4096, 0))
        held, over = (_now_s() - float(row[key]) for key in ("since_s", "until_s"))
        if math.isfinite(held) and math.isfinite(over):
            held, left = min(max(held, 0.0), _FOREVER_S), max(min(-over, LONGEST_S), -_FOREVER_S)
            return {"owner": str(row["owner"])[:200], "held_s": held, "left_s": left}
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        pass  # it is being written, or somebody else wrote it
    return {"owner": "somebody", "held_s": 0.0, "left_s": 0.0}


def _remove(place: Path) -> bool:
    """Takes the file from a holder whose time is over; False where the system does not allow it."""
    try:
        place.unlink()
    except FileNotFoundError:
        return True
    except PermissionError:
        return False
    return True


def _now_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
