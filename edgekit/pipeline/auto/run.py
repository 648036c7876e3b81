"""The order of it: make, a few calls, race, judge, match, publish. Every finished trial is kept in the trial store."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from edgekit.artifact import require_beside, sha256_file
from edgekit.bench.environment import environment
from edgekit.documents import typed
from edgekit.errors import DeviceError, EdgekitError, StorageError, UsageError
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
from edgekit.pipeline.auto.choice import FINALISTS, drop_slower, far_off, pick, shortest_float, undecided
from edgekit.pipeline.auto.judge import quality_of
from edgekit.pipeline.auto.parents import FloatSource, float_files, float_source
from edgekit.pipeline.auto.publish import Choice, publish
from edgekit.pipeline.auto.samples import JudgingSamples, real_samples, take_samples
from edgekit.pipeline.auto.timing import FAR_OFF, Inputs, compared, failed, fill_in, match, shortest_ms
from edgekit.pipeline.auto.trial import Trial
from edgekit.pipeline.auto.trial_store import TrialStore, Value
from edgekit.pipeline.auto.ways import TFLITE_PYTHON, Way, find_ways
from edgekit.results.compressed import Device
from edgekit.results.eval import Evaluation
from edgekit.results.quantize import AutoResult
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
    named = float_source(list(models), options.factory)
    target = target_of(options.out, named.formats)
    parents = {file.path.resolve() for file in named.files}
    for format_ in named.formats:
        place = place_of(target, named.stem, format_)
        if place.resolve() in parents:
            raise UsageError(f"-o names the model itself ({target}); give another name, the parent is kept")
        check_output(place)
    for file in named.files:  # any of them may be what is shipped
        require_beside(file.path, place_of(target, named.stem, str(file.format)))
    assert options.data is not None  # of_auto has looked
    samples = take_samples(options.data, named.card, options.limit)
    store = TrialStore(_identity(named, options, device, samples), options.resume)
    with _told_when_interrupted(store):
        return _Auto(named, device, options, samples, store).result(target)


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
        "tflite_python": os.environ.get(TFLITE_PYTHON),
    }


@contextmanager
def _told_when_interrupted(store: TrialStore) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        store.close()
        if store.found and isinstance(error, KeyboardInterrupt | SystemExit | DeviceError | StorageError):
            log.warning("%d finished trials are kept in %s; the same command goes on", store.found, store.folder)
        raise


@dataclass
class _Auto:
    """One run: what was given, and what is found on the way."""

    named: FloatSource
    device: DeviceSpec
    options: QuantizeOptions
    samples: JudgingSamples
    store: TrialStore
    trials: list[Trial] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    where: Value = field(default_factory=dict)

    @property
    def allowed(self) -> float:
        """The largest loss of quality."""
        assert self.options.max_drop is not None  # of_auto has looked
        return self.options.max_drop

    @property
    def seconds(self) -> float:
        """Time of each file in the final."""
        return self.options.seconds or SECONDS

    def result(self, target: Path) -> AutoResult:
        self.notes += self.samples.notes
        parents = float_files(self.named, self.store, self.notes)
        ways = find_ways(parents, self.device, self.options, self.notes)
        self._try_data(parents, ways)
        self._make(parents, ways)
        inputs = Inputs(self.options.seed or 0, real_samples(parents, self.samples.choose, self.store.folder))
        self._call(inputs)
        best = self._timed("race", [t for t in self.trials if not t.out], inputs, self.seconds * RACE_SHARE)
        drop_slower(self.trials, best)
        finalists = self._judged(best)
        chosen = best
        if finalists:
            floats = [trial for trial in self.trials if trial.candidate.is_float and not trial.out]
            floats.sort(key=lambda trial: trial.p50_ms or 0.0)
            chosen, best = self._matched([*floats[:FINALISTS], *finalists], inputs)
        return self._published(chosen, best, target)

    def _try_data(self, parents: Sequence[Artifact], ways: dict[Format, tuple[Way, ...]]) -> None:
        """Data that do not fit the network are refused by its first float file, before any work."""
        first = next(((parent, ways[parent.format][0]) for parent in parents if ways[parent.format]), None)
        if first is None:
            raise DeviceError(f"no runtime on {self.device.name} runs the float files: {'; '.join(self.notes)}")
        made = make(Candidate(first[0], FLOAT), self.samples, self.options, self.store)
        assert not isinstance(made, str)
        quality_of(Trial(made.candidate, made, first[1]), self.samples.choose, self.store)

    def _make(self, parents: Sequence[Artifact], ways: dict[Format, tuple[Way, ...]]) -> None:
        for parent in parents:
            first, *_ = candidates = first_candidates(parent, self.options)
            if not ways[parent.format]:
                self.trials.append(Trial(first, why=f"no runtime on {self.device.name} was tried for .{parent.format}"))
                continue
            for candidate in candidates:
                made = make(candidate, self.samples, self.options, self.store)
                if isinstance(made, str):
                    self.trials.append(Trial(candidate, why=f"it cannot be made: {made}"))
                    continue
                self.trials += [Trial(candidate, made, way) for way in ways[parent.format]]

    def _call(self, inputs: Inputs) -> None:
        """A few calls of each; those far off get a second chance, since the machine may have been busy."""
        for trial in self._running():
            self._shortest(trial, inputs, "calls")
        if shortest_float(self.trials) == float("inf"):
            why = next((t.why for t in self.trials if t.candidate.is_float), "")
            raise DeviceError(f"no float file runs on {self.device.name}: {why}")
        for trial in far_off(self._running(), FAR_OFF):
            self._shortest(trial, inputs, "calls again")
        for trial in far_off(self._running(), FAR_OFF):
            assert trial.shortest_ms is not None
            times = trial.shortest_ms / shortest_float(self.trials)
            trial.why = f"its shortest call takes {times:.1f} times that of the fastest float file: not raced"

    def _shortest(self, trial: Trial, inputs: Inputs, stage: str) -> None:
        def work() -> Value:
            log.info("%s: %s", stage, trial.name)
            return {"ms": shortest_ms(trial, inputs)}

        row = self._or_error(f"{stage} {trial.name}", work)
        trial.stage = "calls"
        if "error" in row:
            trial.why = row["error"]
        else:
            trial.shortest_ms = min(row["ms"], trial.shortest_ms or row["ms"])

    def _timed(
        self, stage: str, entrants: Sequence[Trial], inputs: Inputs, seconds: float, workers: int = RACE_WORKERS
    ) -> Trial:
        """The entrants against each other; the fastest float file of them."""

        def work() -> Value:
            log.info("%s of %d, %.3g s each", stage, len(entrants), seconds)
            journal = self.store.folder / f"{stage.replace(' ', '-')}.part"
            return compared(entrants, match(entrants, inputs, seconds, workers, journal))

        names = " | ".join(trial.name for trial in entrants)
        found = self.store.once(f"{stage} {seconds:g} {names}", work)
        best = fill_in(entrants, found, stage.partition(" ")[0])
        if best is None:
            why = next((t.why for t in entrants if t.candidate.is_float), "")
            raise DeviceError(f"no float file was timed on {self.device.name}: {why}")
        self.where = found["device"]
        return best

    def _judged(self, best: Trial) -> list[Trial]:
        """The fastest candidates that lose no more than is allowed; others are tried in place of those that do."""
        before = quality_of(best, self.samples.choose, self.store)
        best.quality, best.drop = before, 0.0
        kept: list[Trial] = []
        for trial in sorted((t for t in self._running() if not t.candidate.is_float), key=lambda t: t.ratio):
            if len(kept) == FINALISTS:
                trial.why = f"not among the {FINALISTS} fastest that keep the limit"
            elif self._keeps_limit(trial, before):
                kept.append(trial)
            elif trial.quality is not None:
                kept += self._instead_of(trial, before)
        return kept[:FINALISTS]

    def _keeps_limit(self, trial: Trial, before: Evaluation) -> bool:
        try:
            trial.quality = quality_of(trial, self.samples.choose, self.store)
        except ENDS_THE_RUN:
            raise
        except EdgekitError as error:
            trial.why = failed(error)
            return False
        trial.drop = before.drop_to(trial.quality)
        if trial.drop <= self.allowed:
            return True
        trial.why = f"loses {trial.drop:.4f} of {before.metric}, {self.allowed:g} is allowed"
        return False

    def _instead_of(self, lost: Trial, before: Evaluation) -> list[Trial]:
        """The candidate that loses least of those tried in place of ``lost``, if it keeps the limit."""
        ranges = further_candidates(lost.candidate, self.options)
        return self._least(ranges, lost, before) or self._least(mixed_candidate(lost.candidate), lost, before)

    def _least(self, candidates: Sequence[Candidate], lost: Trial, before: Evaluation) -> list[Trial]:
        found: list[Trial] = []
        for candidate in candidates:
            made = make(candidate, self.samples, self.options, self.store)
            if isinstance(made, str):
                self.trials.append(Trial(candidate, why=f"it cannot be made: {made}"))
                continue
            trial = Trial(candidate, made, lost.way)
            self.trials.append(trial)
            if self._keeps_limit(trial, before):
                found.append(trial)
        found.sort(key=lambda trial: trial.drop or 0.0)
        for trial in found[1:]:
            trial.why = f"{found[0].name} loses no more and differs in its ranges only"
        return found[:1]

    def _matched(self, entrants: Sequence[Trial], inputs: Inputs) -> tuple[Trial, Trial]:
        """(chosen, fastest float file)."""
        seconds = self.seconds
        best = self._timed("match", entrants, inputs, seconds, MATCH_WORKERS)
        again = undecided(entrants, best, smaller=self.options.smaller)
        if again:
            best = self._timed("match again", [best, *again], inputs, LONGER * seconds, MATCH_WORKERS)
        return pick(entrants, best, smaller=self.options.smaller), best

    def _published(self, chosen: Trial, best: Trial, target: Path) -> AutoResult:
        """The result; the float file where the chosen one loses too much on the samples that it was not chosen on."""
        limit, report = self.options.limit, self.samples.report
        before = quality_of(best, report, self.store, limit)
        after = quality_of(chosen, report, self.store, limit)
        lost = before.drop_to(after)
        if chosen is not best and lost > self.allowed:
            chosen.why = f"loses {lost:.4f} of {after.metric} on {report.label}, {self.allowed:g} is allowed"
            self.notes.append(f"{chosen.name} was chosen on {self.samples.choose.label}, but {chosen.why}")
            chosen, after = best, before
        if chosen is best:
            self.notes.append(f"no candidate within the limit is faster than {best.name}: it is shipped as it is")
        for trial in self.trials:
            if trial.candidate.is_float and trial not in (chosen, best) and not trial.out:
                trial.why = f"the float file {best.name} is faster or takes the same time"
        if best is not chosen:
            best.why = f"{chosen.name} is {'faster' if chosen.verdict is Verdict.FASTER else 'as fast, and smaller'}"
        chosen.chosen = True
        assert chosen.made is not None
        place = place_of(target, self.named.stem, str(chosen.made.artifact.format))
        where = typed(Device, self.where, "the device")
        choice = Choice(chosen, best, before, after, where, self.allowed, self.trials)
        source = None if self.named.source is None else Path(self.named.source)
        return replace(publish(choice, place, tuple(self.notes), source), delivered=self.store.discard)

    def _or_error(self, key: str, work: Callable[[], Value]) -> Value:
        """What ``work`` gives, or how a row says that it failed; both are kept."""

        def tried() -> Value:
            try:
                return work()
            except ENDS_THE_RUN:
                raise
            except EdgekitError as error:
                return {"error": failed(error)}

        return self.store.once(key, tried)

    def _running(self) -> list[Trial]:
        return [trial for trial in self.trials if not trial.out]
