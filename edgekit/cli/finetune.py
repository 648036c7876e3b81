"""``edgekit finetune``."""

from __future__ import annotations

from typing import Any

from edgekit.cli.generate import verb_command
from edgekit.cli.options import emit
from edgekit.options.train import FinetuneOptions


@verb_command(FinetuneOptions, log=True)
def command(**options: Any) -> None:
    """Goes on from trained weights: new classes, recovery, distillation.

    SOURCE is a zoo name, a checkpoint (.safetensors), file.py:factory or pkg.mod:factory. Classes that differ from
    those of SOURCE get a new last layer. With --qat the checkpoint carries the ranges that int8 files need; export and
    quantize take them along.
    """
    from edgekit.pipeline.finetune import finetune
    from edgekit.report.verbs import render_training

    emit("finetune", finetune(**options), render=render_training)
