"""``edgekit train softmax``: one hidden layer for waves, whose task is ``top-2``."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import nn

from edgekit.data.dataset import Dataset
from edgekit.models.family import Family, Fitted, Hyperparameters, classifier
from edgekit.types import InputSpec


def softmax(*, levels: int, classes: int) -> nn.Sequential:
    """(B, levels) -> logits (B, classes)."""
    return nn.Sequential(nn.Linear(levels, 64), nn.ReLU(), nn.Linear(64, classes))


def _fit(data: Dataset) -> Fitted:
    levels = np.asarray(data.arrays["wave"])
    contract = InputSpec("wave", mean=tuple(levels.mean(0).tolist()), std=tuple(levels.std(0).tolist()))
    fitted = classifier(data, contract, {"levels": levels.shape[1]})
    return replace(fitted, task=replace(fitted.task, kind="top-2"))


FAMILY = Family(
    name="softmax",
    build=softmax,
    description="one hidden layer for waves",
    data="waves",
    kinds=("wave",),
    fit=_fit,
    options=Hyperparameters(epochs=10, batch=32, lr=1e-2, optimizer="adamw"),
)
