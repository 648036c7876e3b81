"""The table of what was tried."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from edgekit.documents import typed
from edgekit.pipeline.search.candidate import FLOAT, Candidate
from edgekit.pipeline.search.final import Final, Finisher
from edgekit.pipeline.search.run import Search
from edgekit.results.optimize import Evidence
from edgekit.results.optimize import TrialRow as StudyRow
from edgekit.results.quantize import ComparedTime, TrialQuality, TrialRow, TrialTime
from edgekit.types import Format


@dataclass(frozen=True)
class Finish:
    """The last run and what came of it. ``why``: name -> why a file was not chosen."""

    found: Final
    chosen: Finisher
    best: Finisher
    why: Mapping[str, str]


def float_rows(finish: Finish, search: Search) -> Iterator[TrialRow]:
    """The float files, in all ways to run them."""
    device = search.subject.judge.devices[0].name
    for one in search.floats:
        evidence = one.on(device)
        yield from _table_rows(
            Candidate(str(one.file.artifact.format), FLOAT), finish, search, evidence,
            name=one.name, size=one.file.bytes, sha256=one.file.sha256,
            why="" if evidence is not None else f"it runs in no runtime on {device}",
        )  # fmt: skip


def trial_rows(row: StudyRow, finish: Finish, search: Search, twins: Mapping[int, str]) -> Iterator[TrialRow]:
    """A trial of the study, in all ways to run its file."""
    judge = search.subject.judge
    evidence = next(iter(row.evidence), None)
    why = f"it cannot be made: {row.why}" if row.state == "failed" and not row.sha256 else row.why
    if evidence is not None and not (evidence.drop or 0.0) <= judge.allowed:
        metric = next(iter(search.references.values())).quality.metric
        why = f"loses {evidence.drop:.4f} of {metric}, {judge.allowed:g} is allowed"
    return _table_rows(
        typed(Candidate, row.parameters, "a candidate"), finish, search, evidence, name=row.name,
        size=row.bytes, sha256=row.sha256, why=why or twins.get(row.number, ""),
    )  # fmt: skip


def _table_rows(
    candidate: Candidate,
    finish: Finish,
    search: Search,
    evidence: Evidence | None,
    *,
    name: str,
    size: int | None,
    sha256: str | None,
    why: str,
) -> Iterator[TrialRow]:
    """A row for the way in which a file was judged, and one for each other way."""
    judge = search.subject.judge
    device = judge.devices[0]
    plain = TrialRow(
        name=name, format=Format(candidate.format), scheme=candidate.scheme, calibration=candidate.calibration or None,
        runtime=None, device=None, threads=None, bytes=size, sha256=sha256, quality=None, time=None, chosen=False,
        why=why,
    )  # fmt: skip
    if evidence is None:
        yield plain
        return
    ways = {way.name: way for way in judge.ways[device.name][plain.format]}
    first = next(way for way in ways.values() if (way.runtime, way.threads) == (evidence.runtime, evidence.threads))
    reference = next(iter(search.references.values())).quality
    full = f"{name}, {first.name}"
    ended = next((one for one in finish.found.finishers if one.timed.name == full), None)
    chosen = ended is finish.chosen
    said = finish.why.get(full, why) if ended is not None else why or "not among the fastest that keep the limit"
    quality = TrialQuality(
        metric=reference.metric, value=reference.value if evidence.quality is None else evidence.quality,
        drop=evidence.drop, data=judge.samples.choose.label, total=len(judge.samples.choose),
    )  # fmt: skip
    yield replace(
        plain, name=full, runtime=first.runtime, device=device.name, threads=first.threads, quality=quality,
        time=_time(ended, evidence), chosen=chosen, why="" if chosen else said,
    )  # fmt: skip
    finished = {one.timed.name for one in finish.found.finishers}
    for other, ms in evidence.calls.items():
        if other != first.name and f"{name}, {other}" not in finished:
            yield replace(
                plain, name=f"{name}, {other}", runtime=ways[other].runtime, device=device.name,
                threads=ways[other].threads, why=f"faster in {first.name}, or less is lost there",
                time=TrialTime(stage="calls", shortest_ms=ms, p50_ms=None),
            )  # fmt: skip


def _time(ended: Finisher | None, evidence: Evidence) -> TrialTime | ComparedTime:
    if ended is None:
        return TrialTime(stage="calls", shortest_ms=evidence.shortest_ms, p50_ms=None)
    found, times = ended.time.comparison, {"shortest_ms": evidence.shortest_ms, "p50_ms": ended.time.p50_ms}
    if found is None:
        return TrialTime(stage="match", **times)
    return ComparedTime(
        stage="match", **times, ratio_p50=found.ratio_p50, ci95=found.ci95, verdict=found.verdict, against=found.b
    )
