"""Options of ``edgekit train`` and ``edgekit finetune``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekit.options.base import Options, changed, option
from edgekit.options.shared import (
    CHECKPOINT,
    DATA,
    EPOCHS,
    FACTORY,
    IO_FILE,
    LR,
    OVERRIDES,
    PROCESSES,
    PROGRESS,
    SEED,
    SOURCE,
    TASK,
    TRAIN_ON,
    WEIGHTS,
)

_EPOCHS = changed(
    EPOCHS, help="Passes over the data; without it the family's own number, 10 for finetune, more for small data."
)
_SIZE = option("Height and width that pictures are brought to.", metavar="N|HxW")
_LOSS = option("What is minimised, your own function of outputs and answers.", metavar="file.py:NAME", names="code")
_LR = changed(LR, help="Peak learning rate; the family's own without it.")
_ON = changed(TRAIN_ON, flags=("--on",))


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOptions(Options):
    """What ``train`` and ``finetune`` share."""

    data: str = field(metadata=DATA)
    epochs: int | None = field(default=None, metadata=_EPOCHS)
    seed: int = field(default=0, metadata=SEED)
    on: str = field(default="cpu", metadata=_ON)
    lr: float | None = field(default=None, metadata=_LR)
    size: str | None = field(default=None, metadata=_SIZE)
    loss: str | None = field(default=None, metadata=_LOSS)
    processes: int | None = field(default=None, metadata=PROCESSES)
    out: str | Path = field(metadata=CHECKPOINT)
    overrides: Mapping[str, Any] | None = field(default=None, metadata=OVERRIDES)
    progress: Callable[[int, int, float, float, str], None] | None = field(
        default=None, metadata=PROGRESS, compare=False
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions(TrainingOptions):
    """The options of ``train``."""

    family: str = field(
        kw_only=False,
        metadata=option("A name of 'edgekit models'.", metavar="FAMILY", takes="family", aliases=("family-name",)),
    )
    hold_out: str | None = field(
        default=None,
        metadata=option("Anomaly detection: the class that is not learned; the last without it.", metavar="CLASS"),
    )
    builder: Mapping[str, Any] | None = field(
        default=None,
        metadata=option('Keyword arguments of the family\'s builder ({"width": 24}).', python=True),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneOptions(TrainingOptions):
    """The options of ``finetune``."""

    source: str | Path = field(kw_only=False, metadata=SOURCE)
    qat: bool = field(
        default=False,
        metadata=option("Quantization-aware: train with the rounding of int8 files in place."),
    )
    distil_from: str | Path | None = field(
        default=None,
        metadata=option("A teacher whose outputs are learned, too.", metavar="SOURCE", names="network"),
    )
    factory: str | None = field(default=None, metadata=FACTORY)
    weights: str | Path | None = field(default=None, metadata=WEIGHTS)
    io_file: str | Path | None = field(default=None, metadata=IO_FILE)
    task: str | None = field(default=None, metadata=TASK)
    teacher_factory: str | None = field(
        default=None, metadata=changed(FACTORY, help="The same as --factory for --distil-from.")
    )
