"""What long work is doing and how much of it is done, for whoever shows it: a bar in a terminal, nothing elsewhere.

Work says it with :func:`task` or :func:`track`, wherever its loop is; a program that wants to show it calls
:func:`watching`. Without a watcher nothing happens, and what is to be read later is a line of the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Protocol, TypeVar

T = TypeVar("T")


class Task(Protocol):
    """A part of the work that is going on."""

    def update(self, done: int, total: int | None = None, detail: str = "") -> None:
        """``done`` of ``total`` (None: as it was), and what there is to say of it. May be called from any thread."""


class Watcher(Protocol):
    """Shows tasks: those that are open at the same time are parts of each other, or go on side by side."""

    def task(self, what: str, total: int | None, even: bool) -> AbstractContextManager[Task]:
        """Shows a task until its end; see :func:`task`."""


class _Unseen:
    def update(self, done: int, total: int | None = None, detail: str = "") -> None:
        """Nobody looks."""


_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watching(watcher: Watcher | None) -> Iterator[None]:
    """Within it ``watcher`` is shown every task."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


def watched() -> bool:
    """Whether somebody is shown what is going on, so that lines of the log need not say it."""
    return _watcher.get() is not None


def task(what: str, total: int | None = None, *, even: bool = True) -> AbstractContextManager[Task]:
    """A part of the work, to be used in a ``with``; its end is the end of the block.

    Args:
        what: as a user would say it: "calibrating".
        total: how many steps it has; None: not known.
        even: steps take about the same time, so that those that are done say how long the others may take.
    """
    watcher = _watcher.get()
    return nullcontext(_Unseen()) if watcher is None else watcher.task(what, total, even)


def track(
    items: Iterable[T], what: str, total: int | None = None, size: Callable[[T], int] = lambda item: 1
) -> Iterator[T]:
    """``items`` one after the other, as a task; ``size``: steps that an item counts for."""
    done = 0
    with task(what, total) as going:
        for item in items:
            going.update(done)
            yield item
            done += size(item)
        going.update(done)
