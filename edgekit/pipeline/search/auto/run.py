"""``quantize --scheme auto``: a study of every scheme by rules alone, of which the fastest file is published.

Trials are made, judged and timed as those of ``optimize`` are; they lie in the user's state folder until the result has
been handed over.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from edgekit.artifact import require_beside
from edgekit.errors import InputError, UsageError
from edgekit.locks import hold
from edgekit.options.optimize import OptimizeOptions
from edgekit.options.quantize import QuantizeOptions
from edgekit.outputs import check_output, writable_folder
from edgekit.pipeline.checkpoint_log import clear_old, digest_of, state_folder
from edgekit.pipeline.search.auto.checks import SECONDS, device_of, of_auto, place_of, target_of
from edgekit.pipeline.search.auto.choice import candidate_of, drop_on, least_of_ranges, pick
from edgekit.pipeline.search.auto.publish import Choice, publish
from edgekit.pipeline.search.auto.rows import Finish, float_rows, trial_rows
from edgekit.pipeline.search.final import final, finalists
from edgekit.pipeline.search.measuring import fidelity_of
from edgekit.pipeline.search.run import Search, search_of, told_when_interrupted
from edgekit.pipeline.search.study import JOURNAL
from edgekit.pipeline.search.subject import SmallStudy, Subject
from edgekit.pipeline.search.ways import Way
from edgekit.pipeline.search.workers import Here
from edgekit.results.quantize import AutoResult
from edgekit.runtime.precision import precision_of
from edgekit.types import Verdict

log = logging.getLogger("edgekit")
SLOWEST = 1.5
"""A file whose shortest call takes this many times the float file's, twice, is not judged: it will not be chosen."""
RECENT = 3600.0
"""Seconds in which an interrupted run is resumed unasked."""
TRIALS = "trials"


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
    device_of(options)
    subject = Subject(_asked(options), Path(), _small(options))
    target = _target(options, subject)
    with study_folder(subject, options.resume) as folder:
        search = search_of(subject)
        if known := len(search.study.rows()):
            log.info("going on with an interrupted run: %d trials are there (%s)", known, folder)
        with told_when_interrupted(search.study):
            search.run(Here(), time.monotonic(), sys.maxsize)
            return _chosen(search, options, target)


def _asked(options: QuantizeOptions) -> OptimizeOptions:
    """The options of the study."""
    by_labels = options.max_drop is not None
    return OptimizeOptions(
        source=options.models, factory=options.factory, data=options.data or "", metric=options.metric,
        io_file=options.io_file, on=(options.device,), max_drop=options.max_drop,
        min_snr=None if by_labels else options.min_snr, runtimes=tuple(options.runtime),
        threads=options.thread_counts, epochs=0, samples=options.samples, limit=options.limit,
        seconds=options.seconds or SECONDS, seed=options.seed or 0, out="",
    )  # fmt: skip


def _small(options: QuantizeOptions) -> SmallStudy:
    by_labels = options.max_drop is not None
    return SmallStudy(
        calibration=options.calibration, floor=options.min_snr if by_labels else None, slowest=SLOWEST,
        labelled=by_labels and options.metric is None,
    )  # fmt: skip


def _target(options: QuantizeOptions, subject: Subject) -> Path:
    """Where the file goes but for its suffix; refused before any work where it cannot go there."""
    formats = subject.formats
    target = target_of(options.out, formats)
    parents = {file.path.resolve() for file in subject.files.values()}
    for format_ in formats:
        place = place_of(target, subject.stem, format_)
        if place.resolve() in parents:
            raise UsageError(f"-o names the model itself ({target}); give another name, the parent is kept")
        check_output(place)
    for file in subject.files.values():  # any of them may be what is shipped
        require_beside(file.path, place_of(target, subject.stem, str(file.format)))
    return target


