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
from edgekit.documents import typed
from edgekit.errors import DeviceError
from edgekit.outputs import publishing, writable_folder
from edgekit.pipeline.auto.measuring import compared, failed, match
from edgekit.pipeline.auto.trial import Trial
from edgekit.pipeline.search.candidate import FLOAT
from edgekit.pipeline.search.device_lock import held
from edgekit.pipeline.search.evidence import Judge, trial_of
from edgekit.pipeline.search.front import limits_missed
from edgekit.pipeline.search.steps import RECIPE, MadeFile
from edgekit.results.compare import Comparison
from edgekit.results.optimize import Evidence, FrontRow
from edgekit.types import DeviceSpec

log = logging.getLogger("edgekit")
FINALISTS = 6
"""Candidates of a last run; with more, each would be timed too seldom in a row."""
WORKERS = 2


@dataclass(frozen=True, slots=True)
class Entrant:
    """A file that may be on the front. ``number``: of its trial, below 0 for a float file as it was exported."""

    number: int
    name: str
    file: MadeFile
    evidence: Sequence[Evidence]
    text: str
    baseline: bool = False

    @property
    def recipe(self) -> Path:
        """Beside the file that it made."""
        assert self.file.path is not None
        return self.file.path.with_name(RECIPE)

    def on(self, device: str) -> Evidence | None:
        """What it showed on a device."""
        return next((one for one in self.evidence if one.device == device), None)


def finalists(entrants: Sequence[Entrant], device: str, allowed: float) -> list[Entrant]:
    """Those that the short looks leave on a device's front, the ones within the allowed loss first."""
    rows = [(one, found) for one in entrants if (found := one.on(device)) is not None and found.drop is not None]
    points = [(max(found.drop or 0.0, 0.0), found.ratio, one.file.bytes) for one, found in rows]
    kept = [rows[k] for k in nondominated(points)]
    kept.sort(key=lambda row: ((row[1].drop or 0.0) > allowed, row[1].ratio))
    return [one for one, _ in kept[:FINALISTS]]


def final(judge: Judge, device: DeviceSpec, floats: Sequence[Entrant], chosen: Sequence[Entrant]) -> list[FrontRow]:
    """The rows of a device: every entrant's time from one interleaved run, and its quality on the report's samples.

    Raises:
        DeviceError: no float file was timed.
    """
    entrants = [*floats, *chosen]
    trials = [_trial(judge, one, device) for one in entrants]
    log.info("final on %s: %d files, %.3g s each", device.name, len(trials), judge.options.seconds)
    journal = judge.folder / f"final-{device.name}.part"
    with held(device, lease=False):
        results = match(trials, judge.inputs, judge.options.seconds, WORKERS, journal)
    journal.unlink(missing_ok=True)
    found = compared(trials, results)
    if found["best"] is None:
        raise DeviceError(f"no float file was timed on {device.name}")
    names = [trial.name for trial in trials]
    best = names.index(found["best"])
    before = judge.quality(trials[best], report=True)
    rows: list[FrontRow] = []
    for one, trial, result in zip(entrants, trials, results, strict=True):
        row = found["rows"][trial.name]
        if "p50_ms" not in row:
            log.warning("%s is left out: %s", trial.name, row.get("why") or failed(DeviceError("it was not timed")))
            continue
        after = before if trial is trials[best] else judge.quality(trial, report=True)
        comparison = typed(Comparison, row, trial.name) if "ratio_p50" in row else None
        rows.append(_row(judge, one, trial, before.drop_to(after), after.value, row["p50_ms"], comparison,
                         result.peak_memory_bytes, found["best"], device))  # fmt: skip
    return [replace(row, limits=limits_missed(row, judge.options, judge.allowed)) for row in rows]


def _trial(judge: Judge, one: Entrant, device: DeviceSpec) -> Trial:
    found = one.on(device.name)
    assert found is not None
    ways = judge.ways[device.name][one.file.artifact.format]
    way = next(way for way in ways if (way.runtime, way.threads) == (found.runtime, found.threads))
    return trial_of(one.file, one.name, way, FLOAT if one.baseline else "")


def _row(
    judge: Judge,
    one: Entrant,
    trial: Trial,
    drop: float,
    quality: float,
    p50_ms: float,
    comparison: Comparison | None,
    memory: int | None,
    against: str,
    device: DeviceSpec,
) -> FrontRow:
    way = trial.way
    assert way is not None and one.file.path is not None
    return FrontRow(
        path=one.file.path,
        recipe=one.recipe,
        trial=one.number,
        name=one.name,
        format=str(one.file.artifact.format),
        bytes=one.file.bytes,
        sha256=one.file.sha256,
        quality=quality,
        drop=drop,
        latency_ms=p50_ms,
        ratio_p50=None if comparison is None else comparison.ratio_p50,
        ci95=None if comparison is None else comparison.ci95,
        verdict=None if comparison is None else comparison.verdict,
        against=against,
        peak_memory_bytes=memory,
        device=device.name,
        evidence=device.evidence.value,
        runtime=way.runtime,
        threads=way.threads,
        baseline=one.baseline and trial.is_float,
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
