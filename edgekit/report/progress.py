"""Progress of training on standard error: a bar on a terminal, one line an epoch elsewhere."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger("edgekit")
EpochProgress = Callable[[int, int, float, float], None]


@contextmanager
def epoch_progress(what: str) -> Iterator[EpochProgress]:
    """A callback ``(epoch, epochs, loss, validation accuracy)`` that shows where training stands; quiet with -q."""
    if not (sys.stderr.isatty() and log.isEnabledFor(logging.INFO)):

        def line(epoch: int, epochs: int, loss: float, accuracy: float) -> None:
            log.info("%s: epoch %d/%d, loss %.4f, validation %.2f%%", what, epoch, epochs, loss, 100 * accuracy)

        yield line
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]} validation {task.fields[accuracy]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=None, loss="…", accuracy="…")

        def advance(epoch: int, epochs: int, loss: float, accuracy: float) -> None:
            bar.update(task, total=epochs, completed=epoch, loss=f"{loss:.4f}", accuracy=f"{100 * accuracy:.2f}%")

        yield advance
