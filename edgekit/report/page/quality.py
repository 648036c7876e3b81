"""The pages of eval and verify: which classes are taken for which, curves, and differences case by case."""

from __future__ import annotations

from edgekit.report.eval import render_eval
from edgekit.report.page import plots
from edgekit.report.page.parts import Plot, Section
from edgekit.report.text import small
from edgekit.report.verify import render_verify
from edgekit.results.eval import Confusion, Curve, EvalResult
from edgekit.results.proof import CaseResult, VerifyResult
from edgekit.types import Sheet

_TITLES = {
    "precision-recall": ("Precision over recall", "recall", "precision"),
    "roc": ("ROC curve", "false alarms", "caught"),
}


def eval_sections(result: EvalResult) -> list[Section]:
    """The figure of merit, by class, with confusion and curves where they were measured."""
    sections = [Section("Quality", render_eval(result))]
    if result.confusion is not None:
        sections.append(Section("Which classes are taken for which", [confusion(result.confusion)]))
    if result.per_class:
        sections.append(Section("By class", [by_class(result)]))
    if result.curves:
        sections.append(Section("Thresholds", [curves(result.curves)]))
    return sections


def verify_sections(result: VerifyResult) -> list[Section]:
    """The cases of a comparison."""
    return [Section("Cases", [*render_verify(result), *([cases(result.cases)] if result.cases else []), *result.notes])]


def confusion(found: Confusion) -> Plot:
    """Actual classes against those that were said, the shares of a row by colour."""
    rows = [
        {"actual": actual, "said": said, "count": count, "shown": count or "", "share": count / max(sum(counts), 1)}
        for actual, counts in zip(found.classes, found.counts, strict=True)
        for said, count in zip(found.classes, counts, strict=True)
    ]
    about = "Rows are the right answers, columns what the model said; the colour is the share of the row."
    table = [(name, *counts) for name, counts in zip(found.classes, found.counts, strict=True)]
    sheet = Sheet(("right answer", *found.classes), table, right=found.classes)
    return Plot("Confusion matrix", about, plots.matrix(rows, about), sheet)


def by_class(result: EvalResult) -> Plot:
    """The figure of each class."""
    order = sorted(result.per_class.items(), key=lambda row: row[1])
    about = f"{result.metric} of each class, the worst first."
    spec = plots.bars([{"name": name, "value": value} for name, value in order[:60]], about, "figure of the class")
    return Plot("By class", about, spec, Sheet(("class", result.metric), order, right=(result.metric,)))


def curves(found: tuple[Curve, ...]) -> Plot:
    """Precision against recall, or the receiver operating characteristic."""
    title, across, up = _TITLES.get(found[0].kind, (found[0].kind, "x", "y"))
    rows = [{"name": one.name, "x": x, "y": y} for one in found for x, y in one.points]
    about = f"{up.capitalize()} over {across} as the threshold of the score moves, a line for each class."
    table = [(row["name"], row["x"], row["y"]) for row in rows]
    sheet = Sheet(("class", across, up), table, right=(across, up))
    return Plot(title, about, plots.curves(rows, about, across, up), sheet)


def cases(found: tuple[CaseResult, ...]) -> Plot:
    """How much of what is allowed each case takes."""
    rows = [
        {
            "name": f"{place}: {case.kind}", "group": "passed" if case.passed else "failed",
            "value": 100 * case.max_abs / case.limit if case.max_abs is not None and case.limit else None,
        }
        for place, case in enumerate(found, 1)
    ]  # fmt: skip
    about = "The largest difference of each case, in per cent of what is allowed there."
    columns = ("case", "max |difference|", "allowed", "output", "passed")
    table = [(case.kind, small(case.max_abs), small(case.limit), case.output, case.passed) for case in found]
    spec = plots.bars(rows, about, "% of the tolerance", group="case")
    return Plot("Differences", about, spec, Sheet(columns, table, right=columns[1:3]))
