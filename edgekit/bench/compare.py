"""A against B: ratio of typical times with its interval, and a verdict.

Cells that were timed in interleaved rounds are compared round by round, so that a phase in which the machine is slow
weighs on both and cancels. Results of two occasions are compared as they are, with the larger spread between occasions.

The interval has two terms, added in quadrature in the logarithm:

- what varied during the run: 20% trimmed mean of the log ratios of ABBA pairs, with the interval of Tukey and McLaughlin;
- the noise floor: what differs between two processes (or occasions) even for one and the same file.

Verdict: ``same`` when the whole interval lies within :data:`MARGIN` of 1, else ``faster`` or ``slower`` when the whole
interval lies on one side of 1, else ``inconclusive``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.bench.clock import Samples
from edgekit.bench.statistics import PROCESS_SPREAD, block_medians, pooled, trimmed_mean
from edgekit.errors import UnsupportedError
from edgekit.types import SUPPORTED_SAMPLES, Evidence, Verdict

MARGIN = 0.03
"""Two files whose times differ by less than this share are the ``same`` for whoever has to choose."""
OCCASION_SPREAD = 0.01
"""Standard deviation of the p50 of one file between two runs of the bench, as a share of the p50."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Time of ``a`` relative to ``b``: ratio 0.5 means half the time.

    Attributes:
        ratio: None when the samples of one of the two do not support a p50.
        low, high: 95% interval of the ratio; None with fewer than two pairs of rounds.
        smallest_detectable: share by which ``a`` would have to be slower to be called so four times in five.
        method: ``paired`` (one interleaved run) or ``occasions`` (two runs).
    """

    a: str
    b: str
    ratio: float | None
    low: float | None
    high: float | None
    verdict: Verdict
    smallest_detectable: float | None
    method: str
    reason: str = ""

    def document(self) -> dict[str, Any]:
        """The JSON form of CONTRACT, and what the verdict stands on."""
        body: dict[str, Any] = {
            "a": self.a,
            "b": self.b,
            "ratio_p50": self.ratio,
            "ci95": None if self.low is None else [self.low, self.high],
            "verdict": self.verdict.value,
            "margin": MARGIN,
            "smallest_detectable": self.smallest_detectable,
            "method": self.method,
        }
        return body | ({"reason": self.reason} if self.reason else {})


def compare_paired(a: str, b: str, blocks_a: Sequence[Samples], blocks_b: Sequence[Samples]) -> Comparison:
    """Compares two cells of one interleaved run. ``blocks_*``: int64 nanoseconds, one array a round, same rounds."""
    lacking = _lacking(a, b, blocks_a, blocks_b, "paired")
    if lacking is not None:
        return lacking
    rounds = min(len(blocks_a), len(blocks_b))
    logs = np.log(block_medians(blocks_a)[:rounds]) - np.log(block_medians(blocks_b)[:rounds])
    centre, half = trimmed_mean(_abba(logs))
    return _verdict(a, b, centre, half, PROCESS_SPREAD, "paired")


def compare_occasions(a: str, b: str, blocks_a: Sequence[Samples], blocks_b: Sequence[Samples]) -> Comparison:
    """Compares two cells of different runs; slow phases do not cancel, the noise floor is that between occasions."""
    lacking = _lacking(a, b, blocks_a, blocks_b, "occasions")
    if lacking is not None:
        return lacking
    centre_a, half_a = trimmed_mean(_abba(np.log(block_medians(blocks_a))))
    centre_b, half_b = trimmed_mean(_abba(np.log(block_medians(blocks_b))))
    return _verdict(a, b, centre_a - centre_b, float(np.hypot(half_a, half_b)), OCCASION_SPREAD, "occasions")


def check_comparable(a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
    """Refuses results whose figures mean different things. ``a``, ``b``: entries of ``results`` of a bench document.

    Raises:
        UnsupportedError: different evidence class, different CPU, or figures that are no measured times.
    """
    for key, name, way_out in (
        ("evidence", "evidence class", "measure both the same way"),
        ("cpu", "CPU", "measure both on one machine"),
    ):
        first, second = a["device"][key], b["device"][key]
        if first != second:
            raise UnsupportedError(
                f"{a['model']} and {b['model']} are not compared: {name} {first!r} against {second!r}; {way_out}"
            )
    if a["device"]["evidence"] in (Evidence.EMULATED, Evidence.ESTIMATED):
        raise UnsupportedError(
            f"{a['model']} and {b['model']} are not compared: {a['device']['evidence']} results hold no times; "
            "measure both on the device"
        )


def overall(verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict for several: any ``slower`` wins, then ``inconclusive``, then ``faster``; else ``same``."""
    for verdict in (Verdict.SLOWER, Verdict.INCONCLUSIVE, Verdict.FASTER):
        if verdict in verdicts:
            return verdict
    return Verdict.SAME


def gate_slower(comparison: Comparison, percent: float) -> Verdict:
    """``slower`` if even the lower end of the interval is beyond ``percent``, ``same`` (passed) if the upper end is
    not, else ``inconclusive``: the noise does not allow to say on which side of the limit the time lies."""
    limit = 1 + percent / 100
    if comparison.low is None or comparison.high is None:
        return Verdict.INCONCLUSIVE
    if comparison.low > limit:
        return Verdict.SLOWER
    return Verdict.SAME if comparison.high <= limit else Verdict.INCONCLUSIVE


def _lacking(a: str, b: str, blocks_a: Sequence[Samples], blocks_b: Sequence[Samples], method: str) -> Comparison | None:
    for name, blocks in ((a, blocks_a), (b, blocks_b)):
        count = pooled(blocks).size
        if count < SUPPORTED_SAMPLES[50]:
            reason = f"{name} has {count} samples, a p50 needs {SUPPORTED_SAMPLES[50]}"
            return Comparison(a, b, None, None, None, Verdict.INCONCLUSIVE, None, method, reason)
    return None


def _abba(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of rounds 0 and 1, 2 and 3, …: the two orders of an ABBA pair. A single last round stands alone."""
    even = values[: values.size - values.size % 2].reshape(-1, 2).mean(axis=1)
    return np.append(even, values[even.size * 2 :])


def _verdict(a: str, b: str, centre: float, half: float, spread: float, method: str) -> Comparison:
    ratio = float(np.exp(centre))
    if not np.isfinite(half):
        reason = "fewer than two pairs of rounds; give more --seconds"
        return Comparison(a, b, ratio, None, None, Verdict.INCONCLUSIVE, None, method, reason)
    floor = 1.96 * np.sqrt(2) * spread
    half = float(np.hypot(half, floor))
    low, high = float(np.exp(centre - half)), float(np.exp(centre + half))
    if 1 - MARGIN <= low and high <= 1 + MARGIN:
        verdict = Verdict.SAME
    elif high < 1:
        verdict = Verdict.FASTER
    else:
        verdict = Verdict.SLOWER if low > 1 else Verdict.INCONCLUSIVE
    detectable = max(half, MARGIN - half) + 0.84 / 1.96 * half
    return Comparison(a, b, ratio, low, high, verdict, detectable, method)
