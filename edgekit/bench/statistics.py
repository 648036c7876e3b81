"""Figures from raw samples: percentiles, intervals, noise. Pure functions over integer nanoseconds.

Percentiles are nearest-rank and are given only with the sample count that supports them
(:data:`edgekit.types.SUPPORTED_SAMPLES`, MLPerf LoadGen's binomial bound at 99% confidence).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from edgekit.bench.clock import Samples
from edgekit.bench.replicas import between_sessions, replicated
from edgekit.bench.variance import BUILT_IN, RunVariance
from edgekit.results.bench import LatencyFigures, Noise
from edgekit.types import SUPPORTED_SAMPLES, Latency

NOISY_CV = 0.05
"""Above this coefficient of variation of the block medians a result is ``noisy``."""
NOISY_DRIFT = 0.05
"""Above this change between the first and the last third of the block medians a result is ``noisy``."""
NOISY_INTERRUPTED = 0.1
"""Above this share of the time in calls beyond three times the p50 a result is ``noisy``: others took the core."""
NOISY_DISTURBED = 0.1
"""Above this share of blocks with a slow reference workload, taken again in vain, a result is ``noisy``."""

REPORTED = (50.0, 90.0, 99.0, 99.9)
_RESAMPLES = 1000
_SKETCH = 64


def percentile_key(percent: float) -> str:
    """``50`` -> ``p50``, ``99.9`` -> ``p99_9``."""
    return "p" + f"{percent:g}".replace(".", "_")


def latency_figures(
    blocks: Sequence[Samples], *, seed: int = 0, owners: Sequence[Hashable] = (), variance: RunVariance = BUILT_IN
) -> LatencyFigures:
    """``latency_ms``: percentiles (None where the count does not support them), mean, min, max, std,
    and two 95% intervals of the p50: ``ci95_p50``, where it lies the next time (:func:`interval_p50_ms`), and within
    it ``ci95_p50_run``, how well this run alone settles it (:func:`interval_of_run_ms`). Milliseconds. ``blocks``:
    int64 arrays in the order they were taken; ``owners``: the worker process of each, empty for one that took all.

    Raises:
        ValueError: no sample at all.
    """
    samples = pooled(blocks)
    if samples.size == 0:
        raise ValueError("no samples")
    latency = Latency(samples)
    supported = latency.p50_ms is not None
    return LatencyFigures(
        p50=latency.p50_ms,
        p90=latency.p90_ms,
        p99=latency.p99_ms,
        p99_9=latency.percentile_ms(99.9),
        mean=float(samples.mean()) / 1e6,
        min=int(samples.min()) / 1e6,
        max=int(samples.max()) / 1e6,
        std=float(samples.std()) / 1e6,
        ci95_p50=interval_p50_ms(blocks, owners=owners, variance=variance) if supported else None,
        ci95_p50_run=interval_of_run_ms(blocks, seed=seed, owners=owners) if supported else None,
    )


def missing_runs(count: int) -> dict[str, int]:
    """For each reported percentile that ``count`` samples do not support: how many samples it needs in all."""
    return {percentile_key(p): SUPPORTED_SAMPLES[p] for p in REPORTED if count < SUPPORTED_SAMPLES[p]}


def interval_p50_ms(
    blocks: Sequence[Samples], *, owners: Sequence[Hashable] = (), variance: RunVariance = BUILT_IN
) -> tuple[float, float]:
    """95% interval of the p50 in milliseconds: where the p50 of this file on this machine lies the next time.

    A prediction interval, since it is held against another figure of its kind: both sessions have the spread, so it
    stands in it twice (Hahn and Meeker, Statistical Intervals, 4.6). Three parts, added in quadrature:

    - the medians that 95% of the blocks lie between, which for a few blocks is all of them: the next session may spend
      its time in any state of the machine that this one saw, and a core whose neighbour comes and goes has two speeds;
    - what differs between processes: :func:`edgekit.bench.replicas.replicated`;
    - what differs between sessions: the spread expected, Student's t with its weight.
    """
    labels = [owner for block, owner in zip(blocks, owners or [0] * len(blocks), strict=True) if block.size]
    full = [block for block in blocks if block.size]
    medians = block_medians(full)
    centre = float(np.median(pooled(full)))
    between = replicated(np.log(medians), labels, variance).half if len(set(labels)) > 1 else 1.96 * variance.process
    beyond = math.sqrt(2) * math.hypot(between, between_sessions(variance))
    low, high = np.quantile(medians, [0.025, 0.975], method="weibull")
    below = math.hypot(math.log(centre / min(low, centre)), beyond)
    above = math.hypot(math.log(max(high, centre) / centre), beyond)
    return centre * math.exp(-below) / 1e6, centre * math.exp(above) / 1e6


def interval_of_run_ms(
    blocks: Sequence[Samples], *, seed: int = 0, owners: Sequence[Hashable] = ()
) -> tuple[float, float]:
    """95% interval of the p50 in milliseconds from this run alone: bootstrap over workers and over their blocks.

    Whole blocks are drawn with replacement, since samples within a block share the machine's state, of workers that are
    drawn with replacement (Davison and Hinkley, Bootstrap Methods, 3.8). Each block stands for itself by 64 evenly
    spaced order statistics, so that the cost does not grow with the run. It knows nothing of other sessions.
    """
    labels = [owner for block, owner in zip(blocks, owners or [0] * len(blocks), strict=True) if block.size]
    full = [block for block in blocks if block.size]
    generator = np.random.Generator(np.random.PCG64(seed))
    drawn = np.zeros((_RESAMPLES, len(full)), dtype=np.int64)
    workers = list(dict.fromkeys(labels))
    counts = generator.multinomial(len(workers), np.full(len(workers), 1 / len(workers)), size=_RESAMPLES)
    for place, worker in enumerate(workers):
        mine = [index for index, label in enumerate(labels) if label == worker]
        drawn[:, mine] = generator.multinomial(counts[:, place] * len(mine), np.full(len(mine), 1 / len(mine)))
    low, high = np.quantile(_p50_of(full, drawn), [0.025, 0.975])
    return float(low) / 1e6, float(high) / 1e6


def noise(blocks: Sequence[Samples], disturbed: Sequence[bool] = ()) -> Noise:
    """Variation over samples and over blocks, drift, verdict. ``disturbed``: for each block, if that is known.

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
    lost = sum(disturbed) / len(disturbed) if disturbed else 0.0
    noisy = cv_blocks > NOISY_CV or abs(drift) > NOISY_DRIFT or interrupted > NOISY_INTERRUPTED
    verdict = "noisy" if noisy or lost > NOISY_DISTURBED else "stable"
    return Noise(cv, cv_blocks, drift, interrupted, lost, verdict)


