"""Whether a series of call times has become steady: a test for a change-point in what followed the first calls.

Pettitt's rank test (1979, 10.2307/2346729) finds one shift at an unknown place and, having ranks, any trend as well.
It is fed the medians of a few bins, since single calls are interrupted and neighbours are alike. What is significant
but too small to matter does not count, as in Barrett et al. 2017 (10.1145/3133876), who use change-points to find
where the warm-up of virtual machines ends. A short series can hide a trend in its noise, so the two halves must agree
as well.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FEWEST = 16
"""Fewer calls than this cannot show a trend (the test has no power there); then only count and time decide."""
MATTERS = 0.02
"""A shift of the level by less than this share is within what a warm-up may leave."""
SIGNIFICANT = 0.05
_BINS = 32


def is_steady(samples: Sequence[int] | NDArray[np.generic]) -> bool:
    """True if the last three quarters of ``samples`` (nanoseconds, in order) show no shift that matters.

    Both hold then: the medians of their halves differ by at most :data:`MATTERS`, and no place splits them into two
    levels that differ by more, with significance. With fewer than :data:`FEWEST` samples in all: False.
    """
    values = np.asarray(samples, dtype=np.float64)
    if values.size < FEWEST:
        return False
    recent = values[values.size // 4 :]
    first, last = (float(np.median(half)) for half in np.array_split(recent, 2))
    if abs(first - last) > MATTERS * last:
        return False
    bins = [float(np.median(part)) for part in np.array_split(recent, min(_BINS, recent.size))]
    place, chance = pettitt(bins)
    before, after = float(np.median(bins[:place])), float(np.median(bins[place:]))
    return chance > SIGNIFICANT or abs(before - after) <= MATTERS * after


def pettitt(values: Sequence[float]) -> tuple[int, float]:
    """Where a series most probably shifts (index of the first value after it), and the chance that it does not.

    Two-sided; the chance is Pettitt's approximation ``2 exp(-6 K^2 / (n^3 + n^2))``, too large rather than too small
    for short series.
    """
    series = np.asarray(values, dtype=np.float64)
    count = series.size
    signs = np.sign(series[:, None] - series[None, :])  # (n, n)
    totals = np.array([signs[:place, place:].sum() for place in range(1, count)])
    best = int(np.argmax(np.abs(totals)))
    chance = 2 * float(np.exp(-6 * totals[best] ** 2 / (count**3 + count**2)))
    return best + 1, min(chance, 1.0)