@contextmanager
def study_folder(subject: Subject, resume: bool | None) -> Iterator[Path]:
    """The folder of the trials, which is the subject's then. An older one of the same run is resumed: ``resume``
    True, whatever its age; None, when it is of the last hour; False, never.

    Raises:
        InputError: ``resume`` is True and there is nothing to go on with.
        UsageError: the same command is at work already.
        StorageError: the disk is full.
    """
    folder = clear_old(state_folder() / "auto", f"*/{TRIALS}/{JOURNAL}") / digest_of(subject.identity)
    journal = folder / TRIALS / JOURNAL
    if resume and not journal.exists():
        raise InputError("--resume: no interrupted run of these models and options is there; leave --resume out")
    handle = hold(writable_folder(folder.parent) / f"{folder.name}.lock")
    if handle is None:
        raise UsageError(f"the same command is at work already ({folder}); wait for it, or change an option")
    try:
        if not resume and journal.exists() and (resume is False or time.time() - journal.stat().st_mtime > RECENT):
            shutil.rmtree(folder, ignore_errors=True)
        subject.put_into(writable_folder(folder))
        yield folder
    finally:
        os.close(handle)


def _chosen(search: Search, options: QuantizeOptions, target: Path) -> AutoResult:
    """The last run of the best files, the choice, and its publication; the float file where the chosen one loses too
    much on the samples that it was not chosen on."""
    judge, subject = search.subject.judge, search.subject
    device = judge.devices[0]
    rows = search.study.rows()
    floats = [one for one in search.floats if one.on(device.name)]
    entrants, twins = least_of_ranges(search.entrants(rows, numbered=False), rows, device.name, judge.allowed)
    fewer = [one for one in floats if not one.baseline and drop_on(one, device.name) <= judge.allowed]
    kept = finalists([*entrants, *fewer], device.name, judge.allowed)
    found = final(judge, device, [one for one in floats if one.baseline], kept)
    best = next(one for one in found.finishers if one.timed is found.best)
    chosen, why = pick(found.finishers, best, smaller=options.smaller)
    before = judge.quality(best.timed, options.limit, report=True)
    after = before if chosen is best else judge.quality(chosen.timed, options.limit, report=True)
    parent = subject.float_files[str(chosen.timed.file.artifact.format)].artifact
    fidelity, missed = fidelity_of(chosen.timed, parent, judge.samples.choose, options.min_snr)
    lost = before.drop_to(after)
    notes = list(subject.notes)
    if not lost <= judge.allowed:
        missed = (f"loses {lost:.4f} of {after.metric} on {judge.samples.report.label}, {judge.allowed:g} is allowed",)
    if chosen is not best and missed:
        notes.append(f"{chosen.timed.name} was chosen on {judge.samples.choose.label}, but {'; '.join(missed)}")
        why = {**why, chosen.timed.name: "; ".join(missed)}
        chosen, after, fidelity = best, before, None
    if chosen is best:
        notes.append(f"no candidate within the limit is faster than {best.timed.name}: it is shipped as it is")
    else:
        how = "faster" if chosen.time.verdict is Verdict.FASTER else "as fast, and smaller"
        why = {**why, best.timed.name: f"{chosen.timed.name} is {how}"}
    if chosen.timed.way.in_fewer_bits:
        notes.append(_in_fewer_bits(chosen.timed.way))
    finish = Finish(found, chosen, best, why)
    table = [*float_rows(finish, search), *(one for row in rows for one in trial_rows(row, finish, search, twins))]
    candidate = candidate_of(chosen.entrant, rows)
    place = place_of(target, subject.stem, str(chosen.timed.file.artifact.format))
    source = subject.source if subject.network is not None and subject.source.endswith(".safetensors") else None
    made = publish(
        Choice(chosen, best, candidate.scheme, before, after, fidelity, found.device, judge.allowed, table), place,
        tuple(dict.fromkeys(notes)), None if source is None else Path(source),
    )  # fmt: skip
    return replace(made, delivered=lambda: shutil.rmtree(subject.folder, ignore_errors=True))


def _in_fewer_bits(way: Way) -> str:
    """What is to be known of a choice whose runtime computes with fewer bits than the file says."""
    return (
        f"it was chosen in {way.runtime}, which computes in {precision_of(way.runtime)}: run it so; in another runtime "
        "the same file gives other outputs in another time"
    )
