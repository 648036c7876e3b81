"""``edgekit train``."""

from __future__ import annotations

import click

from edgekit.cli.options import (
    data_option,
    emit,
    out_option,
    output_options,
    seed_option,
    training_options,
    training_overrides,
)
from edgekit.cli.progress import epoch_bar


@click.command()
@click.argument("family")
@data_option(required=True)
@click.option("--epochs", type=click.IntRange(1), help="Passes over the data; the family's own number without it.")
@seed_option
@click.option("--hold-out", metavar="CLASS", help="Anomaly detection: the class not learnt; the last without it.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Where to train.")
@training_options
@out_option("Checkpoint to write (.safetensors).", "OUT.safetensors")
@output_options
def command(
    family: str,
    data: str,
    epochs: int | None,
    seed: int,
    hold_out: str | None,
    device: str,
    lr: float | None,
    processes: int | None,
    out: str,
) -> None:
    """Trains a network family from scratch and keeps the best weights.

    FAMILY is a name of 'edgekit models'. A run that was stopped goes on when the same command is given again.
    """
    from edgekit.pipeline.train import train
    from edgekit.report.verbs import render_training

    with epoch_bar() as progress:
        result = train(
            family,
            data=data,
            epochs=epochs,
            seed=seed,
            hold_out=hold_out,
            device=device,
            out=out,
            overrides=training_overrides(lr=lr, processes=processes),
            progress=progress,
        )
    emit("train", result, render=render_training)
