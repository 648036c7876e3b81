"""``models``: the zoo, as its shipped cards describe it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgekit import registry
from edgekit.models.checkpoint import load_checkpoint
from edgekit.models.family import family, parameter_count


@dataclass(frozen=True, slots=True)
class ModelsResult:
    """One row a family."""

    rows: tuple[dict[str, Any], ...]

    def document(self) -> dict[str, Any]:
        """The body of the JSON document ``edgekit.models/1``."""
        return {"models": list(self.rows)}


def models() -> ModelsResult:
    """Every family with its description and, where weights are shipped, parameters, task and measured quality."""
    return ModelsResult(tuple(_row(name) for name in registry.names("families")))


def _row(name: str) -> dict[str, Any]:
    kin = family(name)
    row: dict[str, Any] = {
        "name": name,
        "description": kin.description,
        "data": kin.data,
        "weights": kin.weights.is_file(),
    }
    if row["weights"]:
        network = load_checkpoint(kin.weights)
        row |= {
            "parameters": parameter_count(network.module),
            "bytes": kin.weights.stat().st_size,
            "task": asdict(network.task),
            "quality": [asdict(quality) for quality in network.card.quality],
            "steps": [asdict(step) for step in network.card.steps],
        }
    return row
