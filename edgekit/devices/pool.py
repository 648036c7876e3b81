"""Workers that are kept from one file to the next: starting one costs more than loading a small file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from edgekit.devices.client import WorkerClient


class WorkerPool:
    """Idle workers on the default device. A worker that died or was killed is never handed out again."""

    def __init__(self) -> None:
        self._idle: list[WorkerClient] = []

    def take(self) -> WorkerClient | None:
        """An idle worker, None if there is no idle worker."""
        return self._idle.pop() if self._idle else None

    def give(self, client: WorkerClient) -> None:
        """Takes a worker back that is not needed for now."""
        if client.alive:
            self._idle.append(client)

    def close(self) -> None:
        """Ends all idle workers."""
        while self._idle:
            self._idle.pop().close()


_CURRENT: ContextVar[WorkerPool | None] = ContextVar("edgekit_worker_pool", default=None)


def current_pool() -> WorkerPool | None:
    """The pool of the innermost :func:`kept_workers`, None outside of it."""
    return _CURRENT.get()


@contextmanager
def kept_workers() -> Iterator[WorkerPool]:
    """Within it :func:`edgekit.devices.open_runner` reuses workers of the default device, one for each open file.

    All of them end with it. Nested uses share the outer pool.
    """
    outer = _CURRENT.get()
    if outer is not None:
        yield outer
        return
    pool = WorkerPool()
    token = _CURRENT.set(pool)
    try:
        yield pool
    finally:
        _CURRENT.reset(token)
        pool.close()
