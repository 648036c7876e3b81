"""How the history of a folder looks on the screen."""

from __future__ import annotations

from edgekit.report.text import Parts, figure, ms, size, table
from edgekit.results.compare import Comparison
from edgekit.results.history import TIME, Course, HistoryResult, HistoryRun

COLUMNS = ("figure", "runs", "first", "last", "last / first")


def render_history(result: HistoryResult) -> Parts:
    """A table for each model, one line a course, then every regression, then what was left out."""
    parts: Parts = [f"{result.folder}: {result.documents} saved result{'' if result.documents == 1 else 's'}"]
    for model in dict.fromkeys(course.model for course in result.courses):
        mine = [course for course in result.courses if course.model == model]
        several = len({course.cpu for course in mine if course.cpu}) > 1
        parts.append(table(COLUMNS, [_row(one, several) for one in mine], title=model, right=COLUMNS[1:4]))
    slower = [(course, run) for course in result.courses for run in course.runs if run.slower]
    if slower:
        listed = [
            (course.model, place(course), run.document, run.date, compared(run.against_previous))
            for course, run in slower
        ]
        columns = ("model", "figure", "document", "date", "time / run before [95%]")
        parts.append(table(columns, listed, title="Slower than the run before"))
    if result.left_out:
        title = "Left out: not a saved result of this version of edgekit"
        parts.append(table(("file", "why"), [(one.path, one.reason) for one in result.left_out], title=title))
    parts.append(f"{result.regressions} regression{'' if result.regressions == 1 else 's'}")
    return [*parts, *([f"the page is {result.page}"] if result.page is not None else [])]


def place(course: Course, cpu: bool = False) -> str:
    """The figure of a course and where it was measured: ``p50 ms, litert on cpu, 1 thread, batch 1, single-stream``."""
    where = f"{course.runtime} on {course.device}" if course.device else ""
    return ", ".join(filter(None, (course.figure, where, course.cpu if cpu else "", course.setting)))


def _row(course: Course, several: bool) -> tuple[object, ...]:
    first, last = (shown_value(course, run) for run in (course.runs[0], course.runs[-1]))
    if len(course.runs) == 1:
        change = None
    elif course.comparison is not None:
        change = f"{verdict_of(course)} {compared(course.comparison) or ''}".strip()
    else:
        same = course.runs[0].value == course.runs[-1].value
        change = "equal" if same else None if course.change is None else f"{course.change:.3f}"
    return (place(course, several), len(course.runs), first, last, change)


def verdict_of(course: Course) -> str:
    """Of times: the last run against the first, and whether there was a regression on the way."""
    if course.comparison is None:
        return ""
    slower = sum(run.slower for run in course.runs)
    return f"{course.comparison.verdict}{f' ({slower} slower than before)' if slower else ''}"


def compared(found: Comparison | None) -> str | None:
    """``1.052 [1.011, 1.094]``."""
    if found is None or found.ratio is None:
        return None
    interval = f" [{found.ci95[0]:.3f}, {found.ci95[1]:.3f}]" if found.ci95 else ""
    return f"{found.ratio:.3f}{interval}"


def shown_value(course: Course, run: HistoryRun) -> str:
    """A value in the unit of its figure."""
    if course.figure == TIME:
        return ms(run.value)
    return size(int(run.value)) if course.figure == "bytes" else figure(course.figure, run.value)
