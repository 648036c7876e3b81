"""What ``train``, ``finetune`` and ``prune`` make: a checkpoint, how it was trained, how good it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekit.results.base import Result, derived, hidden
from edgekit.types import Network, Quality, Step


@dataclass(frozen=True, slots=True)
class Fit:
    """Epochs run in this process, the best one (from 1), its validation score (see Objective), samples."""

    epochs_run: int
    best_epoch: int
    validation_score: float
    validation_samples: int
    samples: int


@dataclass(frozen=True, slots=True)
class Training:
    """How it went, and the seconds it took."""

    fit: Fit = field(metadata={"beside": True})
    seconds: float


@dataclass(frozen=True, kw_only=True)
class CheckpointFile:
    """The file that was written."""

    path: Path
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class TrainedFile(CheckpointFile):
    """With the number of its parameters."""

    parameters: int


@dataclass(frozen=True, kw_only=True, repr=False)
class TrainResult(Result):
    """A trained checkpoint.

    Attributes:
        quality: on data it has not seen, the first of the figures in its card.
        simulated_int8: the same with the roundings of int8, of quantization-aware training.
        network: None where the result was read from a document.
    """

    checkpoint: TrainedFile
    family: str
    training: Training
    quality: Quality | None
    simulated_int8: Quality | None = None
    steps: tuple[Step, ...] = ()
    network: Network = hidden(read=lambda table, where: None)

    @property
    def path(self) -> Path:
        return self.checkpoint.path


@dataclass(frozen=True, slots=True)
class Counts:
    """Of the network before and after."""

    before: int
    after: int


@dataclass(frozen=True, kw_only=True)
class MacsChange:
    """Multiply-accumulates; ``removed``: share of them that left."""

    before: int
    after: int
    removed: float = derived(lambda work: 1 - work.after / work.before)


@dataclass(frozen=True, slots=True)
class Sparsity:
    """Weights that were looked at, and those that are zero."""

    weights: int
    zeros: int


@dataclass(frozen=True, kw_only=True)
class PruneQuality:
    """The figure of merit before and after; ``drop``: what is lost in the end."""

    metric: str
    before: float
    after_pruning: float
    after_finetuning: float | None
    drop: float
    data: str
    total: int

    @property
    def last(self) -> float:
        """In the end."""
        return self.after_pruning if self.after_finetuning is None else self.after_finetuning


@dataclass(frozen=True, kw_only=True, repr=False)
class PruneResult(Result):
    """What ``edgekit prune`` made.

    Attributes:
        kept: layer -> channels that are left, and that it had.
        blocks: residual blocks that left.
        quality: null where no labelled data was given.
        candidates: how the amount was found, where it was looked for.
        network: None where the result was read from a document.
    """

    checkpoint: CheckpointFile
    method: str
    amount: float
    macs: MacsChange
    parameters: Counts
    sparsity: Sparsity | None
    compressed_bytes: Counts
    kept: Mapping[str, tuple[int, ...]]
    blocks: tuple[str, ...]
    quality: PruneQuality | None
    training: Fit | None
    candidates: tuple[Mapping[str, Any], ...]
    steps: tuple[Step, ...] = ()
    notes: tuple[str, ...]
    network: Network = hidden(read=lambda table, where: None)

    @property
    def path(self) -> Path:
        return self.checkpoint.path
