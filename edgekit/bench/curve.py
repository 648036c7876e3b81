"""``--threads 1,2,4``: how much faster each file becomes with more threads, from cells of one interleaved run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgekit.bench.compare import compare_paired
from edgekit.bench.result import CellResult
from edgekit.results.bench import CurvePoint, ThreadCurve


def thread_curves(results: Sequence[CellResult]) -> list[ThreadCurve]:
    """For each file, runtime and device that was timed with several thread counts: one point a count, fewest first.

    ``speedup`` is the time of the fewest threads over the time of these, with its 95% interval; ``efficiency`` is the
    speed-up over what the threads would allow (1: all of them are used to the full); ``best`` is the count with the
    least p50.
    """
    groups: dict[tuple[Any, ...], list[CellResult]] = {}
    for result in results:
        if result.timed:
            setting = result.setting
            key = (setting.model, setting.runtime, setting.device.name, setting.batch)
            groups.setdefault(key, []).append(result)
    curves = []
    for (model, runtime, device, _), group in groups.items():
        group.sort(key=lambda result: result.setting.threads)
        if len(group) > 1:
            points = tuple(_point(result, group[0]) for result in group)
            timed = [(point.p50_ms, point.threads) for point in points if point.p50_ms is not None]
            best = min(timed, key=lambda point: point[0])[1] if timed else None
            curves.append(ThreadCurve(model=model, runtime=runtime, device=device, points=points, best=best))
    return curves


def _point(result: CellResult, first: CellResult) -> CurvePoint:
    threads, p50 = result.setting.threads, result.latency().p50
    if result is first:
        return CurvePoint(threads=threads, p50_ms=p50)
    owners = (first.owners, result.owners) if first.owners and result.owners else 1
    found = compare_paired("fewest", "these", first.blocks, result.blocks, owners)
    share = first.setting.threads / threads
    return CurvePoint(
        threads=threads,
        p50_ms=p50,
        speedup=found.ratio,
        ci95=found.ci95,
        efficiency=None if found.ratio is None else found.ratio * share,
    )
