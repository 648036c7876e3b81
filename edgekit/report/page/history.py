"""The page of a history: a plot over the dates for each figure, and the tables of the text."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from edgekit.extras.base import Sheet
from edgekit.report.history import place, render_history, shown_value
from edgekit.report.page import plots
from edgekit.report.page.parts import Plot, Section
from edgekit.results.history import TIME, Course, HistoryResult

MOST = 2000
"""Points of a plot; the document has them all."""


def history_sections(result: HistoryResult) -> list[Section]:
    """Courses with two runs or more are drawn."""
    dated = [course for course in result.courses if len(course.runs) > 1 and all(_is_date(r.date) for r in course.runs)]
    figures = dict.fromkeys(course.figure for course in dated)
    drawn = [course_plot([one for one in dated if one.figure == figure], figure) for figure in figures]
    return [Section("Summary", render_history(result)), *([Section("Over time", drawn)] if drawn else [])]


def _is_date(text: str) -> bool:
    """Whether a drawing can place it: a document is anybody's."""
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def course_plot(courses: list[Course], figure: str) -> Plot:
    """A line for each course of one figure."""
    rows: list[dict[str, Any]] = []
    for course in courses:
        name = f"{course.model}, {place(course, cpu=True)}"
        for run in course.runs:
            low, high = run.ci95 or (run.value, run.value)
            rows.append({
                "course": name, "date": run.date, "value": run.value, "low": low, "high": high,
                "shown": shown_value(course, run), "document": run.document, "sha256": run.sha256[:12],
                "regression": "slower" if run.slower else "",
            })  # fmt: skip
    rows = rows[-MOST:]
    marked = " Triangles are runs that are slower than the one before." if figure == TIME else ""
    about = f"{figure} of each model, device and runtime by the date of the document.{marked}"
    columns = ("course", "date", "shown", "document", "sha256", "regression")
    head = ("model and place", "date", figure, "document", "sha256", "")
    sheet = Sheet(head, [[row[name] for name in columns] for row in rows], right=(figure,))
    return Plot(figure, about, plots.over_dates(rows, about), sheet)