def pooled(blocks: Sequence[Samples]) -> Samples:
    """All samples in the order they were taken."""
    return np.concatenate(blocks) if blocks else np.empty(0, dtype=np.int64)


def block_medians(blocks: Sequence[Samples]) -> NDArray[np.float64]:
    """The median of each block that has samples, in nanoseconds."""
    return np.array([np.median(block) for block in blocks if block.size], dtype=np.float64)


def _p50_of(blocks: Sequence[Samples], drawn: NDArray[np.int64]) -> NDArray[np.float64]:
    """The p50 of each resample: ``drawn`` (resamples, blocks) says how often each block is in it."""
    points = [_order_statistics(block) for block in blocks]
    owner = np.repeat(np.arange(len(points)), [p.size for p in points])
    weight = np.repeat([block.size / p.size for block, p in zip(blocks, points, strict=True)], [p.size for p in points])
    values = np.concatenate(points)
    order = np.argsort(values, kind="stable")
    weights = np.cumsum(drawn[:, owner[order]] * weight[order], axis=1)  # (resamples, points)
    medians: NDArray[np.float64] = values[order][(weights < weights[:, -1:] / 2).sum(axis=1)]
    return medians


def _order_statistics(block: Samples) -> NDArray[np.float64]:
    if block.size <= _SKETCH:
        return block.astype(np.float64)
    return np.quantile(block, (np.arange(_SKETCH) + 0.5) / _SKETCH)
