"""``optimize``: float files, trials, the front on each device, what is recommended."""

from __future__ import annotations

import logging
import shutil
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from edgekit.devices import parse_device
from edgekit.documents import typed
from edgekit.errors import DeviceError, EdgekitError, GateError, UsageError, interruption
from edgekit.options.base import with_options
from edgekit.options.optimize import OptimizeOptions
from edgekit.outputs import publishing, writable_folder
from edgekit.pipeline.search.candidate import FLOAT, Candidate
from edgekit.pipeline.search.cluster_address import check_workers
from edgekit.pipeline.search.evidence import Look, Reference, Typical, calls_of, look
from edgekit.pipeline.search.final import Entrant, final, finalists, publish, reported
from edgekit.pipeline.search.front import hypervolume, on_front, over_devices
from edgekit.pipeline.search.steps import MadeFile, MakeOrder, make
from edgekit.pipeline.search.study import Claim, SamplerChoice, Study
from edgekit.pipeline.search.subject import Subject
from edgekit.pipeline.search.workers import Makers, makers
from edgekit.report.document import dumps, envelope
from edgekit.results.base import to_json
from edgekit.results.eval import Evaluation
from edgekit.results.optimize import Evidence, FrontRow, OptimizeResult, TrialRow
from edgekit.runtime.precision import precision_of

log = logging.getLogger("edgekit")
ENOUGH = 5
"""Trials that have ended before one is called hopeless beside them."""


@with_options(OptimizeOptions)
def optimize(options: OptimizeOptions) -> OptimizeResult:
    """Searches for the best files of a network for a device: pruned, trained, quantized, in each format and runtime.

    Trials are judged on a part of the train split that nothing is trained on; the front is what of quality, time, bytes
    and memory nothing beside it is better than, timed in one interleaved run with the float files, with the quality of
    the test split. Each file lies in ``out`` with the recipe that makes it again. A study that was stopped goes on with
    the same command; several processes may work on one ``out``.

    Raises:
        UsageError: an option makes no sense; an emulated device, which has no time; ``out`` holds another study.
        InputError: the source or the data cannot be used.
        GateError: no file keeps the limits (of the result's ``conclude``).
        DeviceError: a device cannot be used, or runs no float file.
    """
    start = time.monotonic()
    _check(options)
    out = Path(options.out).resolve()
    subject = Subject(options, out / ".study")
    log.debug("%s on %d samples", subject.stem, len(subject.train))  # refused before anything is written
    writable_folder(out)
    if options.fresh:
        shutil.rmtree(subject.folder, ignore_errors=True)
    writable_folder(subject.folder)
    search = search_of(subject)
    with told_when_interrupted(search.study), makers(options, subject.folder) as hands:
        search.run(hands, start, options.trials)
    return search.result(start)


def search_of(subject: Subject) -> Search:
    """The search of a subject, with the trials that are in its folder."""
    how = SamplerChoice(subject.options.sampler, subject.options.seed, subject.options.batch)
    study = Study(subject.folder / "trials", subject.identity, subject.space, how, subject.judge.allowed)
    return Search(subject, study)


def _check(options: OptimizeOptions) -> None:
    for name in options.on:
        device = parse_device(name)
        if not device.evidence.has_time:
            raise UsageError(
                f"{name} is {device.evidence.value} and has no time, and optimize chooses by time: name the device "
                "itself"
            )
    if options.max_drop is not None and options.min_snr is not None:
        raise UsageError("--max-drop judges by labels, --min-snr by likeness to the float file; give one")
    check_workers(options)


@contextmanager
def told_when_interrupted(study: Study) -> Iterator[None]:
    """Says, where the block is ended early, that the trials are kept."""
    try:
        yield
    except BaseException as error:
        if interruption(error) or isinstance(error, SystemExit | EdgekitError):
            log.warning("%d trials are kept in %s; the same command goes on", len(study.rows()), study.folder)
        raise


