"""What ``edgekit prune`` made, counted."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from safetensors.torch import save

from edgekit.pipeline.prune.trial import PruneTrial
from edgekit.pruning.channels import examples
from edgekit.pruning.macs import layer_macs
from edgekit.results.eval import drop
from edgekit.results.train import CheckpointFile, Counts, MacsChange, PruneQuality, PruneResult, Sparsity
from edgekit.types import Network, Quality, Step


def result_of(
    file: CheckpointFile,
    parent: Network,
    trial: PruneTrial,
    step: Step,
    before: Quality | None,
    candidates: Sequence[Mapping[str, Any]],
) -> PruneResult:
    """What is published of ``trial``. ``parent``: the network before; ``step``: the pruning as a whole."""
    network, params = trial.network, step.params
    return PruneResult(
        checkpoint=file,
        method=params["method"],
        amount=params["amount"],
        macs=MacsChange(before=_macs(parent), after=_macs(network)),
        parameters=Counts(_parameters(parent), _parameters(network)),
        sparsity=Sparsity(params["weights"], params["zeros"]) if "zeros" in params else None,
        compressed_bytes=Counts(deflated(parent), deflated(network)),
        kept={name: tuple(widths) for name, widths in params.get("kept", {}).items()},
        blocks=tuple(params.get("blocks", ())),
        quality=_quality(before, trial),
        training=trial.fit,
        candidates=tuple(candidates),
        steps=network.card.steps,
        notes=trial.notes,
        network=network,
    )


def _quality(before: Quality | None, trial: PruneTrial) -> PruneQuality | None:
    if before is None or trial.after_pruning is None:
        return None
    last = trial.after_finetuning or trial.after_pruning
    return PruneQuality(
        metric=before.metric,
        before=before.value,
        after_pruning=trial.after_pruning.value,
        after_finetuning=None if trial.after_finetuning is None else trial.after_finetuning.value,
        drop=drop(before, last),
        data=last.data,
        total=last.total,
    )


def _macs(network: Network) -> int:
    return sum(layer_macs(network.module, examples(network)).values())


def _parameters(network: Network) -> int:
    return sum(p.numel() for p in network.module.parameters())


def deflated(network: Network) -> int:
    """Bytes of the weights after DEFLATE (as in a .zip), at its strongest."""
    state = {name: value.detach().cpu().contiguous().clone() for name, value in network.module.state_dict().items()}
    return len(zlib.compress(save(state), 9))
