"""The saved results under a folder, as a history: what belongs to one course, in which order, and how it compares."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from edgekit.bench.variance import BUILT_IN, RunVariance, variance_of, wider
from edgekit.errors import InputError
from edgekit.pipeline.compare import compare_two
from edgekit.progress import track
from edgekit.results.base import PublishedFile
from edgekit.results.bench import BenchRecord, Entry
from edgekit.results.compare import Comparison
from edgekit.results.eval import EvalResult
from edgekit.results.history import TIME, Course, HistoryResult, HistoryRun, LeftOut
from edgekit.results.proof import ExportedArtifact, ExportResult
from edgekit.results.quantize import AutoResult, QuantizeResult
from edgekit.results.saved import HOW, SavedDocument, read_result
from edgekit.types import Verdict

SUFFIX = ".json"
BYTES = "bytes"


@dataclass(frozen=True, slots=True)
class _Key:
    """What the runs of a course have in common. ``cpu`` and ``chip`` with what tells two of one name apart."""

    model: str
    figure: str
    device: str = ""
    cpu: str = ""
    runtime: str = ""
    setting: str = ""
    place: str = ""


@dataclass(frozen=True, slots=True)
class _Sample:
    """A figure of a document; with the entry of the bench that it comes from, if it is a time."""

    run: HistoryRun
    entry: Entry | None = None
    variance: RunVariance = BUILT_IN


def history(folder: Path) -> HistoryResult:
    """The figures of every document of edgekit below ``folder``, by date.

    Other files and documents that cannot be read are left out, with the reason.

    Raises:
        InputError: there is no saved result.
    """
    left_out: list[LeftOut] = []
    courses: dict[_Key, list[_Sample]] = {}
    count = 0
    files = sorted(_documents(folder))
    for path in track(files, "reading saved results", len(files)):
        name = str(path.relative_to(folder))
        try:
            document = read_result(path)
        except InputError as error:
            left_out.append(LeftOut(name, str(error)))
            continue
        count += 1
        for key, sample in _samples(document, name, _date(document, path)):
            courses.setdefault(key, []).append(sample)
    if not count:
        seen = f"; {left_out[0].path}: {left_out[0].reason}" if left_out else ""
        raise InputError(
            f"{folder} holds no saved result of edgekit ({len(left_out)} other {SUFFIX} "
            f"file{'' if len(left_out) == 1 else 's'}{seen}); {HOW}, and keep it there"
        )
    found = tuple(_course(key, courses[key]) for key in sorted(courses, key=_place))
    return HistoryResult(folder=folder, documents=count, courses=found, left_out=tuple(left_out))


def _documents(folder: Path) -> Iterator[Path]:
    """Files that may be documents; links to folders are not followed, and hidden folders are somebody's state."""
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(place) / name for name in names if name.endswith(SUFFIX))


def _place(key: _Key) -> tuple[object, ...]:
    return key.model, key.figure != TIME, *astuple(key)


def _date(document: SavedDocument, path: Path) -> str:
    """When it was made: as it says itself, else when the file was written."""
    try:
        made = datetime.fromisoformat(document.date)
    except ValueError:
        made = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    return made.astimezone(UTC).isoformat(timespec="seconds")


def _samples(document: SavedDocument, name: str, date: str) -> Iterator[tuple[_Key, _Sample]]:
    result, at = document.result, HistoryRun(document=name, date=date, version=document.version, sha256="", value=0.0)
    if isinstance(result, BenchRecord):
        yield from _times(result, at)
    elif isinstance(result, EvalResult):
        key = _Key(result.model.name, result.metric, result.device, _cpu(document), result.runtime, result.data)
        yield key, _Sample(replace(at, sha256=result.sha256, value=result.value))
    elif isinstance(result, AutoResult | QuantizeResult):
        yield _size(result.artifact, at)
    elif isinstance(result, ExportResult):
        yield from (_size(one, at) for one in result.artifacts)


def _size(file: PublishedFile | ExportedArtifact, at: HistoryRun) -> tuple[_Key, _Sample]:
    return _Key(file.path.name, BYTES), _Sample(replace(at, sha256=file.sha256, value=float(file.bytes)))


def _cpu(document: SavedDocument) -> str:
    return str(document.environment.get("cpu", ""))


def _times(record: BenchRecord, at: HistoryRun) -> Iterator[tuple[_Key, _Sample]]:
    """Of the cells that have a p50. Two files of one name in a document are known by their whole paths."""
    names = {entry.model for entry in record.results}
    whole = len({Path(name).name for name in names}) < len(names)
    for entry in record.results:
        if entry.error is not None or entry.p50_ms is None or entry.latency_ms is None:
            continue
        device = entry.device
        place = f"{device.evidence} {device.cpu_id} {device.chip}"
        setting = f"{entry.threads} thread{'' if entry.threads == 1 else 's'}, batch {entry.batch}, {entry.scenario}"
        model = entry.model if whole else Path(entry.model).name
        key = _Key(model, TIME, device.name, str(device.cpu), str(entry.runtime), setting, place)
        run = replace(at, sha256=entry.sha256 or "", value=entry.p50_ms, ci95=entry.latency_ms.ci95_p50)
        yield key, _Sample(run, entry, variance_of(record))


def _course(key: _Key, samples: Sequence[_Sample]) -> Course:
    samples = sorted(samples, key=lambda one: (one.run.date, one.run.document))
    runs = [samples[0].run]
    for before, after in pairwise(samples):
        runs.append(replace(after.run, against_previous=_compared(after, before)))
    whole = _compared(samples[-1], samples[0]) if len(samples) > 1 else None
    return Course(
        figure=key.figure, model=key.model, runtime=key.runtime, device=key.device, cpu=key.cpu, setting=key.setting,
        runs=tuple(runs), comparison=whole,
    )  # fmt: skip


def _compared(after: _Sample, before: _Sample) -> Comparison | None:
    """Two times by the rules of ``compare``; None for figures that have no such rules."""
    if after.entry is None or before.entry is None:
        return None
    names = after.run.document, before.run.document
    try:
        return compare_two(after.entry, before.entry, names, wider(after.variance, before.variance))
    except InputError as error:  # the samples were not kept
        ratio = after.run.value / before.run.value
        verdict, reason = Verdict.INCONCLUSIVE, str(error)
        return Comparison(a=names[0], b=names[1], ratio_p50=ratio, verdict=verdict, method="occasions", reason=reason)