@dataclass(frozen=True)
class Search:
    """A subject and its study."""

    subject: Subject
    study: Study

    @property
    def options(self) -> OptimizeOptions:
        return self.subject.options

    def run(self, hands: Makers, start: float, limit: int) -> None:
        """Makes and judges trials until there are ``limit``, or the time is up; others may do so in the same folder."""
        until = float("inf") if self.options.hours is None else start + 3600 * self.options.hours
        open_: dict[Any, tuple[Claim, float]] = {}
        for device in self.subject.judge.devices:  # before any trial: one that is not there is said now
            log.info("fastest float file on %s: %s", device.name, self.references[device.name].label)
        self.study.baselines = self.baselines()
        while True:
            waiting = hands.count > 1  # one more in the queue: none is idle while this process looks at a file
            while len(open_) < hands.count + waiting and time.monotonic() < until:
                claim = self.study.claim(limit)
                if claim is None:
                    break
                of = "" if self.subject.space.only_rules else f"/{limit}"
                log.info("[%d%s] %s", claim.ordinal, of, claim.candidate.name)
                name = f"{claim.number:04d}"
                began = time.monotonic()
                future = hands.submit(self.subject.order(claim.candidate, name))
                open_[future] = claim, began
            if not open_:
                if time.monotonic() >= until or self.study.finished(limit):
                    return
                time.sleep(1)  # another process has the rest of the batch
                continue
            future = hands.first(list(open_))
            claim, began = open_.pop(future)
            try:
                made = future.result()
            except BrokenProcessPool:  # one of them was killed, and the pool ends with it
                made = MadeFile(None, why="a process that makes files has ended; was there enough memory?", exit_code=4)
            self._judged(hands, claim, made, began)

    def _judged(self, hands: Makers, claim: Claim, made: MadeFile, began: float) -> None:
        """Looks at the file of a trial, and ends it."""
        name = claim.candidate.name
        if made.path is None:
            found = Look((), "failed", made.why)
        else:
            found = hands.look(self.subject.judge, made, name, self.references, self.typical())
        row = TrialRow(
            number=claim.number, name=name, parameters=to_json(claim.candidate), state=found.state, why=found.why,
            bytes=made.bytes or None, sha256=made.sha256 or None, seconds=time.monotonic() - began,
            evidence=found.evidence,
        )  # fmt: skip
        log.info("%s: %s", name, found.why or f"loses {found.drop:.4f}, {found.ratio:.2f} of the time, "
                 f"{made.bytes / self.least_bytes:.2f} of the bytes")  # fmt: skip
        values = [found.drop, found.ratio, made.bytes / self.least_bytes] if found.state == "complete" else None
        constraint = found.drop - self.subject.judge.allowed if values else 0.0
        self.study.tell(claim, values, row, constraint)

    def typical(self) -> Typical:
        """The medians of what has ended well."""
        looks = [(Look(row.evidence), row.bytes or 0) for row in self.study.rows() if row.state == "complete"]
        if len(looks) < ENOUGH:
            return Typical()
        columns = zip(*((one.drop, one.ratio, size) for one, size in looks), strict=True)
        return Typical(*map(statistics.median, columns))

    @cached_property
    def references(self) -> dict[str, Reference]:
        """Device -> its fastest float file."""
        return {device.name: self._reference(device.name) for device in self.subject.judge.devices}

    def _reference(self, device: str) -> Reference:
        judge = self.subject.judge

        def work() -> dict[str, Any]:
            rows = []
            for name, made in self.subject.float_files.items():
                try:
                    calls = judge.calls(made, f"{name} float", device, exported=True)
                    rows += [one for one in calls if one.timed.baseline]
                except EdgekitError as error:
                    log.warning("%s float on %s: %s", name, device, error)
            if not rows:
                raise DeviceError(f"no float file runs on {device}")
            best = min(rows, key=lambda one: one.shortest_ms)
            quality = judge.quality(best.timed)
            return {
                "label": best.timed.name, "shortest_ms": best.shortest_ms, "bytes": best.timed.file.bytes,
                "quality": asdict(replace(quality, confusion=None, curves=(), outcomes=None, parts={})),
            }  # fmt: skip

        found = dict(self.study.once(f"float on {device}", work))
        return Reference(found["label"], found["shortest_ms"], found["bytes"], Evaluation(**found["quality"]))

    @property
    def least_bytes(self) -> int:
        """Of the float files."""
        return min(made.bytes for made in self.subject.float_files.values())

    def baselines(self) -> list[TrialRow]:
        """The float files as trials that were not proposed."""
        return [
            TrialRow(number=one.number, name=one.name, state="complete", evidence=tuple(one.evidence),
                     parameters=to_json(Candidate(str(one.file.artifact.format), FLOAT)))
            for one in self.floats if one.baseline
        ]  # fmt: skip

    def result(self, start: float) -> OptimizeResult:
        """The front of every device, published where a file keeps every limit."""
        rows = self.study.rows()
        texts = {row.number: self.text_of(row) for row in rows}
        front: list[FrontRow] = []
        volumes: dict[str, float] = {}
        floats = self.floats
        texts |= {
            -1 - k: self.subject.making.recipe(Candidate(name, FLOAT))
            for k, name in enumerate(self.subject.float_files)
        }
        for device in self.subject.judge.devices:
            allowed = self.subject.judge.allowed
            entrants = self.entrants(rows)
            base = [one for one in floats if one.baseline and one.on(device.name)]
            chosen = finalists([*entrants, *(one for one in floats if not one.baseline)], device.name, allowed)
            found = reported(self.subject.judge, final(self.subject.judge, device, base, chosen))
            front += on_front(found)
            volumes[device.name] = self.covered(found)
        best = over_devices(front, [device.name for device in self.subject.judge.devices])
        if best is not None:
            published = publish(front, texts, Path(self.options.out).resolve() / "front", self.subject.stem)
            places = {(row.trial, row.device, row.runtime, row.threads): row for row in published}
            chosen_row = places[best.trial, best.device, best.runtime, best.threads]
            best, front = replace(best, path=chosen_row.path, recipe=chosen_row.recipe), published
        numbers = {row.trial for row in front}
        judge = self.subject.judge
        result = OptimizeResult(
            folder=Path(self.options.out).resolve(), source=self.subject.source, data=self.options.data,
            metric=next(iter(self.references.values())).quality.metric, judged_on=judge.samples.choose.label,
            reported_on=judge.samples.report.label, sampler=self.options.sampler, seed=self.options.seed,
            seconds=time.monotonic() - start, front=tuple(front), recommended=best, hypervolume=volumes,
            trials=tuple(replace(row, on_front=row.number in numbers) for row in rows), notes=self.subject.notes,
        )  # fmt: skip
        with publishing(result.folder / "optimize.json") as temporary:
            temporary.write_text(dumps(envelope("optimize", result.document())), encoding="utf-8")
        return result

    def covered(self, rows: Sequence[FrontRow]) -> float:
        """The share of the box of what is allowed, of the fastest float file's time and of the smallest one's bytes
        that the rows of a device dominate."""
        points = [(max(row.drop, 0.0), row.ratio_p50 or 1.0, row.bytes / self.least_bytes) for row in rows]
        return hypervolume(points, (self.subject.judge.allowed or 1.0, 1.0, 1.0))

    @cached_property
    def floats(self) -> list[Entrant]:
        """The float files, each in the way that is fastest on each device in float32; and once more where a runtime
        that computes with fewer bits is faster."""
        judge, found = self.subject.judge, []
        for k, (name, made) in enumerate(self.subject.float_files.items()):
            evidence = []
            for device in judge.devices:
                try:
                    calls = judge.calls(made, f"{name} float", device.name, exported=True)
                except EdgekitError as error:
                    log.warning("%s float on %s: %s", name, device.name, error)
                    continue
                called = next(one for one in calls if one.timed.baseline)
                way, reference = called.timed.way, self.references[device.name]
                evidence.append(
                    Evidence(
                        device=device.name, runtime=way.runtime, threads=way.threads,
                        shortest_ms=called.shortest_ms, ratio=called.shortest_ms / reference.shortest_ms, drop=0.0,
                        calls=calls_of(calls),
                    )
                )  # fmt: skip
            found.append(Entrant(-1 - k, f"{name} float", made, tuple(evidence), baseline=True))
            fewer = look(judge, made, f"{name} float", self.references, Typical()).evidence
            fewer = tuple(one for one in fewer if precision_of(one.runtime) != "float32")
            if fewer:
                found.append(Entrant(-1 - k, f"{name} float", made, fewer))
        return found

    def text_of(self, row: TrialRow) -> str:
        """The recipe of a trial."""
        return self.subject.making.recipe(typed(Candidate, row.parameters, "a candidate"))

    def entrants(self, rows: Sequence[TrialRow], *, numbered: bool = True) -> list[Entrant]:
        """Trials that ended well; one that was made and is gone is made again. Of equal files the first. ``numbered``:
        their names say which trials they are."""
        found: dict[str, Entrant] = {}
        for row in rows:
            if row.state == "complete" and row.sha256 not in found:
                name = f"#{row.number} {row.name}" if numbered else row.name
                found[row.sha256 or ""] = Entrant(row.number, name, self._again(row), row.evidence)
        return list(found.values())

    def _again(self, row: TrialRow) -> MadeFile:
        """The file of a trial as it was judged.

        Raises:
            GateError: it was made again, and is another one.
        """
        made = make(
            MakeOrder(self.text_of(row), self.subject.folder / "files" / f"{row.number:04d}", self.subject.store)
        )
        if made.sha256 != row.sha256:
            raise GateError(
                f"trial {row.number} ({row.name}) gives another file than when it was judged"
                f"{f': {made.why}' if made.why else ''}; --fresh begins again"
            )
        return made
