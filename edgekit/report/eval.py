"""How the result of ``eval`` looks on the screen."""

from __future__ import annotations

from typing import Any

from edgekit.report.text import Parts, figure, size, table
from edgekit.results.eval import EvalResult


def render_eval(result: EvalResult) -> Parts:
    """The metric, what it is to be read against, and the classes from worst to best."""
    metric, total, correct = result.metric, result.total, result.correct
    count = f"{total} samples" if correct is None else f"{correct} of {total}"
    parts: Parts = [
        f"{result.model}: {metric} {figure(metric, result.value)} ({count}) on {result.data}, "
        f"{result.runtime} on {result.device}"
    ]
    if result.details:
        parts.append(table(("", ""), [(name.replace("_", " "), _shown(v)) for name, v in result.details.items()]))
    rows = sorted(result.per_class.items(), key=lambda row: row[1])
    if rows:
        parts.append(table(("class", metric), [(n, figure(metric, v)) for n, v in rows], right=(metric,)))
    return parts


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return size(value) if isinstance(value, int) and not isinstance(value, bool) else str(value)
