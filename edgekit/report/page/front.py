"""The front: files as points of quality, time, bytes and memory, of a study, of candidates, or of several documents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekit.bench.pareto import nondominated
from edgekit.extras.base import short
from edgekit.report.page import plots
from edgekit.report.page.bench import threads
from edgekit.report.page.parts import Axis, Filter, Plot
from edgekit.results.base import Result
from edgekit.results.bench import BenchRecord
from edgekit.results.eval import EvalResult
from edgekit.results.optimize import OptimizeResult
from edgekit.results.quantize import AutoResult, ComparedTime, QuantizeResult
from edgekit.results.recipe import RecipeRecord
from edgekit.types import Sheet

MOST_VALUES = 12
"""Values up to which a column is filtered by boxes."""
AXES = (
    Axis("latency", "latency p50, ms", "log"), Axis("quality", "quality"), Axis("bytes", "bytes", "log"),
    Axis("memory", "peak memory, bytes", "log"), Axis("lost", "quality lost"), Axis("ratio", "time / float", "log"),
    Axis("seconds", "seconds to make", "log"),
)  # fmt: skip
COLUMNS: Mapping[str, str] = {
    "name": "file", "device": "device", "runtime": "runtime", "state": "state", "quality": "quality", "lost": "lost",
    "latency": "latency, ms", "ratio": "time / float", "bytes": "bytes", "memory": "peak memory", "seconds": "seconds",
    "front": "front", "why": "why",
}  # fmt: skip
"""Field of a candidate -> its heading; columns without any value are left out."""
_CHOSEN = {"device": "device", "runtime": "runtime", "state": "state", "front": "on the front"}
_LIMITED = {"latency": "latency, ms", "bytes": "bytes", "memory": "peak memory", "lost": "quality lost"}

_STAGES = {"calls": "a few calls", "race": "screening", "match": "final"}


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A file in one place. ``front``: ``yes``, ``no``, or empty where nobody asked; ``state``: how it ended, or what
    its time is of."""

    name: str
    device: str = ""
    runtime: str = ""
    state: str = ""
    quality: float | None = None
    lost: float | None = None
    latency: float | None = None
    ratio: float | None = None
    bytes: int | None = None
    memory: int | None = None
    seconds: float | None = None
    front: str = ""
    why: str = ""

    def value(self, field: str) -> Any:
        found = getattr(self, field)
        return None if found == "" else found


def front_plot(candidates: Sequence[Candidate], title: str, about: str) -> list[Plot]:
    """The plot of ``candidates``; none where they have less than two figures to be drawn over."""
    known = [axis for axis in AXES if any(one.value(axis.field) is not None for one in candidates)]
    if len(known) < 2:
        return []
    axes = [*known, *([known[-1]] if len(known) == 2 else [])]
    columns = {f: head for f, head in COLUMNS.items() if any(one.value(f) is not None for one in candidates)}
    rows = [{field: one.value(field) for field in (*columns, "device", "runtime", "front")} for one in candidates]
    filters = [
        Filter(field, head, values)
        for field, head in _CHOSEN.items()
        if 1 < len(values := sorted({str(row[field]) for row in rows if row.get(field)})) <= MOST_VALUES
    ]
    limits = [Filter(field, head) for field, head in _LIMITED.items() if field in columns]
    numbers = [columns[axis.field] for axis in known]
    sheet = Sheet(tuple(columns.values()), [[row[f] for f in columns] for row in rows], right=numbers)
    spec = plots.scatter(rows, about, axes, columns)
    return [Plot(title, about, spec, sheet, [*filters, *limits], axes)]


