"""Figures from raw samples: percentiles, intervals, noise. Pure functions over integer nanoseconds.

Percentiles are nearest-rank and are given only with the sample count that supports them
(:data:`edgekit.types.SUPPORTED_SAMPLES`, MLPerf LoadGen's binomial bound at 99% confidence).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.bench.clock import Samples
from edgekit.types import SUPPORTED_SAMPLES, Latency

PROCESS_SPREAD = 0.008
"""What to expect of the standard deviation of one file's p50 between processes, as a share of the p50.

Where pages land in caches is drawn anew for each process, and no number of runs within one process shows it.
Measured by ``scripts/bench_trust`` (a file against its own copy): 0.5% to 1.2%, up to 5% for weights as large as a
cache.
"""
PRIOR_WEIGHT = 2
"""How many replicas the expectation :data:`PROCESS_SPREAD` counts for beside the ones that were measured."""
NOISY_CV = 0.05
"""Above this coefficient of variation of the block medians a result is ``noisy``."""
NOISY_DRIFT = 0.05
"""Above this change between the first and the last third of the block medians a result is ``noisy``."""
NOISY_INTERRUPTED = 0.1
"""Above this share of the time in calls beyond three times the p50 a result is ``noisy``: others took the core."""

REPORTED = (50.0, 90.0, 99.0, 99.9)
_RESAMPLES = 1000
_SKETCH = 64
_T975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Noise:
    """How steady the machine was.

    Attributes:
        cv: standard deviation over mean of all samples.
        cv_blocks: the same of the block medians, which single outliers do not move.
        drift: median of the last third of the block medians over that of the first third, minus one.
        interrupted: share of the time that went into calls of more than three times the p50.
        verdict: ``noisy`` if ``cv_blocks``, ``drift`` or ``interrupted`` is above its limit, else ``stable``.
    """

    cv: float
    cv_blocks: float
    drift: float
    interrupted: float
    verdict: str

    def document(self) -> dict[str, Any]:
        return asdict(self)


def percentile_key(percent: float) -> str:
    """``50`` -> ``p50``, ``99.9`` -> ``p99_9``."""
    return "p" + f"{percent:g}".replace(".", "_")


def latency_document(blocks: Sequence[Samples], *, seed: int = 0, replicas: int = 1) -> dict[str, Any]:
    """The body of ``latency_ms``: percentiles (None where the count does not support them), mean, min, max, std,
    and the 95% interval of the p50. Milliseconds. ``blocks``: int64 arrays in the order they were taken, spread over
    ``replicas`` processes.

    Raises:
        ValueError: no sample at all.
    """
    samples = pooled(blocks)
    if samples.size == 0:
        raise ValueError("no samples")
    latency = Latency(samples)
    figures: dict[str, Any] = {percentile_key(p): latency.percentile_ms(p) for p in REPORTED}
    supported = figures["p50"] is not None
    figures |= {
        "mean": float(samples.mean()) / 1e6,
        "min": int(samples.min()) / 1e6,
        "max": int(samples.max()) / 1e6,
        "std": float(samples.std()) / 1e6,
        "ci95_p50": interval_p50_ms(blocks, seed=seed, replicas=replicas) if supported else None,
    }
    return figures


def missing_runs(count: int) -> dict[str, int]:
    """For each reported percentile that ``count`` samples do not support: how many samples it needs in all."""
    return {percentile_key(p): SUPPORTED_SAMPLES[p] for p in REPORTED if count < SUPPORTED_SAMPLES[p]}


def interval_p50_ms(blocks: Sequence[Samples], *, seed: int = 0, replicas: int = 1) -> list[float]:
    """95% interval of the p50 in milliseconds: bootstrap over blocks, widened by what differs between processes.

    Whole blocks are drawn with replacement, since samples within a block share the machine's state. Each block
    stands for itself by 64 evenly spaced order statistics, so that the cost does not grow with the run. The second
    term is the interval of :func:`replicated` (of the process spread alone with one replica). Both add in quadrature.
    """
    full = [block for block in blocks if block.size]
    centre = float(np.median(pooled(full)))
    low, high = _bootstrap_p50(full, np.random.Generator(np.random.PCG64(seed)))
    between = 1.96 * PROCESS_SPREAD
    if replicas > 1:
        between = replicated(np.log(block_medians(full)), replicas, PROCESS_SPREAD)[1]
    between *= centre
    below = float(np.hypot(max(centre - low, 0.0), between))
    above = float(np.hypot(max(high - centre, 0.0), between))
    return [(centre - below) / 1e6, (centre + above) / 1e6]


def noise(blocks: Sequence[Samples]) -> Noise:
    """Variation over samples and over blocks, drift, verdict.

    Raises:
        ValueError: no sample at all.
    """
    samples = pooled(blocks)
    if samples.size == 0:
        raise ValueError("no samples")
    medians = block_medians(blocks)
    cv = float(samples.std() / samples.mean())
    cv_blocks = float(medians.std() / medians.mean())
    third = max(medians.size // 3, 1)
    drift = float(np.median(medians[-third:]) / np.median(medians[:third]) - 1.0)
    interrupted = float(samples[samples > 3 * np.median(samples)].sum() / samples.sum())
    noisy = cv_blocks > NOISY_CV or abs(drift) > NOISY_DRIFT or interrupted > NOISY_INTERRUPTED
    return Noise(cv, cv_blocks, drift, interrupted, "noisy" if noisy else "stable")


def pooled(blocks: Sequence[Samples]) -> Samples:
    """All samples in the order they were taken."""
    return np.concatenate(blocks) if blocks else np.empty(0, dtype=np.int64)


def block_medians(blocks: Sequence[Samples]) -> NDArray[np.float64]:
    """The median of each block that has samples, in nanoseconds."""
    return np.array([np.median(block) for block in blocks if block.size], dtype=np.float64)


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


def replicated(values: NDArray[np.float64], replicas: int, spread: float) -> tuple[float, float]:
    """Mean over processes and half the width of its 95% interval. ``values``: one a round, on a logarithmic scale.

    Rounds 2k and 2k + 1 (an ABBA pair) belong to replica k modulo ``replicas``. Each replica stands for itself by the
    trimmed mean of its rounds; the interval is Student's t over replicas with a moderated variance (Smyth 2004,
    10.2202/1544-6115.1027): what was seen between the replicas, drawn towards what is expected, ``spread`` squared plus
    the variance within them, with the weight of :data:`PRIOR_WEIGHT` replicas. With one replica there is nothing to
    see between processes: the interval within it is widened by ``spread``.
    """
    replicas = min(replicas, max(values.size // 2, 1))
    if replicas == 1:
        pairs = values[: values.size - values.size % 2].reshape(-1, 2).mean(axis=1)
        centre, half = trimmed_mean(np.append(pairs, values[pairs.size * 2 :]))
        return centre, float(np.hypot(half, 1.96 * spread))
    owner = np.arange(values.size) // 2 % replicas
    groups = [values[owner == replica] for replica in range(replicas)]
    means = np.array([trimmed_mean(group)[0] for group in groups])
    within = float(np.mean([group.var(ddof=1) / group.size for group in groups]))
    degrees = PRIOR_WEIGHT + replicas - 1
    expected, seen = spread**2 + within, float(means.var(ddof=1))
    variance = (PRIOR_WEIGHT * expected + (replicas - 1) * seen) / degrees
    return float(means.mean()), t975(degrees) * float(np.sqrt(variance / replicas))


def t975(degrees: int) -> float:
    """The 97.5% point of Student's t; beyond 30 degrees the expansion of Abramowitz and Stegun 26.7.5."""
    if degrees < 1:
        return float("inf")
    if degrees <= len(_T975):
        return _T975[degrees - 1]
    z = 1.959964
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)


def _bootstrap_p50(blocks: Sequence[Samples], generator: np.random.Generator) -> tuple[float, float]:
    points = [_order_statistics(block) for block in blocks]
    owner = np.repeat(np.arange(len(points)), [p.size for p in points])
    weight = np.repeat([block.size / p.size for block, p in zip(blocks, points, strict=True)], [p.size for p in points])
    values = np.concatenate(points)
    order = np.argsort(values, kind="stable")
    drawn = generator.multinomial(len(blocks), np.full(len(blocks), 1 / len(blocks)), size=_RESAMPLES)
    weights = np.cumsum(drawn[:, owner[order]] * weight[order], axis=1)  # (resamples, points)
    middle = (weights < weights[:, -1:] / 2).sum(axis=1)
    medians = values[order][middle]
    low, high = np.quantile(medians, [0.025, 0.975])
    return float(low), float(high)


def _order_statistics(block: Samples) -> NDArray[np.float64]:
    if block.size <= _SKETCH:
        return block.astype(np.float64)
    return np.quantile(block, (np.arange(_SKETCH) + 0.5) / _SKETCH)
