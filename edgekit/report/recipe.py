"""How recipes look on the screen."""

from __future__ import annotations

from collections import Counter
from typing import Protocol

from edgekit.report.text import Parts, figure, ms, ratio, size, table
from edgekit.results.recipe import FileRow, RecipePlan, RecipeRecord


class Ran(Protocol):
    """A recipe that was run."""

    @property
    def record(self) -> RecipeRecord: ...


def render_check(plan: RecipePlan) -> Parts:
    """The text of ``recipe check``."""
    steps = len({row.step for row in plan.runs})
    return [f"{plan.recipe}: right; {steps} steps, {len(plan.runs)} runs"]


def render_show(plan: RecipePlan) -> Parts:
    """Every run with its command line and its state."""
    parts: Parts = [f"{plan.recipe} in {plan.folder}: from {_origin(plan)}"]
    rows = [(n, row.run, row.command, "done" if row.done else row.why) for n, row in enumerate(plan.runs, 1)]
    return [*parts, table(("", "run", "does", "state"), rows)]


def render_run(result: Ran) -> Parts:
    """The text of ``recipe run``."""
    return render_record(result.record)


def render_record(record: RecipeRecord) -> Parts:
    """What every run ended with, and one table over all files and devices."""
    ends = Counter(row.ended for row in record.runs)
    told = ", ".join(f"{count} {name}" for name, count in ends.items())
    parts: Parts = [f"{record.name} from {_origin(record)}: {told}; everything is in {record.folder}"]
    if record.table:
        columns = ("file", "format", "bytes", "quality", "device", "runtime", "p50 ms", "time", "verdict", "against")
        rows = [_row(row) for row in record.table]
        parts.append(table(columns, rows, right=("bytes", "quality", "p50 ms", "time")))
    wrong = [(row.run, row.ended, row.reason) for row in record.runs if row.ended in _WRONG]
    if wrong:
        parts.append(table(("run", "ended", "why"), wrong))
    return parts


_WRONG = ("failed", "left out")


def _origin(record: RecipePlan | RecipeRecord) -> str:
    return f"{record.source} on {record.data}" if record.data else record.source


def _row(row: FileRow) -> tuple[object, ...]:
    threads = f", {row.threads} threads" if (row.threads or 1) > 1 else ""
    return (
        row.file,
        row.format,
        size(row.bytes),
        row.metric and f"{row.metric} {figure(row.metric, row.quality)} ({row.samples})",
        row.device,
        row.runtime and f"{row.runtime}{threads}",
        ms(row.p50_ms),
        ratio(row.ratio),
        row.verdict,
        row.against,
    )
