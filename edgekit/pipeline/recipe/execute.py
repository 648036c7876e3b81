"""Runs what is not done of a recipe: each step is a call of its verb's function, in this process."""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from edgekit.artifact import sha256_file
from edgekit.errors import DeviceError, EdgekitError, StorageError, interruption
from edgekit.options.base import option_fields
from edgekit.outputs import publishing
from edgekit.pipeline.recipe.contents import Contents
from edgekit.pipeline.recipe.plan import Input, Run, RunPlan, supplied
from edgekit.pipeline.recipe.result import Outcome, RecipeResult
from edgekit.pipeline.recipe.state import STATE, Folder, Record, StepStore, key_of, parts_of
from edgekit.pipeline.recipe.verbs import arguments
from edgekit.progress import task
from edgekit.report.document import dumps, envelope
from edgekit.results.base import to_json

log = logging.getLogger("edgekit")


Progress = Callable[[str], AbstractContextManager[Callable[..., None] | None]]
"""Name of a verb -> what its ``progress`` is while it runs."""


def no_progress(verb: str) -> AbstractContextManager[None]:
    """Progress for nobody."""
    return nullcontext()


def run_plan(
    plan: RunPlan,
    place: Path,
    contents: Contents,
    *,
    fresh: bool = False,
    progress: Progress = no_progress,
    store: StepStore | None = None,
) -> RecipeResult:
    """Runs every run of ``plan`` that is not done in the folder ``place``; ``fresh``: all of them. ``store``: what
    other recipes made, where this one looks first.

    Raises:
        UsageError: the folder cannot be written, or another run works in it.
        StorageError: the disk is full.
    """
    start = time.monotonic()
    folder = Folder(place, store)
    going = task(plan.recipe.path.name, len(plan.runs), even=False)
    with folder.locked(), _told_when_interrupted(place), going as shown:
        job = _Job(plan, folder, contents, fresh, progress)
        for number, run in enumerate(plan.runs, 1):
            shown.update(number - 1, detail=run.title)
            job.outcomes[run] = job.outcome(run, f"[{number}/{len(plan.runs)}] {run.title}")
    return RecipeResult(plan, place, tuple(job.outcomes.values()), time.monotonic() - start)


@contextmanager
def _told_when_interrupted(place: Path) -> Iterator[None]:
    """An interruption that says what stays: of a recipe more than nothing is published by then."""
    told = f"the finished steps are kept in {place}; the same command goes on there"
    try:
        yield
    except BaseException as error:
        if interruption(error):
            raise KeyboardInterrupt(told) from error
        if isinstance(error, SystemExit):
            log.warning("%s", told)
        raise


