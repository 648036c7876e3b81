"""The time of a compressed file relative to its parent, both timed in interleaved rounds on one device."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgekit.pipeline.bench import bench
from edgekit.types import Verdict

log = logging.getLogger("edgekit")


def time_ratio(
    made: Path, parent: Path, seconds: float, on: str, *, shape: Sequence[str] = (), input: str | None = None
) -> dict[str, Any]:
    """Ratio of the typical times of ``made`` and ``parent`` with its 95% interval and verdict, as JSON.

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
    device = dict(result.results[0].setting.device)
    setting = {"device": device, "seconds": seconds}
    if not result.comparisons:
        reason = f"an {device['evidence']} device has no times"
        return {"ratio_p50": None, "ci95": None, "verdict": Verdict.INCONCLUSIVE.value, "reason": reason, **setting}
    found = result.comparisons[0].document()
    kept = ("ratio_p50", "ci95", "verdict", "smallest_detectable", "threads", "runtimes", "reason")
    return {**{name: found[name] for name in kept if name in found}, **setting}
