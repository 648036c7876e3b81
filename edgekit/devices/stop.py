"""One end for threads that wait for devices: an interrupt reaches the main thread alone, this one hands it on.

Whoever waits for a worker within :func:`stoppable` leaves its wait with :class:`Stopped` as soon as the stop is set,
and lets go of what it holds on its way out, as it would for an interrupt of its own.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from edgekit.types import Closing


class Stopped(BaseException):
    """What is done is not wanted any more. No Exception: nothing that handles errors may hold it up."""


class Stop(Closing):
    """Set once, seen by everybody; a context manager that lets go of its pipe."""

    def __init__(self) -> None:
        self.descriptor, self._write = os.pipe()

    def set(self) -> None:
        """From now on the descriptor can be read, for whoever waits for it; twice does no harm."""
        if self._write >= 0:
            write, self._write = self._write, -1
            os.close(write)

    def close(self) -> None:
        """Sets it and lets go of its pipe."""
        self.set()
        os.close(self.descriptor)


_CURRENT: ContextVar[Stop | None] = ContextVar("stop", default=None)


def current() -> Stop | None:
    """The stop that holds for this thread, None where an interrupt comes by itself."""
    return _CURRENT.get()


@contextmanager
def stoppable(stop: Stop) -> Iterator[None]:
    """Everything that is started within leaves its waits when ``stop`` is set.

    A thread that is started within has to take the context along (``contextvars.copy_context().run``).
    """
    token = _CURRENT.set(stop)
    try:
        yield
    finally:
        _CURRENT.reset(token)


@contextmanager
def unstoppable() -> Iterator[None]:
    """What is started within is finished although the stop is set: clearing up. Its waits need short time-outs."""
    token = _CURRENT.set(None)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def pause(seconds: float) -> None:
    """Sleeps; raises :class:`Stopped` when the stop of this thread is set meanwhile."""
    stop = current()
    if stop is None:
        time.sleep(seconds)
    elif select.select([stop.descriptor], [], [], seconds)[0]:
        raise Stopped