class _Job:
    """One run of a recipe in a locked folder."""

    def __init__(self, plan: RunPlan, folder: Folder, contents: Contents, fresh: bool, progress: Progress) -> None:
        self.plan, self.folder, self.contents, self.fresh, self.progress = plan, folder, contents, fresh, progress
        self.outcomes: dict[Run, Outcome] = {}
        self.hashes: dict[Run, str] = {}
        """Of the files of the runs that went well."""

    def outcome(self, run: Run, title: str) -> Outcome:
        """Does ``run`` if it is not done and can be; never raises for what its command refuses."""
        usable, broken = self._usable(run)
        if broken and not (run.consumes_all_inputs and usable):
            log.info("%s: left out, since %s failed", title, ", ".join(broken))
            return Outcome(run, "left out", f"waits for {', '.join(broken)}", without=broken)
        record = self.folder.record(run)
        try:
            parts = self._parts(run, usable)
            why = "requested again" if self.fresh else self.folder.why(record, parts)
            if record is not None and not why:
                log.info("%s: done already", title)
                return self._well(run, record, "kept", "", broken)
            log.info("%s: %s\n  %s", title, why, self.line(run, usable))
            self.folder.forget(run, record)
            taken = self.folder.taken(run, parts)
            if taken is not None:
                return self._well(run, taken, "kept", "another recipe made it", broken)
            return self._well(run, self._done(run, usable, parts), "done", why, broken)
        except _Refused as refused:
            log.error("%s: %s", title, refused.error)
            code, document = refused.error.exit_code, refused.document
            return Outcome(run, "failed", str(refused.error), code, document, without=broken)

    def values(self, run: Run) -> dict[str, Any]:
        """The options of ``run`` with files in place of the steps they name."""
        files = {name: str(self._file(other)) for name, other in run.refers.items()}
        values = {**run.options, **supplied(run, self.plan.recipe.source.value), **files}
        if run.verb.gives == "files":
            values["name"] = run.label
            if "overwrite" in run.verb.options:  # the folder is the recipe's own
                values["overwrite"] = True
        return values

    def place(self, run: Run) -> str | None:
        """Where ``run`` writes; None for one that only measures."""
        if run.verb.gives == "files":
            return str(self.folder.path)
        return str(self.folder.path / run.title) if run.gives else None

    def line(self, run: Run, usable: tuple[Input, ...]) -> str:
        """The command line that does the same."""
        place = self.place(run)
        words = [*arguments(self.values(run), run.verb), *([] if place is None else ["-o", place])]
        return shlex.join(["edgekit", run.verb.name, *words, *(str(self._file(one.writer)) for one in usable)])

    def _file(self, writer: Run | None) -> Path | str:
        if writer is None:
            return str(self.plan.recipe.source.value)
        file = self.outcomes[writer].file
        assert file is not None, writer.title
        return file

    def _usable(self, run: Run) -> tuple[tuple[Input, ...], tuple[str, ...]]:
        """The inputs that are there, and the runs that are the reason why others are not."""
        bad = {other for other, outcome in self.outcomes.items() if outcome.ended in ("failed", "left out")}
        usable = tuple(given for given in run.inputs if bad.isdisjoint(given.waits))
        waits = [other for other in (*_waits(run), *run.refers.values()) if other in bad]
        roots = [other for other in waits if self.outcomes[other].ended == "failed"] or waits
        broken = tuple(dict.fromkeys(other.title for other in roots))
        return (() if not bad.isdisjoint(run.refers.values()) else usable), broken

    def _parts(self, run: Run, usable: tuple[Input, ...]) -> dict[str, Any]:
        try:
            return parts_of(run, usable, self.plan, self.contents, self.hashes)
        except EdgekitError as error:
            raise _Refused(error) from error

    def _done(self, run: Run, usable: tuple[Input, ...], parts: Mapping[str, Any]) -> Record:
        """Runs the command and keeps its record."""
        start = time.monotonic()
        document = self._run(run, usable)
        seconds = time.monotonic() - start
        if run.verb.gives == "files":
            file = Path(document["artifacts"][0]["path"])
        elif run.verb.gives == "file":
            file = Path(document["artifact"]["path"])
        elif run.gives:
            file = self.folder.path / run.title
        else:
            file = self.folder.path / f"{run.title}.json"
            with publishing(file) as temporary:
                temporary.write_text(dumps(envelope(run.verb.name, document)), encoding="utf-8")
        record = Record(key_of(parts), parts, file.name, sha256_file(file), _without_samples(document), seconds)
        self.folder.keep(run, record)
        return record

    def _run(self, run: Run, usable: tuple[Input, ...]) -> dict[str, Any]:
        """The document of the verb's result.

        Raises:
            _Refused: the verb or its gate said no, or it failed.
            StorageError: the disk is full, which every later run would meet too.
        """
        kind, files = run.verb.kind, [str(self._file(given.writer)) for given in usable]
        known = {one.name for one in option_fields(kind.options)}
        keywords = run.verb.keywords(
            self.values(run), files if run.verb.takes == "models" else files[0], self.place(run)
        )
        if "journal" in known:  # a bench keeps its finished blocks beside its document
            keywords["journal"] = self.folder.path / STATE / f"{run.title}.json.part"
        document: dict[str, Any] | None = None
        try:
            with self.progress(run.verb.name) if "progress" in known else nullcontext() as report:
                result = kind.run(**keywords, **({} if report is None else {"progress": report}))
            document = to_json(result.document())
            result.conclude()
        except StorageError:
            raise
        except EdgekitError as error:
            raise _Refused(error, document) from error
        except (ImportError, MemoryError) as error:
            text = f"{type(error).__name__}: {error}; 'edgekit doctor' says what is missing and how to get it"
            raise _Refused(DeviceError(text)) from error
        return document

    def _well(self, run: Run, record: Record, ended: Any, why: str, without: tuple[str, ...]) -> Outcome:
        self.hashes[run] = record.sha256
        file = self.folder.path / record.file
        return Outcome(run, ended, why, 0, record.document, file, record.sha256, record.seconds, without)


def _waits(run: Run) -> Iterator[Run]:
    return (other for given in run.inputs for other in given.waits)


class _Refused(Exception):
    """A command ended with one of edgekit's errors; ``document``: what it had emitted by then."""

    def __init__(self, error: EdgekitError, document: Mapping[str, Any] | None = None) -> None:
        super().__init__(str(error))
        self.error, self.document = error, None if document is None else _without_samples(document)


def _without_samples(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document without the raw samples of a bench, which stand in the file of its own."""
    rows = document.get("results")
    if not isinstance(rows, list):
        return dict(document)
    return {**document, "results": [{k: v for k, v in row.items() if k != "samples_ns"} for row in rows]}
