"""How an epoch of training is told: a bar where somebody watches, else one line."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edgekit.progress import task, watched

log = logging.getLogger("edgekit")
EpochReport = Callable[[int, int, float, float, str], None]
"""Called after each epoch with (epoch, epochs, mean training loss, score, what the score is)."""


@contextmanager
def epochs_shown(epochs: int) -> Iterator[EpochReport]:
    """Gives the ``progress`` of ``train``, ``finetune`` and ``prune`` where nobody gives another."""
    if not watched():
        yield log_epoch
        return
    with task("training", epochs) as going:

        def report(epoch: int, epochs: int, loss: float, score: float, name: str) -> None:
            going.update(epoch, epochs, f"loss {loss:.4f}, {shown(score, name)}")

        yield report


def log_epoch(epoch: int, epochs: int, loss: float, score: float, name: str) -> None:
    """A line of the log."""
    log.info("epoch %d of %d: loss %.4f, %s", epoch, epochs, loss, shown(score, name))


def shown(score: float, name: str) -> str:
    """A share as a percentage; an error, which is given as minus its value, as it is."""
    if " minus " in name:
        return f"{name.replace(' minus ', ' ')} {-score:.4g}"
    return f"{name} {score:.2%}"
