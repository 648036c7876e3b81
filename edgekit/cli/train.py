"""``edgekit train``."""

from __future__ import annotations

from typing import Any

from edgekit.cli.generate import verb_command
from edgekit.cli.options import emit
from edgekit.options.train import TrainOptions


@verb_command(TrainOptions, log=True)
def command(**options: Any) -> None:
    """Trains a network family from scratch and keeps the best weights.

    FAMILY is a name of 'edgekit models'. A run that was stopped goes on when the same command is given again.
    """
    from edgekit.pipeline.train import train
    from edgekit.report.verbs import render_training

    emit("train", train(**options), render=render_training)
