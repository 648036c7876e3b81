"""``mlp``: a plain multilayer network for tables."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from edgekit.data import Dataset
from edgekit.models.family import Family, Fitted, Hyperparameters, classifier, measure_contract


def mlp(*, columns: int, classes: int, hidden: Sequence[int] = (32, 32), dropout: float = 0.1) -> nn.Sequential:
    """(B, columns) -> logits (B, classes) through ReLU layers of the widths ``hidden``.

    Raises:
        ValueError: a width below 1, or a dropout outside [0, 1).
    """
    if min(columns, classes, *hidden) < 1 or not 0 <= dropout < 1:
        raise ValueError(
            f"widths must be 1 or more and dropout in [0, 1), got {columns}, {classes}, {hidden}, {dropout}"
        )
    layers: list[nn.Module] = []
    width = columns
    for size in hidden:
        layers += [nn.Linear(width, size), nn.ReLU(), nn.Dropout(dropout)]
        width = size
    return nn.Sequential(*layers, nn.Linear(width, classes))


def _fit(data: Dataset) -> Fitted:
    contract = measure_contract(data)
    return classifier(data, contract, {"columns": len(contract.mean)})


FAMILY = Family(
    name="mlp",
    build=mlp,
    description="multilayer network for tables",
    data="breast-cancer",
    kinds=("table",),
    fit=_fit,
    options=Hyperparameters(
        epochs=60, batch=32, lr=5e-3, optimizer="adamw", weight_decay=1e-2, average=0.98, validation=0.15
    ),
)
