"""``models``: the zoo, as its shipped cards describe it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgekit import registry
from edgekit.models.checkpoint import load_checkpoint
from edgekit.models.family import family, parameter_count, shipped
from edgekit.results.inspect import ModelRow, ModelsResult


def models() -> ModelsResult:
    """Every family with its description and, where weights are shipped, parameters, task and measured quality."""
    names = registry.names("families")
    weights = shipped()
    further = [name for name in weights if name not in names]
    return ModelsResult(tuple(_row(name, weights.get(name)) for name in (*names, *further)))


def _row(name: str, weights: Path | None) -> ModelRow:
    names = registry.names("families")
    kin = family(name if name in names else name.partition("-")[0])
    row = ModelRow(name=name, description=kin.described(name), data=kin.data, weights=weights is not None)
    if weights is None:
        return row
    network = load_checkpoint(weights)
    quality = network.card.quality
    return replace(
        row,
        data=quality[0].data.partition("@")[0] if quality else kin.data,
        parameters=parameter_count(network.module),
        bytes=weights.stat().st_size,
        task=network.task,
        quality=quality,
        steps=network.card.steps,
    )
