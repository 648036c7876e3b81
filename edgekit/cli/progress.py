"""Progress of a training run on standard error: a bar in a terminal, a line an epoch elsewhere, nothing with -q."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from edgekit.cli.options import State

EpochReport = Callable[[int, int, float, float, str], None]
"""Called after each epoch with (epoch, epochs, mean training loss, score, what the score is)."""


@contextmanager
def epoch_bar() -> Iterator[EpochReport]:
    """Gives the ``progress`` argument of ``train``, ``finetune`` and ``prune``; to be used inside a command."""
    quiet = click.get_current_context().ensure_object(State).quiet
    if quiet or not sys.stderr.isatty():
        yield _lines
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("epoch"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def report(epoch: int, epochs: int, loss: float, score: float, name: str) -> None:
            bar.update(task, total=epochs, completed=epoch, description=f"loss {loss:.4f}  {shown(score, name)}")

        yield report


def _lines(epoch: int, epochs: int, loss: float, score: float, name: str) -> None:
    log = logging.getLogger("edgekit")
    log.info("epoch %d of %d: loss %.4f, %s", epoch, epochs, loss, shown(score, name))


def shown(score: float, name: str) -> str:
    """A share as a percentage; an error, which is given as minus its value, as it is."""
    if " minus " in name:
        return f"{name.replace(' minus ', ' ')} {-score:.4g}"
    return f"{name} {score:.2%}"
