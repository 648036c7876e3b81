"""How an epoch of training is told in one line."""

from __future__ import annotations

import logging

log = logging.getLogger("edgekit")


def log_epoch(epoch: int, epochs: int, loss: float, score: float, name: str) -> None:
    """The ``progress`` of ``train``, ``finetune`` and ``prune`` where nobody gives another."""
    log.info("epoch %d of %d: loss %.4f, %s", epoch, epochs, loss, shown(score, name))


def shown(score: float, name: str) -> str:
    """A share as a percentage; an error, which is given as minus its value, as it is."""
    if " minus " in name:
        return f"{name.replace(' minus ', ' ')} {-score:.4g}"
    return f"{name} {score:.2%}"
