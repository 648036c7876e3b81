"""``edgekit train``."""

from __future__ import annotations

from typing import Any

import click

from edgekit.cli.options import emit, training_options, training_overrides
from edgekit.cli.progress import epoch_bar


@click.command()
@click.argument("family")
@click.option("--hold-out", metavar="CLASS", help="Anomaly detection: the class not learnt; the last without it.")
@training_options
def command(family: str, hold_out: str | None, lr: float | None, processes: int | None, **shared: Any) -> None:
    """Trains a network family from scratch and keeps the best weights.

    FAMILY is a name of 'edgekit models'. A run that was stopped goes on when the same command is given again.
    """
    from edgekit.pipeline.train import train
    from edgekit.report.verbs import render_training

    with epoch_bar() as progress:
        overrides = training_overrides(lr=lr, processes=processes)
        result = train(family, hold_out=hold_out, overrides=overrides, progress=progress, **shared)
    emit("train", result, render=render_training)
