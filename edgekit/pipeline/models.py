"""``models``: the zoo, as its shipped cards describe it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgekit import registry
from edgekit.models.checkpoint import load_checkpoint
from edgekit.models.family import family, parameter_count, shipped


@dataclass(frozen=True, slots=True)
class ModelsResult:
    """One row a family, and one for each network that is shipped for further data."""

    rows: tuple[dict[str, Any], ...]

    def document(self) -> dict[str, Any]:
        """The body of the JSON document ``edgekit.models/1``."""
        return {"models": list(self.rows)}


def models() -> ModelsResult:
    """Every family with its description and, where weights are shipped, parameters, task and measured quality."""
    names = registry.names("families")
    weights = shipped()
    further = [name for name in weights if name not in names]
    return ModelsResult(tuple(_row(name, weights.get(name)) for name in (*names, *further)))


def _row(name: str, weights: Path | None) -> dict[str, Any]:
    names = registry.names("families")
    kin = family(name if name in names else name.partition("-")[0])
    row: dict[str, Any] = {
        "name": name,
        "description": kin.description,
        "data": kin.data,
        "weights": weights is not None,
    }
    if weights is not None:
        network = load_checkpoint(weights)
        row |= {
            "data": network.card.quality[0].data.partition("@")[0] if network.card.quality else kin.data,
            "parameters": parameter_count(network.module),
            "bytes": weights.stat().st_size,
            "task": asdict(network.task),
            "quality": [asdict(quality) for quality in network.card.quality],
            "steps": [asdict(step) for step in network.card.steps],
        }
    return row
