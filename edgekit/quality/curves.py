"""What is traded as the threshold of a score moves: precision over recall, right over false alarms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.quality.matches import RECALLS, Matches
from edgekit.results.eval import Curve
from edgekit.types import Array

MOST = 20
"""Classes up to which each has its curve."""


def precision_recall(names: Sequence[str], scores: Array, wanted: Array) -> tuple[Curve, ...]:
    """For each class that occurs, of float scores and targets of 0 and 1 (samples, classes); none for too many."""
    if wanted.shape[1] > MOST:
        return ()
    found = []
    for name, score, right in zip(names, scores.T, wanted.T == 1, strict=False):
        if right.any():
            hits, others = _above(score, right)
            best = np.maximum.accumulate((hits / (hits + others))[::-1])[::-1]
            found.append(_of_precision(name, best[np.searchsorted(hits / hits[-1], RECALLS)]))
    return tuple(found)


def _above(scores: Array, positive: Array) -> tuple[Array, Array]:
    """How many positives, and how many others, score at least as much as each score there is, the largest first."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)  # of equal scores all or none are above
    return np.cumsum(positive[order])[last], np.cumsum(~positive[order])[last]


def of_matches(names: Sequence[str], matches: Matches) -> tuple[Curve, ...]:
    """For each class that occurs, of boxes that overlap by half or more; none for too many classes."""
    there = np.flatnonzero(matches.counts.sum(0)).tolist()
    if len(there) > MOST:
        return ()
    first, weights = matches.at_first_overlap(), np.ones(len(matches.counts))
    return tuple(_of_precision(names[k], first.precision(weights, k)[0]) for k in there)


def _of_precision(name: str, precision: Array) -> Curve:
    points = zip(RECALLS.tolist(), precision.tolist(), strict=True)
    return Curve(kind="precision-recall", name=name, points=tuple((round(x, 4), round(y, 4)) for x, y in points))


def roc(name: str, scores: Array, positive: Array) -> Curve:
    """The share of positives above each threshold, over that of the others; at most 102 points."""
    hits, others = _above(scores, positive)
    across, up = np.append(0, others / max(others[-1], 1)), np.append(0, hits / max(hits[-1], 1))
    kept = np.unique(np.append(0, np.searchsorted(across, RECALLS, side="right") - 1))
    return Curve(kind="roc", name=name, points=tuple(zip(across[kept].tolist(), up[kept].tolist(), strict=True)))
