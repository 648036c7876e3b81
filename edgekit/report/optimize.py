"""How the result of ``optimize`` looks on the screen."""

from __future__ import annotations

from collections import Counter

from edgekit.report.text import Parts, figure, lost, ms, size, table
from edgekit.results.optimize import FrontRow, OptimizeResult


def render_optimize(result: OptimizeResult) -> Parts:
    """The front of each device, what is recommended, and what became of the trials."""
    columns = ("candidate", result.metric, "lost", "p50 ms", "time / float", "bytes", "memory", "runtime", "")
    right = (result.metric, "lost", "p50 ms", "time / float", "bytes", "memory")
    parts: Parts = []
    for device in dict.fromkeys(row.device for row in result.front):
        rows = [_row(row, result) for row in result.front if row.device == device]
        parts.append(table(columns, rows, title=f"Front on {device}, quality on {result.reported_on}", right=right))
    ended = Counter(row.state for row in result.trials)
    count = ", ".join(f"{number} {state}" for state, number in ended.items())
    parts.append(f"{len(result.trials)} trials ({count}) in {result.seconds / 60:.1f} minutes, kept in {result.folder}")
    best = result.recommended
    if best is not None:
        parts += [f"recommended: {best.path}", best.reason, f"made again by: edgekit recipe run {best.recipe}"]
    return [*parts, *result.notes]


def _row(row: FrontRow, result: OptimizeResult) -> tuple[object, ...]:
    interval = f" ({row.ci95[0]:.2f}–{row.ci95[1]:.2f})" if row.ci95 else ""
    ratio = "1" if row.ratio_p50 is None else f"{row.ratio_p50:.2f}{interval}"
    best = result.recommended
    chosen = best is not None and best.path == row.path
    said = "recommended" if chosen else "; ".join(row.limits)
    shown, change = figure(result.metric, row.quality), lost(result.metric, row.drop, None, row.quality)
    return (row.name, shown, change, ms(row.latency_ms), ratio, size(row.bytes), size(row.peak_memory_bytes),
            row.runtime, said)  # fmt: skip
