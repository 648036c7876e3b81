"""``edgekit prune``: a network loses channels, units or heads, recovers by fine-tuning, and is written down."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from edgekit.artifact import sha256_file
from edgekit.data import Dataset, open_data
from edgekit.errors import DataError, UnsupportedError, UsageError
from edgekit.models.checkpoint import save_checkpoint
from edgekit.models.training import Fit, Progress
from edgekit.passes.prune_channels import METHODS, PruneChannels
from edgekit.pipeline.finetune import finetune_options, fitted_to
from edgekit.pipeline.train import (
    checkpoint_path,
    module_quality,
    train_network,
    train_options,
    training_versions,
)
from edgekit.quality.evaluate import drop
from edgekit.source import resolve
from edgekit.source.foreign import require_torch
from edgekit.types import Network, Quality, Step

log = logging.getLogger("edgekit")
EPOCHS = 10
_LATER = {
    "magnitude": "single weights are not pruned yet: no runtime here has kernels that are faster for it",
    "2:4": "2:4 sparsity is not built yet: no runtime here has kernels that are faster for it",
}


@dataclass(frozen=True, slots=True)
class PruneOptions:
    """How channels leave and how the network recovers.

    Attributes:
        distil: the unpruned network is the teacher of the fine-tuning.
        spread, round_to: see :class:`~edgekit.passes.prune_channels.PruneChannels`.
        device: ``cpu`` or ``cuda``, to fine-tune on.
        overrides: fields of :class:`~edgekit.models.family.TrainOptions` to replace.
    """

    distil: bool = True
    spread: str = "even"
    round_to: int = 8
    device: str = "cpu"
    overrides: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PruneResult:
    """What ``edgekit prune`` made. Quality is None where no labelled data was given."""

    path: Path
    network: Network
    step: Step
    before: Quality | None
    after_pruning: Quality | None
    after_finetuning: Quality | None
    fit: Fit | None
    notes: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """The body of the JSON document ``edgekit.prune/1``."""
        params = self.step.params
        macs = {"before": params["macs_before"], "after": params["macs_after"]}
        macs["removed"] = 1 - macs["after"] / macs["before"]
        return {
            "checkpoint": {
                "path": str(self.path),
                "bytes": self.path.stat().st_size,
                "sha256": sha256_file(self.path),
            },
            "method": params["method"],
            "amount": params["amount"],
            "macs": macs,
            "parameters": {"before": params["parameters_before"], "after": params["parameters_after"]},
            "kept": {name: list(widths) for name, widths in params["kept"].items()},
            "quality": self._quality(),
            "training": None if self.fit is None else asdict(self.fit),
            "steps": [asdict(step) for step in self.network.card.steps],
            "notes": list(self.notes),
        }

    def _quality(self) -> dict[str, Any] | None:
        if self.before is None or self.after_pruning is None:
            return None
        last = self.after_finetuning or self.after_pruning
        return {
            "metric": self.before.metric,
            "before": self.before.value,
            "after_pruning": self.after_pruning.value,
            "after_finetuning": None if self.after_finetuning is None else self.after_finetuning.value,
            "drop": drop(self.before, last),
            "data": last.data,
            "total": last.total,
        }


def prune(
    source: str | Path,
    *,
    amount: float,
    out: str | Path,
    method: str = "channels",
    data: str | None = None,
    epochs: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    options: PruneOptions | None = None,
) -> PruneResult:
    """Prunes the network ``source`` and writes the checkpoint ``out``.

    Args:
        source: zoo name, checkpoint, ``file.py:factory``, ``pkg.mod:factory``, ``model.pt2``.
        amount: share of the multiply-accumulates to remove, above 0 and below 1. Widths are rounded, so somewhat more
            may leave; the result says how much.
        method: ``channels``.
        data: fine-tunes on its train split and measures on its test split; without it the network is pruned only.
        epochs: of fine-tuning (10 where it is None, 0 for none).
        seed, progress: as in :func:`edgekit.pipeline.train.train`.
        options: everything else.

    Raises:
        UsageError: an amount that makes no sense or cannot be reached; epochs without data.
        UnsupportedError: another method, or a network that cannot be traced.
        SourceError, DataError, GateError, DeviceError: as :func:`edgekit.pipeline.finetune.finetune`.
    """
    _check_method(method)
    if epochs is not None and epochs < 0:
        raise UsageError(f"epochs is {epochs}; give 0 or more")
    if epochs and data is None:
        raise UsageError("--epochs fine-tunes, which needs --data")
    chosen = options or PruneOptions()
    pruner = PruneChannels(amount, chosen.round_to, chosen.spread)
    place = checkpoint_path(out)
    network = resolve(source)
    require_torch(network, "prune")
    samples = None if data is None else open_data(data, default_split="train")
    if samples is not None:
        network = _fitted(network, samples)
    if network.task.kind != "classification":
        chosen = replace(chosen, distil=False)  # there are no logits to learn from
    before = _measured(network, samples)
    made = pruner.run(network)
    pruned = made.model
    assert isinstance(pruned, Network)
    step = pruned.card.steps[-1]
    log.info("%s", _said(step))
    after_pruning = _measured(pruned, samples)
    trained = None
    if samples is None or epochs == 0:
        card = replace(pruned.card, quality=() if after_pruning is None else (after_pruning,))
        pruned = replace(pruned, card=card)
        save_checkpoint(pruned, place)
    else:
        plan = train_options(finetune_options(pruned), epochs or EPOCHS, seed, chosen.overrides)
        plan = plan if chosen.distil else replace(plan, distil=0.0)
        taught = str(source) if chosen.distil else None
        params = {
            "source": str(source),
            "data": samples.label,
            "distil_from": taught,
            "device": chosen.device,
            **asdict(plan),
        }
        tuning = Step("finetune", params, training_versions())
        teacher = replace(network, module=copy.deepcopy(network.module)) if chosen.distil else None
        torch.manual_seed(seed)
        trained = train_network(
            pruned, samples, plan, place, tuning, device=chosen.device, teacher=teacher, progress=progress
        )
        pruned = trained.network
    recovered = None if trained is None else trained.quality
    fitted = None if trained is None else trained.fit
    return PruneResult(place, pruned, step, before, after_pruning, recovered, fitted, made.notes)


def _check_method(method: str) -> None:
    if method in METHODS:
        return
    if method in _LATER:
        raise UnsupportedError(f"--method {method}: {_LATER[method]}; there is: {', '.join(METHODS)}")
    raise UsageError(f"no pruning method is called {method!r}; there is: {', '.join(METHODS)}")


def _fitted(network: Network, samples: Dataset) -> Network:
    """``network`` with the contract and class names that the data imply where it has none of its own.

    Raises:
        DataError: the network has other classes than the data.
    """
    labels = network.task.labels
    if labels and samples.kind != "array" and labels != samples.classes:
        raise DataError(
            f"{network.name} has {len(labels)} classes ({', '.join(labels[:3])} …), {samples.label} has "
            f"{len(samples.classes)} ({', '.join(samples.classes[:3])} …); finetune to these classes first, then prune"
        )
    return fitted_to(network, samples)


def _measured(network: Network, samples: Dataset | None) -> Quality | None:
    """Quality on the test split; on what was given where it is no train split."""
    if samples is None:
        return None
    return module_quality(network, open_data(f"{samples.name}@test") if samples.split == "train" else samples)


def _said(step: Step) -> str:
    params = step.params
    share = 1 - params["macs_after"] / params["macs_before"]
    return (
        f"pruned {share:.1%} of {params['macs_before']:,} multiply-accumulates ({params['amount']:.0%} asked for), "
        f"{params['parameters_before']:,} -> {params['parameters_after']:,} parameters"
    )
