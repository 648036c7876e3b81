"""When a model that runs for long becomes slower: the change-point of a series of medians. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
SIGNIFICANCE = 0.01
LEAST_CHANGE = 0.03
"""A change below this share is not called throttling, however certain it is."""
FEWEST = 10
"""Windows below which nothing is said."""


@dataclass(frozen=True, slots=True)
class Change:
    """The one point that splits a series best: ``index`` of the first value after it.

    ``ratio``: median after over median before; ``p``: share of shuffled series that split as well.
    """

    index: int
    ratio: float
    p: float

    @property
    def real(self) -> bool:
        """Whether it is not an accident and large enough to matter."""
        return self.p < SIGNIFICANCE and abs(self.ratio - 1) > LEAST_CHANGE


def change_point(values: NDArray[np.float64], seed: int = 0) -> Change | None:
    """Where ``values`` change their level, by ranks; None for fewer than :data:`FEWEST` values.

    Pettitt's statistic (1979, 10.2307/2346729): the largest absolute sum of centred ranks. Ranks, so that single
    interrupted windows do not count for more than their place; its p by shuffling, which holds for few values too.
    """
    count = values.size
    if count < FEWEST:
        return None
    order = values.argsort(kind="stable").argsort(kind="stable").astype(np.float64)
    ranks = order - order.mean()
    sums = np.abs(np.cumsum(ranks)[:-1])
    index = int(sums.argmax()) + 1
    generator = np.random.Generator(np.random.PCG64(seed))
    shuffled = generator.permuted(np.tile(ranks, (RESAMPLES, 1)), axis=1)
    found = np.abs(np.cumsum(shuffled, axis=1)[:, :-1]).max(axis=1)
    p = float((1 + (found >= sums.max() - 1e-9).sum()) / (1 + RESAMPLES))
    return Change(index, float(np.median(values[index:]) / np.median(values[:index])), p)
