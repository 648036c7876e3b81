"""``--fit``: the smallest memory limit under which a model loads and runs, found by bisection in limited workers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from edgekit.bench.result import CellResult
from edgekit.devices import measures
from edgekit.errors import DeviceError, EdgekitError
from edgekit.extras.base import BenchExtra, TimedCell, short
from edgekit.results.bench import Entry
from edgekit.types import Evidence

if TYPE_CHECKING:
    from edgekit.options.bench import BenchOptions

log = logging.getLogger("edgekit")

RESOLUTION = 1 << 20
"""The answer is exact to this many bytes."""
KIND = "RLIMIT_DATA"
COUNTS = (
    "private writable memory of the whole worker, touched or not: interpreter, libraries, model; "
    "not the pages of files that are only read"
)
_RUNS = 2
_LIMIT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class MemoryFit:
    """The smallest memory limit under which the model loads and runs. ``counts``: what the limit counts."""

    limit_bytes: int
    kind: str
    counts: str
    evidence: Evidence
    resolution_bytes: int
    unlimited_bytes: int
    probes: tuple[Mapping[str, Any], ...]


def would_fit(cell: TimedCell) -> MemoryFit:
    """``limit_bytes``, the smallest limit under which the model loaded and ran, with every ``probe`` on the way.

    It is a limit on this machine, not the memory of another one: evidence ``constrained``.

    Raises:
        DeviceError: the model does not run without a limit either, or the system does not tell how much it takes.
    """
    with cell.worker() as client:
        taken = client.measure(measures.footprint, cell.feed, timeout_s=_LIMIT_S).header
    high = int(taken.get("data_bytes", 0))
    if not high:
        raise DeviceError("--fit needs /proc/self/status of Linux, which is not there on the device")
    probes: list[dict[str, Any]] = []

    def fits(limit: int) -> bool:
        why = _attempt(cell, limit)
        probes.append({"limit_bytes": limit, "fits": not why, "why": why or None})
        log.debug("%s: %d bytes: %s", cell.plan.model, limit, why or "fits")
        return not why

    limit = smallest(fits, high, RESOLUTION)
    return MemoryFit(
        limit_bytes=limit,
        kind=KIND,
        counts=COUNTS,
        evidence=Evidence.CONSTRAINED,
        resolution_bytes=RESOLUTION,
        unlimited_bytes=high,
        probes=tuple(probes),
    )


def smallest(fits: Callable[[int], bool], guess: int, resolution: int) -> int:
    """The smallest multiple of ``resolution`` for which ``fits`` holds, which holds for all larger ones, too.

    ``guess`` is where the search begins: it is doubled until it fits, up to sixteen times.

    Raises:
        DeviceError: not even that much fits.
    """
    low, high = 0, -(-guess // resolution)
    for _ in range(4):
        if fits(high * resolution):
            break
        low, high = high, 2 * high
    else:
        raise DeviceError(f"the model does not run under a limit of {low * resolution:,} bytes either")
    while high - low > 1:
        middle = (low + high) // 2
        if fits(middle * resolution):
            high = middle
        else:
            low = middle
    return high * resolution


def _attempt(cell: TimedCell, limit: int) -> str:
    """Why the model did not load and run under ``limit``, empty if it did."""
    try:
        with cell.worker(memory_limit_bytes=limit) as client:
            for _ in range(_RUNS):
                client.run(cell.feed, timeout_s=_LIMIT_S)
    except EdgekitError as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return ""


class FitExtra(BenchExtra):
    """The smallest memory limit, and what it counts."""

    name: ClassVar[str] = "fit"
    result: ClassVar[Any] = MemoryFit

    def measure(self, cell: TimedCell, result: CellResult, options: BenchOptions) -> MemoryFit:
        return would_fit(cell)

    def report(self, entry: Entry, found: MemoryFit) -> list[Any]:
        said = f"{short(entry.model)}: runs under {found.kind} of {found.limit_bytes / 2**20:.0f} MiB and no less"
        return [f"{said} ({found.evidence}: {found.counts})"]

    def columns(self, found: MemoryFit | None) -> dict[str, object]:
        return {"fit_bytes": found and found.limit_bytes}


EXTRA = FitExtra()
