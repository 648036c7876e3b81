"""Options of ``edgekit prune``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    MAX_DROP,
    ON,
    OVERRIDES,
    PROGRESS,
    SEED,
    SOURCE,
    TASK,
    TRAIN_ON,
    WEIGHTS,
)

ROUND_TO = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneOptions(Options):
    """The options of ``prune``."""

    source: str | Path = field(kw_only=False, metadata=SOURCE)
    factory: str | None = field(default=None, metadata=FACTORY)
    weights: str | Path | None = field(default=None, metadata=WEIGHTS)
    io_file: str | Path | None = field(default=None, metadata=IO_FILE)
    task: str | None = field(default=None, metadata=TASK)
    method: str = field(
        default="channels",
        metadata=option(
            "What is removed: channels (units, heads), blocks (residual); magnitude, 2:4: weights.", metavar="METHOD"
        ),
    )
    amount: float | None = field(
        default=None,
        metadata=option(
            "Share of the multiply-accumulates (magnitude: of the weights) to remove.",
            metavar="A",
            above=0,
            below=1,
        ),
    )
    target_macs: int | None = field(
        default=None, metadata=option("Prune to N multiply-accumulates.", metavar="N", at_least=1)
    )
    target_latency: float | None = field(
        default=None, metadata=option("Prune until a run takes MS milliseconds on --on.", metavar="MS", above=0)
    )
    max_drop: float | None = field(
        default=None,
        metadata=changed(MAX_DROP, help="Largest loss of quality to publish; alone: prune as much as stays within it."),
    )
    on: str = field(default="cpu", metadata=ON)
    to: str = field(
        default="onnx",
        metadata=option("Format that is timed.", metavar="FORMAT", choices=("onnx", "tflite"), names="format"),
    )
    data: str | None = field(default=None, metadata=DATA)
    epochs: int | None = field(
        default=None,
        metadata=changed(EPOCHS, help="Passes of fine-tuning over --data (10 without it; 0: none).", at_least=0),
    )
    distil: bool | None = field(
        default=None,
        metadata=option("Learn from the unpruned network too (default: a classifier).", off="--no-distil"),
    )
    importance: str = field(
        default="magnitude",
        metadata=option(
            "What matters: magnitude, taylor, bn-scale, random (blocks: magnitude, random).", metavar="HOW"
        ),
    )
    steps: int | None = field(
        default=None,
        metadata=option("Reach the amount in this many steps, fine-tuning after each.", metavar="N", at_least=1),
    )
    spread: str = field(
        default="even",
        metadata=option("even: the same share of every group; global: where it costs least.", metavar="HOW"),
    )
    round_to: int = field(default=ROUND_TO, metadata=option("Widths are multiples of this.", metavar="N", at_least=1))
    keep: Sequence[str] = field(
        default=(),
        metadata=option(
            "Layers that stay as wide as they are, or blocks that stay; 'stem.*' is a pattern.", metavar="LAYER"
        ),
    )
    lr: float | None = field(
        default=None,
        metadata=changed(LR, help="Peak learning rate of the fine-tuning; a tenth of the family's without it."),
    )
    seed: int = field(default=0, metadata=SEED)
    train_on: str = field(default="cpu", metadata=TRAIN_ON)
    out: str | Path = field(metadata=CHECKPOINT)
    overrides: Mapping[str, Any] | None = field(default=None, metadata=OVERRIDES)
    progress: Callable[[int, int, float, float, str], None] | None = field(
        default=None, metadata=PROGRESS, compare=False
    )
