"""The task ``top-2``: trained like a classifier, right where the class is among the two likeliest."""

from __future__ import annotations

import numpy as np

from edgekit.data.dataset import Dataset
from edgekit.errors import DataError
from edgekit.models.objective import CLASSIFICATION
from edgekit.quality.evaluate import Runs, model_batches
from edgekit.results.eval import Evaluation
from edgekit.types import Card

OBJECTIVE = CLASSIFICATION
"""What training minimises, as the entry point of ``edgekit.objectives`` gives it."""


def top_two(runner: Runs, dataset: Dataset, card: Card | None, limit: int | None) -> Evaluation:
    """The share of the samples whose class is among the two largest outputs."""
    if dataset.labels is None:
        raise DataError(f"{dataset.label} has no labels")
    total = len(dataset) if limit is None else min(limit, len(dataset))
    start = hits = 0
    for feed, count in model_batches(runner.signature, dataset, card.contract if card else {}, total):
        (scores,) = runner.run(feed).values()
        best = np.argsort(scores[:count], axis=1)[:, -2:]
        hits += int((best == dataset.labels[start : start + count, None]).any(1).sum())
        start += count
    return Evaluation("top-2", hits / total, total, dataset.label, hits)
