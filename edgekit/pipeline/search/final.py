"""The last look: the best of a study and the float files in one interleaved run on each device, with their quality on
samples that nothing was chosen on; and what is published of it."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.artifact import onnx_parts
from edgekit.bench.pareto import nondominated
from edgekit.outputs import publishing, writable_folder
from edgekit.pipeline.search.device_lock import held
from edgekit.pipeline.search.evidence import Judge
from edgekit.pipeline.search.front import limits_missed
from edgekit.pipeline.search.measuring import Match, MatchTime, TimedFile, match
from edgekit.pipeline.search.steps import RECIPE, MadeFile
from edgekit.results.compare import MARGIN
from edgekit.results.compressed import Device
from edgekit.results.optimize import Evidence, FrontRow
from edgekit.types import DeviceSpec, Verdict

log = logging.getLogger("edgekit")
FINALISTS = 6
"""Candidates of a last run; with more, each would be timed too seldom in a row."""
WORKERS = 2
LONGER = 3.0
"""The second run, where the first calls no file faster though some seem so, takes this much longer."""


@dataclass(frozen=True, slots=True)
class Entrant:
    """A file that may be on the front. ``number``: of its trial, below 0 for a float file as it was exported;
    ``baseline``: in float32."""

    number: int
    name: str
    file: MadeFile
    evidence: Sequence[Evidence]
    baseline: bool = False

    def on(self, device: str) -> Evidence | None:
        """What it showed on a device."""
        return next((one for one in self.evidence if one.device == device), None)

    def timed(self, judge: Judge, device: DeviceSpec) -> TimedFile:
        """The file in the way in which it did so."""
        found = self.on(device.name)
        assert found is not None
        ways = judge.ways[device.name][self.file.artifact.format]
        way = next(way for way in ways if (way.runtime, way.threads) == (found.runtime, found.threads))
        return TimedFile(f"{self.name}, {way.name}", self.file, way, exported=self.number < 0)


@dataclass(frozen=True, slots=True)
class Finisher:
    """An entrant that was timed in the last run."""

    entrant: Entrant
    timed: TimedFile
    time: MatchTime


@dataclass(frozen=True, slots=True)
class Final:
    """The last, interleaved run on a device.

    Attributes:
        best: the fastest float file, which all others were compared with.
        device: as the bench describes it.
    """

    best: TimedFile
    device: Device
    finishers: tuple[Finisher, ...]


def finalists(entrants: Sequence[Entrant], device: str, allowed: float) -> list[Entrant]:
    """Those that the short looks leave on a device's front, the ones within the allowed loss first; where there is
    room, those that would be on it without these."""
    rows = [(one, found) for one in entrants if (found := one.on(device)) is not None and found.drop is not None]
    kept: list[Entrant] = []
    while rows and len(kept) < FINALISTS:
        points = [(max(found.drop or 0.0, 0.0), found.ratio, one.file.bytes) for one, found in rows]
        layer = [rows[k] for k in nondominated(points)]
        rows = [row for row in rows if row not in layer]
        layer.sort(key=lambda row: ((row[1].drop or 0.0) > allowed, row[1].ratio))
        kept += [one for one, _ in layer]
    return kept[:FINALISTS]


def final(judge: Judge, device: DeviceSpec, floats: Sequence[Entrant], chosen: Sequence[Entrant]) -> Final:
    """Every entrant's time from one interleaved run. Where none is called faster than the fastest float file though
    some seem so, or are smaller and seem to take the same time, these once more, for longer.

    Raises:
        DeviceError: no float file was timed.
    """
    entrants = [*floats, *chosen]
    files = [one.timed(judge, device) for one in entrants]
    log.info("final on %s: %d files, %.3g s each", device.name, len(files), judge.options.seconds)
    with held(device, lease=False):
        found = _matched(judge, device, files, judge.options.seconds)
        times = {**found.times}
        unsure = undecided(files, found)
        if unsure:
            log.info("nothing is decided of %d files: once more, for longer", len(unsure))
            times |= _matched(judge, device, [found.best, *unsure], LONGER * judge.options.seconds).times
    for name, time in times.items():
        if time.why:
            log.warning("%s is left out: %s", name, time.why)
    timed = zip(entrants, files, strict=True)
    return Final(
        found.best, found.device,
        tuple(Finisher(one, file, times[file.name]) for one, file in timed if not times[file.name].why),
    )  # fmt: skip


def undecided(files: Sequence[TimedFile], found: Match) -> list[TimedFile]:
    """Those that seem faster than the fastest float file without a verdict, or smaller and as fast, where none is
    called faster. No other float file, so that all are compared with the same one when they run again."""
    if any(time.verdict is Verdict.FASTER for time in found.times.values()):
        return []
    least = found.best.file.bytes
    return [one for one in files if not one.baseline and _is_unsure(found.times[one.name], one.file.bytes < least)]


def _is_unsure(time: MatchTime, smaller: bool) -> bool:
    """Whether a file seems faster without a verdict; or, of a smaller one, to take the same time."""
    found = time.comparison
    if found is None or found.ratio is None or found.verdict is not Verdict.INCONCLUSIVE:
        return False
    return found.ratio < (1 + MARGIN if smaller else 1)


def _matched(judge: Judge, device: DeviceSpec, files: Sequence[TimedFile], seconds: float) -> Match:
    journal = judge.folder / f"final-{device.name}.part"
    found = match(files, judge.inputs, seconds, WORKERS, journal)
    journal.unlink(missing_ok=True)
    return found


def reported(judge: Judge, found: Final) -> list[FrontRow]:
    """The rows of a device, each with its quality on the samples that nothing was chosen on."""
    before = judge.quality(found.best, report=True)
    rows = []
    for one in found.finishers:
        after = before if one.timed is found.best else judge.quality(one.timed, report=True)
        rows.append(_row(one, before.drop_to(after), after.value, found.best.name))
    return [replace(row, limits=limits_missed(row, judge.options, judge.allowed)) for row in rows]


def _row(one: Finisher, drop: float, quality: float, against: str) -> FrontRow:
    timed, time, way, path = one.timed, one.time, one.timed.way, one.timed.file.path
    assert path is not None and time.p50_ms is not None
    comparison = time.comparison
    return FrontRow(
        path=path,
        recipe=path.with_name(RECIPE),
        trial=one.entrant.number,
        name=one.entrant.name,
        format=str(timed.file.artifact.format),
        bytes=timed.file.bytes,
        sha256=timed.file.sha256,
        quality=quality,
        drop=drop,
        latency_ms=time.p50_ms,
        ratio_p50=None if comparison is None else comparison.ratio_p50,
        ci95=None if comparison is None else comparison.ci95,
        verdict=None if comparison is None else comparison.verdict,
        against=against,
        peak_memory_bytes=time.peak_memory_bytes,
        device=way.device.name,
        evidence=way.device.evidence.value,
        runtime=way.runtime,
        threads=way.threads,
        baseline=timed.baseline,
    )


def _copied(model: Path, folder: Path, name: str) -> Path:
    """The copy of a model file in ``folder``, called ``name``; of one that keeps its weights in other files, under
    their own names in a folder of that name."""
    parts = onnx_parts(model) if model.suffix == ".onnx" else {}
    target = folder / name / model.name if parts else folder / f"{name}{model.suffix}"
    for source, place in [*((part, target.parent / part.name) for part in parts.values()), (model, target)]:
        with publishing(place) as temporary:
            shutil.copyfile(source, temporary)
    return target


def publish(rows: Sequence[FrontRow], texts: Mapping[int, str], folder: Path, stem: str) -> list[FrontRow]:
    """Puts the files of ``rows`` into ``folder``, each with its recipe; the rows say where they are.

    Raises:
        StorageError, UsageError: the folder cannot be written.
    """
    writable_folder(folder)
    published: list[FrontRow] = []
    for row in rows:
        name = f"{stem}-float-{row.format}" if row.trial < 0 else f"{stem}-{row.trial:03d}"
        recipe = folder / f"{name}.toml"
        path = _copied(row.path, folder, name)
        with publishing(recipe) as temporary:
            temporary.write_text(texts[row.trial], encoding="utf-8")
        published.append(replace(row, path=path.resolve(), recipe=recipe.resolve()))
    return published
