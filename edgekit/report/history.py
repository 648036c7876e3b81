"""How the history of a folder looks on the screen."""

from __future__ import annotations

from edgekit.report.text import Parts, figure, ms, share, size, table
from edgekit.results.compare import Comparison
from edgekit.results.history import TIME, Course, HistoryResult, HistoryRun

WHERE = ("model", "figure", "device", "runtime", "setting")


def render_history(result: HistoryResult) -> Parts:
    """One line a course, then every regression, then what was left out."""
    several = len({course.cpu for course in result.courses if course.cpu}) > 1
    parts: Parts = [f"{result.folder}: {result.documents} saved result{'' if result.documents == 1 else 's'}"]
    columns = (*WHERE[:3], *(("CPU",) if several else ()), *WHERE[3:], "runs", "first", "last", "last / first", "")
    rows = [_row(course, several) for course in result.courses]
    parts.append(table(columns, rows, right=("runs", "first", "last")))
    slower = [(course, run) for course in result.courses for run in course.runs if run.slower]
    if slower:
        listed = [
            (course.model, course.device, course.runtime, run.document, run.date, compared(run.against_previous))
            for course, run in slower
        ]
        columns = ("model", "device", "runtime", "document", "date", "time / run before [95%]")
        parts.append(table(columns, listed, title="Slower than the run before"))
    if result.left_out:
        title = "Left out: not a saved result of this version of edgekit"
        parts.append(table(("file", "why"), [(one.path, one.reason) for one in result.left_out], title=title))
    parts.append(f"{result.regressions} regression{'' if result.regressions == 1 else 's'}")
    return [*parts, *([f"the page is {result.page}"] if result.page is not None else [])]


def _row(course: Course, several: bool) -> tuple[object, ...]:
    first, last = (shown_value(course, run) for run in (course.runs[0], course.runs[-1]))
    place = (course.device or None, *((course.cpu or None,) if several else ()), course.runtime or None)
    if len(course.runs) == 1:
        change, verdict = None, ""
    elif course.comparison is not None:
        change, verdict = compared(course.comparison), verdict_of(course)
    else:
        change = None if course.change is None else f"{course.change:.3f}"
        verdict = "" if course.runs[0].value == course.runs[-1].value else "changed"
    head = course.model, course.figure
    return (*head, *place, course.setting or None, len(course.runs), first, last, change, verdict)


def verdict_of(course: Course) -> str:
    """Of times: the last run against the first, and whether there was a regression on the way."""
    if course.comparison is None:
        return ""
    slower = sum(run.slower for run in course.runs)
    return f"{course.comparison.verdict}{f'; {slower} slower than the run before' if slower else ''}"


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
