"""What a file shows on a device: a few calls in each way to run it, and its quality in the fastest that keeps it."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from edgekit.data.dataset import Dataset, split_indices, stratified
from edgekit.devices import parse_device
from edgekit.errors import DataError, DeviceError, EdgekitError
from edgekit.models.family import Hyperparameters
from edgekit.models.samples import MAX_VALIDATION, kept_and_held
from edgekit.options.optimize import OptimizeOptions
from edgekit.pipeline.auto.candidates import ENDS_THE_RUN, CandidateFile
from edgekit.pipeline.auto.candidates import Candidate as AutoCandidate
from edgekit.pipeline.auto.measuring import Figure, Inputs, evaluated, failed, shortest_ms
from edgekit.pipeline.auto.samples import MOST, JudgingSamples, real_samples
from edgekit.pipeline.auto.trial import Trial
from edgekit.pipeline.auto.ways import Way, find_ways
from edgekit.pipeline.quantize.samples import fit_and_test
from edgekit.pipeline.search.device_lock import held
from edgekit.pipeline.search.steps import MadeFile
from edgekit.quality.evaluate import measurable
from edgekit.quality.likeness import LIKENESS, allowed_loss, likeness_to
from edgekit.quality.metrics import metric_of
from edgekit.results.eval import Evaluation
from edgekit.results.optimize import Evidence
from edgekit.types import Artifact, Card, DeviceSpec, Format

log = logging.getLogger("edgekit")
FAR_OFF = 3.0
"""Shortest calls this many times the float file's are hopeless."""
QUICK = 100
"""Samples of a first look at quality."""
MIN_SNR, MAX_DROP = 20.0, 0.01


def take_samples(options: OptimizeOptions, card: Card | None, settings: Hyperparameters) -> JudgingSamples:
    """Those that training holds out choose, the test split reports; ranges and weights come from the rest of train.

    Raises:
        DataError: there are none.
    """
    notes: list[str] = []
    train, test = fit_and_test(options.data, notes)
    assert train is not None and test is not None
    _, held = kept_and_held(train, min(settings.validation, MAX_VALIDATION / len(train)), 0)
    count = min(options.limit or MOST, len(held))
    if train is test or not count:
        notes.append("trials are judged on samples that others saw, too: the figures of the front flatter it")
        return JudgingSamples(train, test, test, tuple(notes))
    choose = stratified(train.subset(held), count)
    if measurable(test, card) and not measurable(choose, card):  # an anomaly detector trains on one kind alone
        _, judged = split_indices(len(train), train.labels, count / len(train), 1)
        choose = stratified(train.subset(judged), count)
    if measurable(test, card) and not measurable(choose, card):
        raise DataError(
            f"the {len(choose)} samples of {choose.label} that trials are judged on do not say what is right; give a "
            "larger --limit, or data whose train split does"
        )
    return JudgingSamples(train, choose, test, tuple(notes))


@dataclass(frozen=True)
class Judge:
    """What judges files: the float files of the source, the samples, the figure, and where files can run.

    Attributes:
        floats: the float file of each format.
        allowed: the largest loss of quality.
        folder: for samples that are written down.
    """

    options: OptimizeOptions
    floats: Mapping[str, Artifact]
    samples: JudgingSamples
    folder: Path

    @property
    def card(self) -> Card | None:
        return next(iter(self.floats.values())).card

    @cached_property
    def by_labels(self) -> bool:
        """Whether the data say what is right; otherwise files are judged by likeness to the float file."""
        if self.options.metric is not None:
            return True
        return self.options.min_snr is None and measurable(self.samples.report, self.card)

    @property
    def allowed(self) -> float:
        if self.by_labels:
            return MAX_DROP if self.options.max_drop is None else self.options.max_drop
        return allowed_loss(MIN_SNR if self.options.min_snr is None else self.options.min_snr)

    @cached_property
    def figure(self) -> Figure:
        """What files are judged by."""
        if self.options.metric is not None:
            return Figure(self.options.metric, metric_of(self.options.metric))
        if self.by_labels:
            return Figure()
        return Figure(LIKENESS, likeness_to(next(iter(self.floats.values())).path))

    @cached_property
    def inputs(self) -> Inputs:
        """What files are fed while they are timed."""
        return Inputs(self.options.seed, real_samples(list(self.floats.values()), self.samples.choose, self.folder))

    @cached_property
    def devices(self) -> tuple[DeviceSpec, ...]:
        return tuple(parse_device(name) for name in self.options.on)

    @cached_property
    def ways(self) -> Mapping[str, Mapping[Format, tuple[Way, ...]]]:
        """Device -> format -> the ways to run it.

        Raises:
            DeviceError: a device runs none of the float files.
        """
        found = {}
        for device in self.devices:
            ways, notes = find_ways(list(self.floats.values()), device, self.options.runtimes, self.options.threads)
            if not any(ways.values()):
                raise DeviceError(f"no runtime on {device.name} runs the float files: {'; '.join(notes)}")
            found[device.name] = ways
        return found

    def calls(self, file: MadeFile, label: str, device: str, scheme: str = "") -> list[tuple[float, Trial]]:
        """Shortest call in milliseconds of the file in each way to run it on a device, which nobody else of this
        machine uses meanwhile, the fastest first.

        Raises:
            EdgekitError: it runs in none.
        """
        with held(parse_device(device)):
            return self.calls_while_held(file, label, device, scheme)

    def calls_while_held(self, file: MadeFile, label: str, device: str, scheme: str = "") -> list[tuple[float, Trial]]:
        """See :meth:`calls`; for who holds the device already."""
        found: list[tuple[float, Trial]] = []
        why: list[str] = []
        for way in self.ways[device][file.artifact.format]:
            trial = trial_of(file, label, way, scheme)
            try:
                found.append((shortest_ms(trial, self.inputs), trial))
            except ENDS_THE_RUN:
                raise
            except EdgekitError as error:
                why.append(f"{way.name}: {failed(error)}")
        if not found:
            raise DeviceError(f"it runs in no runtime on {device}: {'; '.join(why)}")
        return sorted(found, key=lambda row: row[0])

    def quality(self, trial: Trial, limit: int | None = None, *, report: bool = False) -> Evaluation:
        """Of a file in a way to run it, on the samples of the choice or those of the report."""
        assert trial.made is not None and trial.way is not None
        samples: Dataset = self.samples.report if report else self.samples.choose
        return evaluated(trial.made.artifact, trial.way, samples, self.figure, limit)


