"""What a file shows on a device: a few calls in each way to run it, and its quality in the fastest that keeps it."""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from edgekit.devices import parse_device
from edgekit.errors import DeviceError, EdgekitError, QualityError
from edgekit.options.optimize import OptimizeOptions
from edgekit.pipeline.search.device_lock import held
from edgekit.pipeline.search.measuring import (
    ENDS_THE_RUN,
    Figure,
    Inputs,
    TimedFile,
    evaluated,
    failed,
    shortest_ms,
)
from edgekit.pipeline.search.samples import JudgingSamples, real_samples
from edgekit.pipeline.search.steps import MadeFile
from edgekit.pipeline.search.ways import Way, find_ways
from edgekit.quality.evaluate import measurable
from edgekit.quality.likeness import LIKENESS, allowed_loss, likeness_to
from edgekit.quality.metrics import metric_of
from edgekit.results.eval import Evaluation
from edgekit.results.optimize import Evidence
from edgekit.types import Artifact, Card, DeviceSpec, Format

log = logging.getLogger("edgekit")
FAR_OFF = 3.0
"""Shortest calls this many times the float file's are hopeless: no noise makes one of many that much longer, twice."""
QUICK = 100
"""Samples of a first look at quality."""
MIN_SNR, MAX_DROP = 20.0, 0.01


@dataclass(frozen=True)
class Judge:
    """What judges files: the float files of the source, the samples, the figure, and where files can run.

    Attributes:
        floats: the float file of each format.
        allowed: the largest loss of quality.
        folder: for samples that are written down.
        slowest: a file whose shortest call takes this many times the float file's is hopeless.
    """

    options: OptimizeOptions
    floats: Mapping[str, Artifact]
    samples: JudgingSamples
    folder: Path
    slowest: float = FAR_OFF

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
    def _found_ways(self) -> Mapping[str, tuple[Mapping[Format, tuple[Way, ...]], tuple[str, ...]]]:
        """Device -> the ways there, and what to say of others."""
        found = {}
        for device in self.devices:
            ways, notes = find_ways(list(self.floats.values()), device, self.options.runtimes, self.options.threads)
            if not any(ways.values()):
                raise DeviceError(f"no runtime on {device.name} runs the float files: {'; '.join(notes)}")
            found[device.name] = ways, notes
        return found

    @property
    def ways(self) -> Mapping[str, Mapping[Format, tuple[Way, ...]]]:
        """Device -> format -> the ways to run it.

        Raises:
            DeviceError: a device runs none of the float files.
        """
        return {name: ways for name, (ways, _) in self._found_ways.items()}

    @property
    def notes(self) -> tuple[str, ...]:
        """What to say of runtimes that nothing was tried in."""
        return tuple(note for _, notes in self._found_ways.values() for note in notes)

    def calls(self, file: MadeFile, label: str, device: str, *, exported: bool = False) -> list[Called]:
        """The shortest call of the file in each way to run it on a device, which nobody else of this machine uses
        meanwhile, the fastest first. ``exported``: it is a float file as it was exported.

        Raises:
            EdgekitError: it runs in none.
        """
        with held(parse_device(device)):
            return self.calls_while_held(file, label, device, exported=exported)

    def calls_while_held(self, file: MadeFile, label: str, device: str, *, exported: bool = False) -> list[Called]:
        """See :meth:`calls`; for who holds the device already."""
        found: list[Called] = []
        why: list[str] = []
        for way in self.ways[device][file.artifact.format]:
            timed = TimedFile(f"{label}, {way.name}", file, way, exported)
            try:
                found.append(Called(shortest_ms(timed, self.inputs), timed))
            except ENDS_THE_RUN:
                raise
            except EdgekitError as error:
                why.append(f"{way.name}: {failed(error)}")
        if not found:
            raise DeviceError(f"it runs in no runtime on {device}: {'; '.join(why)}")
        return sorted(found, key=lambda one: one.shortest_ms)

    def quality(self, timed: TimedFile, limit: int | None = None, *, report: bool = False) -> Evaluation:
        """Of a file in a way to run it, on the samples of the choice or those of the report."""
        samples = self.samples.report if report else self.samples.choose
        return evaluated(timed.file.artifact, timed.way, samples, self.figure, limit)


@dataclass(frozen=True, slots=True)
class Called:
    """A file in one way to run it, and milliseconds of the shortest of a few calls."""

    shortest_ms: float
    timed: TimedFile


def calls_of(calls: Sequence[Called]) -> dict[str, float]:
    """Way to run a file -> milliseconds of its shortest call."""
    return {one.timed.way.name: one.shortest_ms for one in calls}


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
            if calls[0].shortest_ms > judge.slowest * reference.shortest_ms:  # the machine may have been busy
                calls = judge.calls_while_held(file, label, device.name)
            ratio = calls[0].shortest_ms / reference.shortest_ms
            if ratio > judge.slowest:
                why = f"its shortest call takes {ratio:.1f} times that of {reference.label} on {device.name}"
                return Look((), "pruned", why)
            first = judge.quality(calls[0].timed, QUICK)
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


def _within(judge: Judge, calls: Sequence[Called], reference: Reference, device: DeviceSpec) -> Evidence:
    """The fastest way in which the file loses no more than is allowed; where it does in none, the fastest that loses
    hardly more than the one that loses least."""
    seen: list[Evidence] = []
    fewer = {one.timed.way.runtime for one in calls if one.timed.way.in_fewer_bits}
    for one in calls:
        way = one.timed.way
        if not way.in_fewer_bits and any(other.runtime not in fewer for other in seen):
            break  # float32 in another runtime gives the same answers
        quality = judge.quality(one.timed)
        evidence = Evidence(
            device=device.name, runtime=way.runtime, threads=way.threads, shortest_ms=one.shortest_ms,
            ratio=one.shortest_ms / reference.shortest_ms, quality=quality.value,
            drop=reference.quality.drop_to(quality), calls=calls_of(calls),
        )  # fmt: skip
        seen.append(evidence)
        if evidence.drop is not None and evidence.drop <= judge.allowed:
            return evidence
    known = [one for one in seen if one.drop is not None and not math.isnan(one.drop)]
    if not known:
        raise QualityError(f"its {reference.quality.metric} is not a number")
    least = min(one.drop or 0.0 for one in known)
    return next(one for one in known if (one.drop or 0.0) <= least + judge.allowed)