def of_study(result: OptimizeResult) -> list[Plot]:
    """The front of a study, and the short looks at its trials."""
    best = result.recommended
    front = [
        Candidate(
            name=row.name, device=row.device, runtime=row.runtime, quality=row.quality, lost=row.drop,
            latency=row.latency_ms, ratio=row.ratio_p50, bytes=row.bytes, memory=row.peak_memory_bytes, front="yes",
            state="recommended" if best is not None and best.path == row.path else "float" if row.baseline else "front",
            why=row.reason or "; ".join(row.limits),
        )
        for row in result.front
    ]  # fmt: skip
    trials = [
        Candidate(
            name=f"{row.number}: {row.name}", device=seen.device, runtime=seen.runtime, state=row.state,
            quality=seen.quality, lost=seen.drop, latency=seen.shortest_ms, ratio=seen.ratio, bytes=row.bytes,
            seconds=row.seconds, front="yes" if row.on_front else "no", why=row.why,
        )
        for row in result.trials
        for seen in row.evidence
    ]  # fmt: skip
    timed = "Front: each file against its rivals in one interleaved run"
    looked = "Trials: the shortest of a few calls, by which candidates are proposed and no verdict is given"
    return [*front_plot(front, "Front", f"{timed}; {result.metric} on {result.reported_on}."),
            *front_plot(trials, "Trials", f"{looked}; {result.metric} on {result.judged_on}.")]  # fmt: skip


def of_candidates(result: AutoResult) -> list[Plot]:
    """What ``--scheme auto`` tried."""
    rows = []
    for trial in result.trials:
        time, quality = trial.time, trial.quality
        rows.append(Candidate(
            name=trial.name, device=trial.device or "", runtime=trial.runtime or "", bytes=trial.bytes,
            quality=None if quality is None else quality.value, lost=None if quality is None else quality.drop,
            latency=None if time is None else time.p50_ms if time.p50_ms is not None else time.shortest_ms,
            ratio=time.ratio_p50 if isinstance(time, ComparedTime) else None,
            state="not timed" if time is None else _STAGES.get(time.stage, time.stage),
            front="yes" if trial.chosen else "no", why="chosen" if trial.chosen else trial.why,
        ))  # fmt: skip
    about = "Every candidate; the chosen one is filled. What was sorted out early has the shortest of a few calls."
    return front_plot(rows, "Candidates", about)


def of_recipe(record: RecipeRecord) -> list[Plot]:
    """The files of a recipe."""
    rows = [
        Candidate(
            name=Path(row.file).name, device=row.device or "", runtime=row.runtime or "", quality=row.quality,
            latency=row.p50_ms, ratio=row.ratio, bytes=row.bytes, state=row.format,
        )
        for row in record.table
    ]  # fmt: skip
    return front_plot(_marked(rows), "Files", "Every file that the recipe made, on every device; the front is filled.")


def of_several(results: Iterable[Result]) -> list[Plot]:
    """Cells of benches, with the quality that other documents give for the same files (by hash)."""
    quality: dict[str, float] = {}
    rows: list[tuple[str, Candidate]] = []
    for result in results:
        if isinstance(result, EvalResult):
            quality[result.sha256] = result.value
        elif isinstance(result, QuantizeResult) and result.quality is not None:
            quality |= {result.artifact.sha256: result.quality.after, result.parent.sha256: result.quality.before}
        elif isinstance(result, BenchRecord):
            rows += [
                (entry.sha256, Candidate(
                    name=short(entry.model), device=entry.device.name, runtime=str(entry.runtime or ""),
                    latency=entry.p50_ms, bytes=entry.bytes, memory=entry.peak_memory_bytes,
                    state=threads(entry),
                ))
                for entry in result.results
                if entry.error is None
            ]  # fmt: skip
    found = [replace(one, quality=quality.get(sha256)) for sha256, one in rows]
    about = "Every timed file; those are filled that no other on their device is better than in every figure."
    return front_plot(_marked(found), "Time, bytes, memory and quality", about) if len(found) > 1 else []


def _marked(rows: Sequence[Candidate]) -> list[Candidate]:
    """With who is on the front of each device: of those that have all figures that any has."""
    marked: dict[int, str] = {}
    for device in {one.device for one in rows}:
        here = {k: _point(one) for k, one in enumerate(rows) if one.device == device}
        used = [k for k in range(4) if any(point[k] is not None for point in here.values())]
        points = {k: [point[j] for j in used] for k, point in here.items()}
        whole = {k: [value for value in point if value is not None] for k, point in points.items() if None not in point}
        kept = {list(whole)[k] for k in nondominated(list(whole.values()))} if len(used) > 1 else set()
        marked |= {k: "yes" if k in kept else "no" for k in here}
    return [replace(one, front=marked[k]) for k, one in enumerate(rows)]


def _point(one: Candidate) -> tuple[float | None, ...]:
    return one.latency, one.bytes, one.memory, None if one.quality is None else -one.quality
