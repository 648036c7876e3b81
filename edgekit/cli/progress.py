"""Bars on standard error while a command works; lines of the log elsewhere, nothing with -q."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edgekit.escapes import in_one_line
from edgekit.progress import Task, watching
from edgekit.report.wrap import columns_of

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

DUMB = ("dumb", "unknown")
"""Values of $TERM whose terminals cannot take back a line."""


@contextmanager
def bars(quiet: bool) -> Iterator[None]:
    """Within it every task of :mod:`edgekit.progress` is a bar, if standard error is a terminal that can show one."""
    shown = not quiet and sys.stderr.isatty() and os.environ.get("TERM", "") not in DUMB
    watcher = Bars() if shown else None
    try:
        with watching(watcher):
            yield
    finally:
        if watcher is not None:
            watcher.close()


class Bars:
    """A line for each task that is open: what it does, how much of it is done, how long it has taken and may take."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._progress: Progress | None = None
        self._open = 0

    @contextmanager
    def task(self, what: str, total: int | None, even: bool) -> Iterator[Task]:
        """See :class:`edgekit.progress.Watcher`."""
        with self._lock:
            progress = self._progress = self._progress or _begun()
            number = progress.add_task(in_one_line(what), total=total, count="", left="")
            self._open += 1
        try:
            yield _Shown(progress, number, in_one_line(what), total, even)
        finally:
            with self._lock:
                self._open -= 1
                if self._open:
                    progress.remove_task(number)
                else:
                    self.close()

    def close(self) -> None:
        """Takes the bars off the screen."""
        with self._lock:
            if self._progress is not None:
                self._progress.stop()
                self._progress = None


class _Shown:
    """A task on the screen."""

    def __init__(self, progress: Progress, number: TaskID, what: str, total: int | None, even: bool) -> None:
        self._progress, self._number, self._what, self._even = progress, number, what, even
        self._total = total
        self._from: tuple[float, int] | None = None
        self._began = time.monotonic()

    def update(self, done: int, total: int | None = None, detail: str = "") -> None:
        """See :class:`edgekit.progress.Task`."""
        now, total = time.monotonic(), self._total if total is None else total
        if total != self._total:  # another part of it begins
            self._total, self._from, self._began = total, None, now
        if self._from is None:  # work that an earlier run has done says nothing of how fast this one is
            self._from = (self._began, 0) if done <= 1 else (now, done)
        said = f"{self._what}: {in_one_line(detail)}" if detail else self._what
        count = f"{done}/{total}" if total else str(done or "")
        self._progress.update(
            self._number, completed=done, total=total or None, description=said, count=count,
            left=self._left(now, done),
        )  # fmt: skip

    def _left(self, now: float, done: int) -> str:
        """How long it may take, from the steps that were done here."""
        assert self._from is not None
        since, first = self._from
        if not self._even or not self._total or done <= first or done > self._total:
            return ""
        return f"about {_time((now - since) / (done - first) * (self._total - done))} left"


def _begun() -> Progress:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Column

    from edgekit.report.text import console

    out = console(sys.stderr, columns_of(sys.stderr))
    progress = Progress(
        TextColumn("{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
        BarColumn(bar_width=out.width // 6),
        TextColumn("{task.fields[count]}", markup=False, table_column=Column(no_wrap=True)),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}", markup=False, table_column=Column(no_wrap=True)),
        console=out,
        transient=True,
        expand=True,
    )
    progress.start()
    return progress


def _time(seconds: float) -> str:
    """12 s, 3:05, 1:02:03."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
