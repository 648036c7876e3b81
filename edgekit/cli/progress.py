"""Progress on standard error: bars in a terminal, lines elsewhere, nothing with -q."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from edgekit.cli.options import State
from edgekit.escapes import visible
from edgekit.report.epochs import log_epoch, shown

if TYPE_CHECKING:
    from rich.progress import TaskID

EpochReport = Callable[[int, int, float, float, str], None]
"""Called after each epoch with (epoch, epochs, mean training loss, score, what the score is)."""


@contextmanager
def epoch_bar() -> Iterator[EpochReport]:
    """Gives the ``progress`` argument of ``train``, ``finetune`` and ``prune``; to be used inside a command."""
    quiet = click.get_current_context().ensure_object(State).quiet
    if quiet or not sys.stderr.isatty():
        yield log_epoch
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("epoch"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def report(epoch: int, epochs: int, loss: float, score: float, name: str) -> None:
            told = visible(f"loss {loss:.4f}  {shown(score, name)}")
            bar.update(task, total=epochs, completed=epoch, description=escape(told))

        yield report


FleetReport = Callable[[str, str, int, int], None]
"""Called with (devices of a machine, what is being done there, how much of it, of how much; 0 of 0: not known)."""


@contextmanager
def fleet_bars(several: bool) -> Iterator[FleetReport | None]:
    """Gives the ``progress`` argument of ``bench``: a bar for each machine; to be used inside a command.

    ``several``: there is more than one device, so that lines are worth reading where there is no terminal.
    """
    quiet = click.get_current_context().ensure_object(State).quiet
    if quiet or not sys.stderr.isatty():
        yield _changes() if several and not quiet else None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("{task.fields[device]}", markup=False), BarColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def report(device: str, what: str, done: int, total: int) -> None:
            if device not in tasks:
                tasks[device] = bars.add_task("", total=None, device=visible(device))
            told = escape(visible(f"{what} {done} of {total}" if total else what))
            bars.update(tasks[device], description=told, completed=done, total=total or None)

        yield report


def _changes() -> FleetReport:
    """One line whenever a machine begins something else."""
    doing: dict[str, str] = {}

    def report(device: str, what: str, done: int, total: int) -> None:
        if doing.get(device) != what:
            doing[device] = what
            logging.getLogger("edgekit").info("%s: %s", device, what)

    return report
