"""Mean and interval of what was taken in rounds by several worker processes. Pure functions over logarithms."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekit.bench.variance import BUILT_IN, RunVariance

_T975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Estimate:
    """A centre with its standard error; ``half`` is half the width of the 95% interval, infinite where unknown."""

    centre: float
    error: float
    half: float


def turns(rounds: int, replicas: int) -> list[int]:
    """Which of ``replicas`` workers takes each round: rounds 2k and 2k + 1 (an ABBA pair) go to k modulo replicas."""
    return [place // 2 % replicas for place in range(rounds)]


def replicated(
    values: NDArray[np.float64], owners: Sequence[Hashable], variance: RunVariance = BUILT_IN, factor: float = 1.0
) -> Estimate:
    """Mean over worker processes, with its interval. ``values``: one a round, on a logarithmic scale.

    Each worker (``owners``: one label a round) stands for itself by the trimmed mean of its rounds; the interval is
    Student's t over workers with a moderated variance (Smyth 2004, 10.2202/1544-6115.1027): what was seen between the
    workers, drawn towards what is expected, the spread of ``variance`` squared plus the variance within them, with its
    weight. ``factor``: how much wider than that the spread of ``values`` is (the square root of 2 for a ratio). With
    one worker there is nothing to see between processes: the interval within it is widened by what is expected.
    """
    spread = factor * variance.process
    names = list(dict.fromkeys(owners))
    groups = [values[[owner == name for owner in owners]] for name in names]
    if len(groups) < 2:
        pairs = values[: values.size - values.size % 2].reshape(-1, 2).mean(axis=1)
        centre, half = trimmed_mean(np.append(pairs, values[pairs.size * 2 :]))
        half = float(np.hypot(half, 1.96 * spread))
        return Estimate(centre, half / 1.96, half)
    means = np.array([trimmed_mean(group)[0] for group in groups])
    alike = [group.var(ddof=1) / group.size for group in groups if group.size > 1]
    within = float(np.mean(alike)) if alike else 0.0
    degrees = variance.weight + len(groups) - 1
    seen = float(means.var(ddof=1))
    moderated = (variance.weight * (spread**2 + within) + (len(groups) - 1) * seen) / degrees
    error = float(np.sqrt(moderated / len(groups)))
    return Estimate(float(means.mean()), error, t975(degrees) * error)


def between_sessions(variance: RunVariance) -> float:
    """Half the width of the 95% interval for what one session differs by, as a share."""
    return t975(variance.session_weight) * variance.session


def trimmed_mean(values: NDArray[np.float64], share: float = 0.2) -> tuple[float, float]:
    """Mean without the ``share`` lowest and highest values, and half the width of its 95% interval.

    Tukey and McLaughlin's interval: standard error from the winsorized deviation, Student's t with the degrees
    of freedom of what was kept (Wilcox, Introduction to Robust Estimation, 4.3). One value: infinite half-width.
    """
    ordered = np.sort(values)
    cut = int(share * ordered.size)
    kept = ordered[cut : ordered.size - cut]
    if kept.size < 2:
        return float(np.median(ordered)), float("inf")
    winsorized = np.clip(ordered, kept[0], kept[-1])
    error = float(winsorized.std(ddof=1)) / ((1 - 2 * cut / ordered.size) * np.sqrt(ordered.size))
    return float(kept.mean()), t975(kept.size - 1) * error


def t975(degrees: float) -> float:
    """The 97.5% point of Student's t: a table for whole degrees up to 30, between them linear in 1/degrees, beyond
    them the expansion of Abramowitz and Stegun 26.7.5."""
    if degrees < 1:
        return float("inf")
    if degrees <= len(_T975):
        low = int(degrees)
        if low == degrees:
            return _T975[low - 1]
        share = (1 / low - 1 / degrees) / (1 / low - 1 / (low + 1))
        return (1 - share) * _T975[low - 1] + share * _T975[min(low, len(_T975) - 1)]
    z = 1.959964
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
