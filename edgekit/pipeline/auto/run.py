"""The order of it: make, a few calls, race, judge, match, publish. Every finished trial is kept in the trial store."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from edgekit.artifact import require_beside, sha256_file
from edgekit.bench.environment import environment
from edgekit.documents import typed
from edgekit.environments import OPENVINO, TFLITE
from edgekit.errors import DeviceError, EdgekitError, StorageError, UsageError, interruption
from edgekit.options.quantize import QuantizeOptions
from edgekit.outputs import check_output
from edgekit.pipeline.auto.candidates import (
    ENDS_THE_RUN,
    FLOAT,
    Candidate,
    first_candidates,
    further_candidates,
    make,
    mixed_candidate,
)
from edgekit.pipeline.auto.checks import SECONDS, device_of, of_auto, place_of, target_of
from edgekit.pipeline.auto.measuring import (
    FAR_OFF,
    Figure,
    Inputs,
    compared,
    failed,
    fidelity_of,
    match,
    quality_of,
    shortest_ms,
    with_times,
)
from edgekit.pipeline.auto.parents import FloatSource, float_files, float_source
from edgekit.pipeline.auto.publish import Choice, publish
from edgekit.pipeline.auto.samples import JudgingSamples, real_samples, take_samples
from edgekit.pipeline.auto.trial import (
    FINALISTS,
    Trial,
    changed,
    drop_slower,
    far_off,
    named,
    pick,
    running,
    shortest_float,
    undecided,
    with_why,
)
from edgekit.pipeline.auto.trial_store import TrialStore, Value
from edgekit.pipeline.auto.ways import Way, find_ways
from edgekit.progress import track
from edgekit.quality.likeness import LIKENESS, allowed_loss, likeness_to
from edgekit.quality.metrics import metric_of
from edgekit.results.compressed import Device
from edgekit.results.eval import Evaluation
from edgekit.results.quantize import AutoResult
from edgekit.runtime.precision import precision_of
from edgekit.types import Artifact, DeviceSpec, Format, Verdict
from edgekit.version import __version__

log = logging.getLogger("edgekit")
RACE_SHARE, RACE_WORKERS, MATCH_WORKERS = 1 / 3, 2, 4
LONGER = 3.0
"""The second match, where the first shows no candidate to be faster though one seems so, takes this much longer."""


def auto(options: QuantizeOptions) -> AutoResult:
    """Tries every scheme of every format in every runtime of a device, and publishes the fastest that loses little.

    The float file where none is shown to be faster than the fastest float file of any runtime: that is said. ``models``
    are float ``.onnx`` and ``.tflite`` files of one network, or one network, which is exported to both; without a
    suffix ``out`` gets that of the chosen format; a folder takes ``NAME-auto.FORMAT``.

    Raises:
        UsageError: an option makes no sense; an emulated device, which has no time.
        InputError: a model or the data cannot be used; the disk is full (finished trials are kept).
        DeviceError: the device cannot be used, or runs no float file.
    """
    options = of_auto(options)
    device = device_of(options)
    models = options.models if isinstance(options.models, tuple) else (options.models,)
    source = float_source(list(models), options.factory, options.io_file)
    target = target_of(options.out, source.formats)
    parents = {file.path.resolve() for file in source.files}
    for format_ in source.formats:
        place = place_of(target, source.stem, format_)
        if place.resolve() in parents:
            raise UsageError(f"-o names the model itself ({target}); give another name, the parent is kept")
        check_output(place)
    for file in source.files:  # any of them may be what is shipped
        require_beside(file.path, place_of(target, source.stem, str(file.format)))
    assert options.data is not None  # of_auto has looked
    by_labels = options.max_drop is not None
    samples = take_samples(options.data, source.card, options.limit, options.metric, judged_by_labels=by_labels)
    store = TrialStore(_identity(source, options, device, samples), options.resume)
    with _told_when_interrupted(store):
        figure = Figure() if options.metric is None else Figure(options.metric, metric_of(options.metric))
        return _chosen(_Job(source, device, options, samples, store, figure), target)


def _identity(named: FloatSource, options: QuantizeOptions, device: DeviceSpec, samples: JudgingSamples) -> Value:
    """All that a trial depends on. What only decides (the limit of the drop) changes no trial; a factory counts by the
    weights and the card of the network."""
    found = environment()
    saved = options.calibration or ""
    without = ("models", "out", "resume", "max_drop", "smaller", "factory")
    rows = {name: value for name, value in options.given().items() if name not in without}
    return {
        "edgekit": __version__,
        "versions": found["versions"],
        "machine": [found["cpu"], found["cores"]],
        "models": list(named.identity),
        "data": samples.fingerprint(),
        "options": rows,
        "ranges": sha256_file(saved) if saved.endswith(".json") else None,
        "device": asdict(device),
        "environments": {one.name: one.apart() for one in (TFLITE, OPENVINO)},
    }


@contextmanager
def _told_when_interrupted(store: TrialStore) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        store.close()
        if store.found and (interruption(error) or isinstance(error, SystemExit | DeviceError | StorageError)):
            log.warning("%d finished trials are kept in %s; the same command goes on", store.found, store.folder)
        raise


@dataclass(frozen=True, slots=True)
class _Job:
    """What one run is given."""

    named: FloatSource
    device: DeviceSpec
    options: QuantizeOptions
    samples: JudgingSamples
    store: TrialStore
    figure: Figure

    @property
    def allowed(self) -> float:
        """The largest loss of quality."""
        if self.options.max_drop is not None:
            return self.options.max_drop
        assert self.options.min_snr is not None  # of_auto has looked
        return allowed_loss(self.options.min_snr)

    def quality(self, trial: Trial) -> Evaluation:
        """Of a trial, on the samples that the choice is made on."""
        return quality_of(trial, self.samples.choose, self.store, self.figure)

    @property
    def seconds(self) -> float:
        """Time of each file in the final."""
        return self.options.seconds or SECONDS


@dataclass(frozen=True, slots=True)
class _Race:
    """What timing gave: all trials, the fastest float file, and the device as the bench describes it."""

    trials: tuple[Trial, ...]
    best: Trial
    where: Value


def _chosen(job: _Job, target: Path) -> AutoResult:
    """The order of the stages: float files, candidates, a few calls, race, quality, final, publish."""
    parents, unmade = float_files(job.named, job.store)
    if job.options.max_drop is None:
        job = replace(job, figure=Figure(LIKENESS, likeness_to(parents[0].path)))
    ways, missing = find_ways(parents, job.device, job.options.runtime, job.options.thread_counts)
    notes = (*job.samples.notes, *unmade, *missing)
    _try_data(job, parents, ways, notes)
    inputs = Inputs(job.options.seed or 0, real_samples(parents, job.samples.choose, job.store.folder))
    trials = _called(job, _made(job, parents, ways), inputs)
    race = _timed(job, trials, "race", running(trials), inputs, job.seconds * RACE_SHARE)
    race = replace(race, trials=drop_slower(race.trials, race.best))
    race, finalists = _judged(job, race)
    chosen = race.best
    if finalists:
        race, chosen = _final(job, race, finalists, inputs)
    return _published(job, race, chosen, notes, target)


def _try_data(
    job: _Job, parents: Sequence[Artifact], ways: dict[Format, tuple[Way, ...]], notes: tuple[str, ...]
) -> None:
    """Data that do not fit the network are refused by its first float file, before any work."""
    first = next(((parent, ways[parent.format][0]) for parent in parents if ways[parent.format]), None)
    if first is None:
        raise DeviceError(f"no runtime on {job.device.name} runs the float files: {'; '.join(notes)}")
    made = make(Candidate(first[0], FLOAT), job.samples, job.options, job.store)
    assert not isinstance(made, str)
    job.quality(Trial(made.candidate, made, first[1]))


def _made(job: _Job, parents: Sequence[Artifact], ways: dict[Format, tuple[Way, ...]]) -> tuple[Trial, ...]:
    """Every candidate in every way to run it."""
    trials: list[Trial] = []
    candidates: list[Candidate] = []
    for parent in parents:
        found = first_candidates(parent, job.options)
        if ways[parent.format]:
            candidates += found
        else:
            trials.append(Trial(found[0], why=f"no runtime on {job.device.name} was tried for .{parent.format}"))
    for candidate in track(candidates, "making candidates", len(candidates)):
        trials += _of_candidate(job, candidate, ways[candidate.parent.format])
    return tuple(trials)


def _of_candidate(job: _Job, candidate: Candidate, ways: Sequence[Way]) -> list[Trial]:
    made = make(candidate, job.samples, job.options, job.store)
    if isinstance(made, str):
        return [Trial(candidate, why=f"it cannot be made: {made}")]
    return [Trial(candidate, made, way) for way in ways]


def _called(job: _Job, trials: tuple[Trial, ...], inputs: Inputs) -> tuple[Trial, ...]:
    """A few calls of each; those far off get a second chance, since the machine may have been busy."""
    trials = changed(trials, *(_with_shortest(job, trial, inputs, "calls") for trial in running(trials)))
    if shortest_float(trials) == float("inf"):
        why = next((t.why for t in trials if t.is_float), "")
        raise DeviceError(f"no float file runs on {job.device.name}: {why}")
    again = far_off(running(trials), FAR_OFF)
    trials = changed(trials, *(_with_shortest(job, trial, inputs, "calls again") for trial in again))
    least = shortest_float(trials)
    late = {
        trial.name: f"its shortest call takes {(trial.shortest_ms or 0.0) / least:.1f} times that of the fastest float "
        "file: not raced"
        for trial in far_off(running(trials), FAR_OFF)
    }
    return with_why(late, trials)


def _with_shortest(job: _Job, trial: Trial, inputs: Inputs, stage: str) -> Trial:
    """``trial`` with its shortest call, or why it failed; both are kept."""

    def work() -> Value:
        log.info("%s: %s", stage, trial.name)
        try:
            return {"ms": shortest_ms(trial, inputs)}
        except ENDS_THE_RUN:
            raise
        except EdgekitError as error:
            return {"error": failed(error)}

    row = job.store.once(f"{stage} {trial.name}", work)
    if "error" in row:
        return replace(trial, stage="calls", why=row["error"])
    return replace(trial, stage="calls", shortest_ms=min(row["ms"], trial.shortest_ms or row["ms"]))


def _timed(
    job: _Job,
    trials: tuple[Trial, ...],
    stage: str,
    entrants: Sequence[Trial],
    inputs: Inputs,
    seconds: float,
    workers: int = RACE_WORKERS,
) -> _Race:
    """The entrants against each other."""

    def work() -> Value:
        log.info("%s of %d, %.3g s each", stage, len(entrants), seconds)
        journal = job.store.folder / f"{stage.replace(' ', '-')}.part"
        return compared(entrants, match(entrants, inputs, seconds, workers, journal))

    names = " | ".join(trial.name for trial in entrants)
    found = job.store.once(f"{stage} {seconds:g} {names}", work)
    timed = with_times(entrants, found, stage.partition(" ")[0])
    if found["best"] is None:
        why = next((t.why for t in timed if t.is_float), "")
        raise DeviceError(f"no float file was timed on {job.device.name}: {why}")
    return _Race(changed(trials, *timed), named(timed, found["best"]), found["device"])


def _judged(job: _Job, race: _Race) -> tuple[_Race, list[Trial]]:
    """The fastest candidates that lose no more than is allowed; others are tried in place of those that do."""
    before = job.quality(race.best)
    best = replace(race.best, quality=before, drop=0.0)
    trials, kept = changed(race.trials, best), list[Trial]()
    for trial in sorted((t for t in running(trials) if not t.is_float), key=lambda t: t.ratio):
        if len(kept) == FINALISTS:
            trials = with_why({trial.name: f"not among the {FINALISTS} fastest that keep the limit"}, trials)
            continue
        judged = _with_quality(job, trial, before)
        trials = changed(trials, judged)
        if not judged.out:
            kept.append(judged)
        elif judged.quality is not None:
            instead = _instead_of(job, judged, before)
            trials = changed(trials, *instead)
            kept += running(instead)
    return replace(race, trials=trials, best=best), kept[:FINALISTS]


def _with_quality(job: _Job, trial: Trial, before: Evaluation) -> Trial:
    """``trial`` with its quality; out where it loses more than is allowed, or fails."""
    try:
        quality = job.quality(trial)
        figures, missed = fidelity_of(trial, job.samples.choose, job.options.min_snr)
    except ENDS_THE_RUN:
        raise
    except EdgekitError as error:
        return replace(trial, why=failed(error))
    drop = before.drop_to(quality)
    lost = f"loses {drop:.4f} of {before.metric}, {job.allowed:g} is allowed" if not drop <= job.allowed else ""
    return replace(trial, quality=quality, drop=drop, fidelity=figures, why=lost or "; ".join(missed))


def _instead_of(job: _Job, lost: Trial, before: Evaluation) -> list[Trial]:
    """What was tried in place of ``lost``: other ranges, then mixed precision; one of them at most is not out, the one
    that loses least."""
    ranges = _least(job, further_candidates(lost.candidate, job.options), lost, before)
    if running(ranges):
        return ranges
    return ranges + _least(job, mixed_candidate(lost.candidate), lost, before)


def _least(job: _Job, candidates: Sequence[Candidate], lost: Trial, before: Evaluation) -> list[Trial]:
    assert lost.way is not None
    tried = [trial for one in candidates for trial in _of_candidate(job, one, [lost.way])]
    tried = [trial if trial.out else _with_quality(job, trial, before) for trial in tried]
    first, *others = sorted(running(tried), key=lambda trial: trial.drop or 0.0) or [lost]
    why = f"{first.name} loses no more and differs in its ranges only"
    return list(with_why(dict.fromkeys((trial.name for trial in others), why), tried))


def _final(job: _Job, race: _Race, finalists: Sequence[Trial], inputs: Inputs) -> tuple[_Race, Trial]:
    """The finalists against the fastest float files, and the one that is chosen."""
    floats = [trial for trial in running(race.trials) if trial.is_float]
    floats.sort(key=lambda trial: trial.p50_ms or 0.0)
    entrants = [*floats[:FINALISTS], *finalists]
    names, smaller = [trial.name for trial in entrants], job.options.smaller
    race = _timed(job, race.trials, "match", entrants, inputs, job.seconds, MATCH_WORKERS)
    again = undecided([named(race.trials, name) for name in names], race.best, smaller=smaller)
    if again:
        entrants = [race.best, *again]
        race = _timed(job, race.trials, "match again", entrants, inputs, LONGER * job.seconds, MATCH_WORKERS)
    chosen, reasons = pick([named(race.trials, name) for name in names], race.best, smaller=smaller)
    return replace(race, trials=with_why(reasons, race.trials)), chosen


def _published(job: _Job, race: _Race, chosen: Trial, notes: tuple[str, ...], target: Path) -> AutoResult:
    """The result; the float file where the chosen one loses too much on the samples that it was not chosen on."""
    limit, report, best = job.options.limit, job.samples.report, race.best
    before = quality_of(best, report, job.store, job.figure, limit)
    after = quality_of(chosen, report, job.store, job.figure, limit)
    lost, reasons = before.drop_to(after), dict[str, str]()
    if chosen != best and lost > job.allowed:
        why = f"loses {lost:.4f} of {after.metric} on {report.label}, {job.allowed:g} is allowed"
        reasons[chosen.name] = why
        notes = (*notes, f"{chosen.name} was chosen on {job.samples.choose.label}, but {why}")
        chosen, after = best, before
    if chosen == best:
        notes = (*notes, f"no candidate within the limit is faster than {best.name}: it is shipped as it is")
    for trial in running(race.trials):
        if trial.is_float and trial.name not in (chosen.name, best.name):
            reasons[trial.name] = f"the float file {best.name} is faster or takes the same time"
    if chosen.way is not None and chosen.way.in_fewer_bits:
        notes = (*notes, _in_fewer_bits(chosen.way))
    if best != chosen:
        reasons[best.name] = (
            f"{chosen.name} is {'faster' if chosen.verdict is Verdict.FASTER else 'as fast, and smaller'}"
        )
    chosen = replace(chosen, chosen=True)
    trials = with_why(reasons, changed(race.trials, chosen))
    assert chosen.made is not None
    place = place_of(target, job.named.stem, str(chosen.made.artifact.format))
    where = typed(Device, race.where, "the device")
    choice = Choice(chosen, named(trials, best.name), before, after, where, job.allowed, trials)
    source = None if job.named.source is None else Path(job.named.source)
    return replace(publish(choice, place, notes, source), delivered=job.store.discard)


def _in_fewer_bits(way: Way) -> str:
    """What is to be known of a choice whose runtime computes with fewer bits than the file says."""
    return (
        f"it was chosen in {way.runtime}, which computes in {precision_of(way.runtime)}: run it so; in another runtime "
        "the same file gives other outputs in another time"
    )
