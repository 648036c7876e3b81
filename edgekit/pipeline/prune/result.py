"""What ``edgekit prune`` made, as a document."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import save

from edgekit.models.training import Fit
from edgekit.passes.macs import layer_macs
from edgekit.passes.prune_channels import examples
from edgekit.quality.evaluate import drop
from edgekit.types import Network, Quality, Step


@dataclass(frozen=True)
class PruneResult:
    """What ``edgekit prune`` made. Quality is None where no labelled data was given.

    Attributes:
        parent: the network before.
        step: the pruning as a whole, whatever its steps.
        found: how the amount was found, where it was looked for: candidates with their figures.
    """

    path: Path
    bytes: int
    sha256: str
    parent: Network
    network: Network
    step: Step
    before: Quality | None
    after_pruning: Quality | None
    after_finetuning: Quality | None
    fit: Fit | None
    notes: tuple[str, ...]
    found: tuple[Mapping[str, Any], ...] = field(default=())

    def document(self) -> dict[str, Any]:
        """The body of the JSON document ``edgekit.prune/1``."""
        params = self.step.params
        macs: dict[str, Any] = {
            name: sum(layer_macs(n.module, examples(n)).values())
            for name, n in (("before", self.parent), ("after", self.network))
        }
        macs["removed"] = 1 - macs["after"] / macs["before"]
        return {
            "checkpoint": {
                "path": str(self.path),
                "bytes": self.bytes,
                "sha256": self.sha256,
            },
            "method": params["method"],
            "amount": params["amount"],
            "macs": macs,
            "parameters": {"before": _parameters(self.parent), "after": _parameters(self.network)},
            "sparsity": {name: params[name] for name in ("weights", "zeros")} if "zeros" in params else None,
            "compressed_bytes": {"before": deflated(self.parent), "after": deflated(self.network)},
            "kept": {name: list(widths) for name, widths in params.get("kept", {}).items()},
            "blocks": list(params.get("blocks", ())),
            "quality": self._quality(),
            "training": None if self.fit is None else asdict(self.fit),
            "candidates": [dict(row) for row in self.found],
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


def _parameters(network: Network) -> int:
    return sum(p.numel() for p in network.module.parameters())


def deflated(network: Network) -> int:
    """Bytes of the weights after DEFLATE (as in a .zip), at its strongest."""
    state = {name: value.detach().cpu().contiguous().clone() for name, value in network.module.state_dict().items()}
    return len(zlib.compress(save(state), 9))
