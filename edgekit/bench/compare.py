"""A against B: ratio of typical times with its interval, and a verdict.

Cells that were timed in interleaved rounds are compared round by round, so that a phase in which the machine is slow
weighs on both and cancels. Results of two sessions are compared as they are, with the larger spread between sessions.

The interval has two terms, added in quadrature in the logarithm:

- what varied between rounds and between the worker processes that the rounds are spread over
  (:func:`edgekit.bench.replicas.replicated`), with what is expected of it (:mod:`edgekit.bench.variance`);
- for results of two sessions, what differs between sessions even for one and the same file.

Verdict: ``same`` when the whole interval lies within :data:`MARGIN` of 1, else ``faster`` or ``slower`` when the whole
interval lies on one side of 1, else ``inconclusive``.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from edgekit.bench.clock import Samples
from edgekit.bench.replicas import Estimate, between_sessions, replicated, turns
from edgekit.bench.statistics import block_medians, pooled
from edgekit.bench.variance import BUILT_IN, RunVariance
from edgekit.errors import UnsupportedError
from edgekit.results.bench import Entry
from edgekit.results.compare import MARGIN, Comparison
from edgekit.types import SUPPORTED_SAMPLES, Verdict

POWER_80 = 0.84
"""The normal quantile of 80%: how many standard errors beyond the threshold are called four times in five."""
Owners = Sequence[Hashable]


def compare_paired(
    a: str,
    b: str,
    blocks_a: Sequence[Samples],
    blocks_b: Sequence[Samples],
    owners: tuple[Owners, Owners] | int = 1,
) -> Comparison:
    """Compares two cells of one interleaved run.

    ``blocks_*``: int64 nanoseconds, one array a round, same rounds. ``owners``: for both the worker process of each
    block, or the number of workers that took turns; what differs between processes averages out over them.
    """
    lacking = _lacking(a, b, blocks_a, blocks_b, "paired")
    if lacking is not None:
        return lacking
    rounds = min(len(blocks_a), len(blocks_b))
    logs = np.log(block_medians(blocks_a)[:rounds]) - np.log(block_medians(blocks_b)[:rounds])
    if isinstance(owners, int):
        owners = _in_turn(blocks_a, owners), _in_turn(blocks_b, owners)
    pairs = list(zip(owners[0][:rounds], owners[1][:rounds], strict=True))
    return _verdict(a, b, replicated(logs, pairs, factor=float(np.sqrt(2))), "paired")


def compare_centres(a: str, b: str, p50_a: NDArray[np.float64], p50_b: NDArray[np.float64]) -> Comparison:
    """Compares two cells that tools timed by themselves: one p50 an invocation, in turns, NaN where none was given.

    Each invocation is a process of its own; what lies within one is not to be seen.
    """
    rounds = min(p50_a.size, p50_b.size)
    logs = np.log(p50_a[:rounds]) - np.log(p50_b[:rounds])
    if rounds < 2 or not np.isfinite(logs).all():
        reason = "the tool gives no median, or of too few runs; take a newer one, or more --seconds"
        return _inconclusive(a, b, "invocations", reason)
    return _verdict(a, b, replicated(logs, range(rounds), factor=float(np.sqrt(2))), "invocations")


def compare_sessions(
    a: str,
    b: str,
    blocks_a: Sequence[Samples],
    blocks_b: Sequence[Samples],
    owners: tuple[Owners | int, Owners | int] = (1, 1),
    variance: RunVariance = BUILT_IN,
) -> Comparison:
    """Compares two cells of different runs; slow phases do not cancel, and sessions differ as well as processes."""
    lacking = _lacking(a, b, blocks_a, blocks_b, "occasions")
    if lacking is not None:
        return lacking
    found = []
    for blocks, owner in ((blocks_a, owners[0]), (blocks_b, owners[1])):
        labels = _in_turn(blocks, owner) if isinstance(owner, int) else owner
        found.append(replicated(np.log(block_medians(blocks)), labels, variance))
    first, second = found
    sessions = float(np.sqrt(2)) * variance.session
    error = float(np.sqrt(first.error**2 + second.error**2 + sessions**2))
    half = float(np.sqrt(first.half**2 + second.half**2 + 2 * between_sessions(variance) ** 2))
    return _verdict(a, b, Estimate(first.centre - second.centre, error, half), "occasions")


def check_comparable(a: Entry, b: Entry) -> None:
    """Refuses results whose figures mean different things.

    Raises:
        UnsupportedError: different evidence class, different CPU, or figures that are not measured times.
    """
    one, other = a.device, b.device
    for first, second, name, way_out in (
        (one.evidence, other.evidence, "evidence class", "measure both the same way"),
        (one.cpu, other.cpu, "CPU", "measure both on one machine"),
        (one.cpu_id, other.cpu_id, "CPU", "measure both on one machine"),
        (one.chip, other.chip, "accelerator", "measure both on the same one"),
    ):
        if first != second:
            raise UnsupportedError(
                f"{a.model} and {b.model} are not compared: {name} {first and str(first)!r} against "
                f"{second and str(second)!r}; {way_out}"
            )
    if not one.evidence.has_time:
        raise UnsupportedError(
            f"{a.model} and {b.model} are not compared: {one.evidence} results hold no times; "
            "measure both on the device"
        )


def _lacking(
    a: str, b: str, blocks_a: Sequence[Samples], blocks_b: Sequence[Samples], method: str
) -> Comparison | None:
    for name, blocks in ((a, blocks_a), (b, blocks_b)):
        count = pooled(blocks).size
        if count < SUPPORTED_SAMPLES[50]:
            reason = f"{name} has {count} samples, a p50 needs {SUPPORTED_SAMPLES[50]}"
            return _inconclusive(a, b, method, reason)
    return None


def _inconclusive(a: str, b: str, method: str, reason: str, ratio: float | None = None) -> Comparison:
    return Comparison(a=a, b=b, ratio_p50=ratio, verdict=Verdict.INCONCLUSIVE, method=method, reason=reason)


def _in_turn(blocks: Sequence[Samples], replicas: int) -> list[int]:
    return turns(len(blocks), max(1, min(replicas, len(blocks) // 2)))


def _verdict(a: str, b: str, found: Estimate, method: str) -> Comparison:
    ratio = float(np.exp(found.centre))
    if not np.isfinite(found.half):
        reason = "fewer than two pairs of rounds; give more --seconds"
        return _inconclusive(a, b, method, reason, ratio)
    low, high = float(np.exp(found.centre - found.half)), float(np.exp(found.centre + found.half))
    if low >= 1 - MARGIN and high <= 1 + MARGIN:
        verdict = Verdict.SAME
    elif high < 1:
        verdict = Verdict.FASTER
    else:
        verdict = Verdict.SLOWER if low > 1 else Verdict.INCONCLUSIVE
    # called slower: the estimate lies above half the interval, and not within the margin with all of it
    detectable = max(found.half, MARGIN - found.half) + POWER_80 * found.error
    return Comparison(
        a=a, b=b, ratio_p50=ratio, ci95=(low, high), verdict=verdict, smallest_detectable=detectable, method=method
    )
