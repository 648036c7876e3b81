"""What a recipe gave: every run and how it ended, one table over all files and devices, and the exit code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from edgekit.artifact import read_card, size_bytes
from edgekit.documents import typed
from edgekit.errors import DeviceError, EdgekitError, GateError, InconclusiveError, InputError, UsageError
from edgekit.pipeline.recipe.contents import is_model
from edgekit.pipeline.recipe.plan import MODEL_SUFFIXES, Run, RunPlan
from edgekit.recipe import SOURCE
from edgekit.results.base import Result
from edgekit.results.bench import BenchRecord
from edgekit.results.checks import Check
from edgekit.results.recipe import FileRow, FinishedRun, RecipeRecord

Ended = Literal["done", "kept", "failed", "left out"]
WORST_FIRST: tuple[type[EdgekitError], ...] = (DeviceError, InputError, UsageError, GateError, InconclusiveError)
"""Of several that went wrong, the exit code is that of the first here: what did not run (4, 3, 2) says less about the
networks than what ran and was refused (1), and that says more than noise (5)."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one run ended.

    Attributes:
        run: the run.
        ended: ``done`` now, ``kept`` from an earlier time, ``failed``, or ``left out``: something before it failed.
        reason: why it had to be done, why it failed, or what it waited for.
        exit_code: that of its command; 0 where it was not run.
        document: its command's JSON document; None without one. A gate that said no after it measured has one.
        file: what it wrote.
        sha256: of the file.
        seconds: it took, then.
        without: files that a run of several did without, since what makes them failed.
    """

    run: Run
    ended: Ended
    reason: str = ""
    exit_code: int = 0
    document: Mapping[str, Any] | None = None
    file: Path | None = None
    sha256: str = ""
    seconds: float = 0.0
    without: tuple[str, ...] = ()

    def row(self) -> FinishedRun:
        """Its place in the JSON document."""
        run = self.run
        return FinishedRun(
            run=run.title,
            step=run.step.name,
            command=run.verb.name,
            options=run.options,
            inputs=tuple(given.writer.title if given.writer else "source" for given in run.inputs),
            ended=self.ended,
            reason=self.reason,
            exit_code=self.exit_code,
            seconds=self.seconds,
            file=None if self.file is None else str(self.file),
            sha256=self.sha256 or None,
            without=self.without,
            result=self.document,
        )


@dataclass(frozen=True, repr=False)
class RecipeResult(Result):
    """A recipe that was run: ``outcomes`` in the order of its runs."""

    ROWS: ClassVar[str] = "table"

    plan: RunPlan
    folder: Path
    outcomes: tuple[Outcome, ...]
    seconds: float

    def checks(self) -> tuple[Check, ...]:
        """Each run went well."""
        return tuple(
            Check(
                one.run.title,
                one.reason if one.ended in ("failed", "left out") else "",
                broken=one.exit_code not in (0, 1),
            )
            for one in self.outcomes
        )

    def failure(self) -> EdgekitError | None:
        """What the program ends with although its document stands; None if every run went well."""
        failed = [outcome for outcome in self.outcomes if outcome.ended == "failed"]
        if not failed:
            return None
        codes = {outcome.exit_code for outcome in failed}
        worst = next((kind for kind in WORST_FIRST if kind.exit_code in codes), DeviceError)
        skipped = sum(outcome.ended == "left out" for outcome in self.outcomes)
        told = ", ".join(outcome.run.title for outcome in failed)
        rest = f"; {skipped} more were left out" if skipped else ""
        return worst(
            f"{len(failed)} of {len(self.outcomes)} runs failed: {told}{rest}. What went well is kept; the "
            "same command tries the others again"
        )

    @cached_property
    def record(self) -> RecipeRecord:
        """Every run, and one table over all files and devices."""
        recipe, failure = self.plan.recipe, self.failure()
        return RecipeRecord(
            recipe=str(recipe.path),
            name=recipe.name,
            source=recipe.source.value,
            data=None if recipe.data is None else recipe.data.value,
            folder=str(self.folder),
            seconds=self.seconds,
            exit_code=failure.exit_code if failure else 0,
            runs=tuple(outcome.row() for outcome in self.outcomes),
            table=tuple(self.table()),
        )

    def document(self) -> dict[str, Any]:
        """The body of ``edgekit.recipe/1``."""
        return self.record.document()

    def table(self) -> Iterator[FileRow]:
        """One row a model file and place it was timed in; one for a file that was not timed at all."""
        timed = [row for outcome in self._of("bench") for row in _timings(outcome)]
        source = self.plan.recipe.source.value
        files = [(SOURCE, Path(source))] if is_model(source) else []
        files += [(o.run.step.name, o.file) for o in self.outcomes if o.file is not None and o.run.gives]
        for step, file in files:
            if file.suffix not in MODEL_SUFFIXES:
                continue
            row = FileRow(file=file.name, step=step, format=file.suffix.lstrip("."), bytes=size_bytes(file))
            row = replace(row, **self._quality(str(file)))
            for figures in [found for model, found in timed if model == str(file)] or [{}]:
                yield replace(row, **figures)

    def _of(self, command: str) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.run.verb.name == command and outcome.document]

    def _quality(self, model: str) -> dict[str, Any]:
        """What an eval said of the file; else what its card says (of an exported file: what the network it was proved
        against was measured to have)."""
        card = read_card(model)
        figures = {}
        if card is not None and card.quality:
            said = card.quality[0]
            figures = {"metric": said.metric, "quality": said.value, "samples": said.total, "data": said.data}
        for outcome in self._of("eval"):
            found = outcome.document or {}
            if found["model"] == model:
                value, total, data = found["value"], found["total"], found["data"]
                return {"metric": found["metric"], "quality": value, "samples": total, "data": data}
        return figures


def _timings(outcome: Outcome) -> Iterator[tuple[str, dict[str, Any]]]:
    """(model file, figures) of every cell of a bench, beside how it compares with the first file there."""
    record = typed(BenchRecord, outcome.document, outcome.run.title)
    found = {(row.a, row.device, row.threads, (row.runtimes or (None,))[0]): row for row in record.comparisons}
    for cell in record.results:
        row = found.get((cell.model, cell.device.name, cell.threads, cell.runtime))
        figures: dict[str, Any] = {
            "device": cell.device.name,
            "evidence": cell.device.evidence,
            "runtime": cell.runtime,
            "threads": cell.threads,
            "p50_ms": cell.p50_ms,
        }
        if row is not None:
            figures |= {"ratio": row.ratio, "ci95": row.ci95, "verdict": row.verdict, "against": Path(row.b).name}
        yield cell.model, figures