def trial_of(file: MadeFile, label: str, way: Way, scheme: str = "") -> Trial:
    """``file`` in one way to run it, as the clock takes it. ``scheme``: ``float`` for a float file that others are
    compared with."""
    artifact = file.artifact
    candidate = AutoCandidate(artifact, scheme or "compressed", label=label)
    return Trial(candidate, CandidateFile(candidate, artifact, file.sha256, file.bytes), way)


@dataclass(frozen=True, slots=True)
class Reference:
    """The fastest float file on a device: what the evidence of others is relative to."""

    label: str
    shortest_ms: float
    bytes: int
    quality: Evaluation


@dataclass(frozen=True, slots=True)
class Look:
    """What a short look gave: ``evidence`` on each device, or ``why`` the file is hopeless (``pruned``) or fails."""

    evidence: tuple[Evidence, ...] = ()
    state: str = "complete"
    why: str = ""

    @property
    def ratio(self) -> float:
        """Of time, the geometric mean over the devices."""
        return statistics.geometric_mean(one.ratio for one in self.evidence)

    @property
    def drop(self) -> float:
        """The largest on any device."""
        return max(one.drop if one.drop is not None else 0.0 for one in self.evidence)


@dataclass(frozen=True, slots=True)
class Typical:
    """The medians of the trials that ended well: what a hopeless one is worse than in everything."""

    drop: float = float("inf")
    ratio: float = float("inf")
    bytes: float = float("inf")


def look_on(
    judge: Judge, device: DeviceSpec, file: MadeFile, label: str, reference: Reference, typical: Typical
) -> Look:
    """A short look at a file on a device, which nobody else of this machine uses meanwhile.

    Raises:
        StorageError, UnreachableError: not of this file.
    """
    try:
        with held(device):
            calls = judge.calls_while_held(file, label, device.name)
            ratio = calls[0][0] / reference.shortest_ms
            if ratio > FAR_OFF:
                why = f"its shortest call takes {ratio:.1f} times that of {reference.label} on {device.name}"
                return Look((), "pruned", why)
            first = judge.quality(calls[0][1], QUICK)
            lost = reference.quality.drop_to(first)
            if lost > typical.drop and ratio > typical.ratio and file.bytes > typical.bytes:
                why = f"slower, larger and {lost:.4f} worse on {first.total} samples: behind half of the trials"
                return Look((), "pruned", why)
            return Look((_within(judge, calls, reference, device),))
    except ENDS_THE_RUN:
        raise
    except EdgekitError as error:
        return Look((), "failed", f"{type(error).__name__}: {error}")


def joined(looks: Iterable[Look]) -> Look:
    """The looks on each device as one: up to the first that is not ``complete``."""
    found: list[Evidence] = []
    for one in looks:
        found += one.evidence
        if one.state != "complete":
            return replace(one, evidence=tuple(found))
    return Look(tuple(found))


def look(judge: Judge, file: MadeFile, label: str, references: Mapping[str, Reference], typical: Typical) -> Look:
    """A short look at a file on every device.

    Raises:
        StorageError, UnreachableError: not of this file.
    """
    return joined(look_on(judge, device, file, label, references[device.name], typical) for device in judge.devices)


def _within(judge: Judge, calls: Sequence[tuple[float, Trial]], reference: Reference, device: DeviceSpec) -> Evidence:
    """The fastest way in which the file loses no more than is allowed; where it does in none, the fastest that loses
    hardly more than the one that loses least."""
    seen: list[Evidence] = []
    for shortest, trial in calls:
        assert trial.way is not None
        if seen and not trial.way.in_fewer_bits and not _all_fewer(seen, calls):
            break  # float32 in another runtime gives the same answers
        quality = judge.quality(trial)
        one = Evidence(
            device=device.name, runtime=trial.way.runtime, threads=trial.way.threads, shortest_ms=shortest,
            ratio=shortest / reference.shortest_ms, quality=quality.value, drop=reference.quality.drop_to(quality),
        )  # fmt: skip
        seen.append(one)
        if one.drop is not None and one.drop <= judge.allowed:
            return one
    least = min(one.drop for one in seen if one.drop is not None)
    return next(one for one in seen if one.drop is not None and one.drop <= least + judge.allowed)


def _all_fewer(seen: Sequence[Evidence], calls: Sequence[tuple[float, Trial]]) -> bool:
    """Whether all that was judged so far computes with fewer bits than float32."""
    fewer = {trial.way.runtime for _, trial in calls if trial.way is not None and trial.way.in_fewer_bits}
    return all(one.runtime in fewer for one in seen)
