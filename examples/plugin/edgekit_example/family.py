"""``edgekit train softmax``: one hidden layer for tables, whose task is ``top-2``."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from edgekit.data.dataset import Dataset
from edgekit.models.family import Family, Fitted, Hyperparameters, classifier, measure_contract


def softmax(*, columns: int, classes: int) -> nn.Sequential:
    """(B, columns) -> logits (B, classes)."""
    return nn.Sequential(nn.Linear(columns, 64), nn.ReLU(), nn.Linear(64, classes))


def _fit(data: Dataset) -> Fitted:
    contract = measure_contract(data)
    fitted = classifier(data, contract, {"columns": len(contract.mean)})
    return replace(fitted, task=replace(fitted.task, kind="top-2"))


FAMILY = Family(
    name="softmax",
    build=softmax,
    description="one hidden layer for tables",
    data="waves",
    kinds=("table",),
    fit=_fit,
    options=Hyperparameters(epochs=10, batch=32, lr=1e-2, optimizer="adamw"),
)
