"""``edgekit finetune``."""

from __future__ import annotations

from typing import Any

import click

from edgekit.cli.options import emit, factory_option, training_options, training_overrides
from edgekit.cli.progress import epoch_bar


@click.command()
@click.argument("source")
@click.option("--qat", is_flag=True, help="Quantization-aware: learn with the roundings of int8 files in place.")
@click.option("--distil-from", metavar="SOURCE", help="A teacher whose outputs are learned too.")
@factory_option
@click.option("--teacher-factory", metavar="file.py:NAME", help="The same as --factory for --distil-from.")
@training_options
def command(
    source: str, qat: bool, distil_from: str | None, lr: float | None, processes: int | None, **shared: Any
) -> None:
    """Goes on from trained weights: new classes, recovery, distillation.

    SOURCE is a zoo name, a checkpoint (.safetensors), file.py:factory or pkg.mod:factory. Classes that differ from
    those of SOURCE get a new last layer. With --qat the checkpoint carries the ranges that int8 files need; export and
    quantize take them along.
    """
    from edgekit.pipeline.finetune import finetune
    from edgekit.report.verbs import render_training

    with epoch_bar() as progress:
        overrides = training_overrides(lr=lr, processes=processes)
        result = finetune(source, qat=qat, distil_from=distil_from, overrides=overrides, progress=progress, **shared)
    emit("finetune", result, render=render_training)
