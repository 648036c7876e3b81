"""The front: what nothing else is better than in every respect, how much it covers, and which of it is recommended."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace

from edgekit.bench.pareto import Point, nondominated
from edgekit.options.optimize import OptimizeOptions
from edgekit.results.optimize import FrontRow
from edgekit.types import Verdict

NEARLY = 1.1
"""How much longer than the fastest a smaller file may take to be recommended in its place."""


def hypervolume(points: Sequence[Point], reference: Point) -> float:
    """The share of the box between 0 and ``reference`` that ``points`` dominate (Zitzler and Thiele 1999), by
    inclusion of slices along the last figure. Figures below 0 count as 0."""
    inside = [
        tuple(max(value, 0.0) / limit for value, limit in zip(point, reference, strict=True))
        for point in points
        if all(value < limit for value, limit in zip(point, reference, strict=True))
    ]
    return _volume(inside)


def _volume(points: Sequence[tuple[float, ...]]) -> float:
    if not points:
        return 0.0
    if len(points[0]) == 1:
        return 1.0 - min(point[0] for point in points)
    total, ordered = 0.0, sorted(points, key=lambda point: point[-1])
    for k, point in enumerate(ordered):
        upper = ordered[k + 1][-1] if k + 1 < len(ordered) else 1.0
        if upper > point[-1]:
            total += (upper - point[-1]) * _volume([other[:-1] for other in ordered[: k + 1]])
    return total


def limits_missed(row: FrontRow, options: OptimizeOptions, allowed: float) -> tuple[str, ...]:
    """Which limits the row misses, in words."""
    missed = []
    if not row.drop <= allowed:
        missed.append(f"loses {row.drop:.4f}, {allowed:g} is allowed")
    if options.max_ms is not None and row.latency_ms > options.max_ms:
        missed.append(f"{row.latency_ms:.3g} ms, {options.max_ms:g} are allowed")
    if options.max_bytes is not None and row.bytes > options.max_bytes:
        missed.append(f"{row.bytes:,} bytes, {options.max_bytes:,} are allowed")
    if options.max_memory is not None:
        if row.peak_memory_bytes is None:
            missed.append(f"its memory is not known on {row.device}")
        elif row.peak_memory_bytes > options.max_memory:
            missed.append(f"{row.peak_memory_bytes:,} bytes of memory, {options.max_memory:,} are allowed")
    return tuple(missed)


def on_front(rows: Sequence[FrontRow]) -> list[FrontRow]:
    """The rows of one device that nothing beside them is better than in quality, time, bytes and memory."""
    points = [(row.drop, row.latency_ms, row.bytes, row.peak_memory_bytes or 0) for row in rows]
    return [rows[k] for k in nondominated(points)]


def recommended(rows: Sequence[FrontRow]) -> FrontRow | None:
    """Of the rows of one device that keep every limit: of those that are called faster than the fastest float file the
    smallest that is nearly as fast as the fastest (:data:`NEARLY`); else the smallest in the float file's time, else
    that file."""
    good = [row for row in rows if not row.limits]
    faster = [row for row in good if row.verdict is Verdict.FASTER and row.ratio_p50 is not None]
    if faster:
        least = min(row.ratio_p50 or 0.0 for row in faster)
        close = [row for row in faster if (row.ratio_p50 or 0.0) <= least * NEARLY]
        best = min(close, key=lambda row: (row.bytes, row.ratio_p50))
        what = "fastest" if best.ratio_p50 == least else f"smallest within {NEARLY - 1:.0%} of the fastest"
        return replace(best, reason=_reason(best, good, what))
    same = [row for row in good if row.ratio_p50 is None or row.verdict is Verdict.SAME]  # it has none beside itself
    if good:
        best = min(same, key=lambda row: row.bytes) if same else min(good, key=lambda row: row.latency_ms)
        return replace(best, reason=_reason(best, good, "smallest"))
    return None


def over_devices(front: Sequence[FrontRow], devices: Sequence[str]) -> FrontRow | None:
    """What is recommended: on one device the best there; on several the file that keeps the limits on all of them and
    has the least geometric mean of the times relative to the float files'."""
    if len(devices) == 1:
        return recommended(front)
    groups: dict[int, list[FrontRow]] = {}
    for row in front:
        groups.setdefault(row.trial, []).append(row)
    whole = [rows for rows in groups.values() if len(rows) == len(devices) and not any(row.limits for row in rows)]
    if not whole:
        return None
    best = min(whole, key=lambda rows: statistics.geometric_mean(row.ratio_p50 or 1.0 for row in rows))
    ratios = ", ".join(f"{row.ratio_p50 or 1.0:.2f} on {row.device}" for row in best)
    return replace(
        best[0], reason=f"of {len(whole)} files that keep every limit on {len(devices)} devices the fastest: {ratios}"
    )


def _reason(row: FrontRow, others: Sequence[FrontRow], what: str) -> str:
    count = f"of {len(others)} files that keep every limit on {row.device}"
    if row.baseline:
        return f"{row.name} as it was exported, in {row.runtime}: nothing {count} is called faster"
    lost = f"loses {row.drop:.4f}" if row.drop > 0 else "loses nothing"
    time = "takes a time that was not compared" if row.ratio_p50 is None or row.ci95 is None else (
        f"takes {row.ratio_p50:.2f} ({row.ci95[0]:.2f} to {row.ci95[1]:.2f}) of the time of {row.against}"
    )  # fmt: skip
    return f"the {what} {count}: in {row.runtime} it {time}, has {row.bytes:,} bytes, and {lost}"
