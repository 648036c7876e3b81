"""What a profile comes to: times per operator, per type, per layer and per who ran it. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One operator of the graph as it was run, which may be several of the file's operators fused into one.

    Attributes:
        name: the runtime's name of it, unique in the graph.
        type: operator type, in the runtime's words.
        by: who ran it: an execution provider, ``XNNPACK``, ``TFLite kernels``.
        ms: milliseconds a run, mean over the runs.
        calls: times it ran in one run (more than one in the body of a loop).
        layer: the torch module it comes from, ``""`` for the outermost one; None where the file does not tell.
    """

    name: str
    type: str
    by: str
    ms: float
    calls: float = 1.0
    layer: str | None = None


def document(rows: Sequence[Row], *, tool: str, runs: int, run_ms: float, resolution_us: float) -> dict[str, Any]:
    """The profile as JSON values.

    ``runs`` runs of ``run_ms`` milliseconds each (under the profiler); ``total_ms`` is what the operators account for,
    and ``unattributed_ms`` the rest: the runtime's own work between them, and what the profiler's clock, which
    counts in steps of ``resolution_us``, rounds away. Tables are sorted by time, largest first; shares are of
    ``total_ms``.
    """
    total = sum(row.ms for row in rows)

    def table(key: Callable[[Row], object], label: str) -> list[dict[str, Any]]:
        sums: dict[object, dict[str, Any]] = {}
        for row in rows:
            found = sums.setdefault(key(row), {label: key(row), "calls": 0.0, "nodes": 0, "ms": 0.0})
            found["calls"] += row.calls
            found["nodes"] += 1
            found["ms"] += row.ms
        return _sorted(sums.values(), total)

    nodes = ({"name": r.name, "type": r.type, "by": r.by, "layer": r.layer, "calls": r.calls, "ms": r.ms} for r in rows)
    return {
        "tool": tool,
        "runs": runs,
        "run_ms": run_ms,
        "total_ms": total,
        "unattributed_ms": max(run_ms - total, 0.0),
        "resolution_us": resolution_us,
        "types": table(lambda row: row.type, "type"),
        "layers": table(lambda row: row.layer, "layer"),
        "by": table(lambda row: row.by, "by"),
        "nodes": _sorted(nodes, total),
    }


def quiet_half(durations: Sequence[float]) -> list[int]:
    """The places of the runs that took no longer than their median."""
    middle = sorted(durations)[(len(durations) - 1) // 2] if durations else 0
    return [place for place, duration in enumerate(durations) if duration <= middle]


def with_layers(rows: Iterable[Row], layer_of: Callable[[str], str | None]) -> list[Row]:
    """The rows with the layer that ``layer_of`` gives for their names."""
    return [replace(row, layer=layer_of(row.name)) for row in rows]


def _sorted(table: Iterable[dict[str, Any]], total: float) -> list[dict[str, Any]]:
    rows = [{**row, "share": row["ms"] / total if total > 0 else 0.0} for row in table]
    return sorted(rows, key=lambda row: -row["ms"])
