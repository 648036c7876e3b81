"""The time of a compressed file relative to its parent, both timed in interleaved rounds on one device."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from edgekit.pipeline.bench import bench
from edgekit.results.compressed import TimeRatio
from edgekit.types import Verdict

log = logging.getLogger("edgekit")


def time_ratio(
    made: Path, parent: Path, seconds: float, on: str, *, shape: Sequence[str] = (), input: str | None = None
) -> TimeRatio:
    """Ratio of the typical times of ``made`` and ``parent`` with its 95% interval and verdict.

    Args:
        seconds: for each of the two, warm-up included.
        shape, input: sizes of free axes, or a file with one real sample; as :func:`edgekit.bench` takes them.
        on: a device, as :func:`edgekit.bench` takes it. One that has no times gives no verdict, and the reason.

    Raises:
        EdgekitError: one of the files does not run there.
    """
    log.info("timing it against %s on %s", parent, on)
    result = bench([parent, made], on=on, seconds=seconds, shape=tuple(shape), input=input)
    failure = result.failure()
    if failure is not None:
        raise failure
    device = result.results[0].setting.device
    if not result.comparisons:
        reason = f"an {device.evidence} device has no times"
        unknown = Verdict.INCONCLUSIVE
        return TimeRatio(ratio_p50=None, verdict=unknown, reason=reason, device=device, seconds=seconds)
    found = result.comparisons[0]
    return TimeRatio(
        ratio_p50=found.ratio_p50,
        ci95=found.ci95,
        verdict=found.verdict,
        smallest_detectable=found.smallest_detectable,
        threads=found.threads,
        runtimes=found.runtimes,
        reason=found.reason,
        device=device,
        seconds=seconds,
    )
