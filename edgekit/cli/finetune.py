"""``edgekit finetune``."""

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
@click.argument("source")
@data_option(required=True)
@click.option("--epochs", type=click.IntRange(1), help="Passes over the data; the family's own number without it.")
@click.option("--qat", is_flag=True, help="Quantization-aware: learn with the roundings of int8 files in place.")
@click.option("--distil-from", metavar="SOURCE", help="A teacher whose outputs are learned too.")
@seed_option
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Where to train.")
@training_options
@out_option("Checkpoint to write (.safetensors).", "OUT.safetensors")
@output_options
def command(
    source: str,
    data: str,
    epochs: int | None,
    qat: bool,
    distil_from: str | None,
    seed: int,
    device: str,
    lr: float | None,
    processes: int | None,
    out: str,
) -> None:
    """Goes on from trained weights: new classes, recovery, distillation.

    SOURCE is a zoo name, a checkpoint (.safetensors), file.py:factory or pkg.mod:factory. Classes that differ from
    those of SOURCE get a new last layer. With --qat the checkpoint carries the ranges that int8 files need; export and
    quantize take them along.
    """
    from edgekit.pipeline.finetune import finetune
    from edgekit.report.verbs import render_training

    with epoch_bar() as progress:
        result = finetune(
            source,
            data=data,
            epochs=epochs,
            distil_from=distil_from,
            qat=qat,
            seed=seed,
            device=device,
            out=out,
            overrides=training_overrides(lr=lr, processes=processes),
            progress=progress,
        )
    emit("finetune", result, render=render_training)
