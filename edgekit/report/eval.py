"""How the result of ``eval`` looks on the screen."""

from __future__ import annotations

from typing import Any

from edgekit.report.text import figure, size, table
from edgekit.report.verbs import Documented, Parts


def render_eval(result: Documented) -> Parts:
    """The metric, what it is to be read against, and the classes from worst to best."""
    document = result.document()
    metric = document["metric"]
    total, correct = document["total"], document["correct"]
    count = f"{total} samples" if correct is None else f"{correct} of {total}"
    parts: Parts = [
        f"{document['model']}: {metric} {figure(metric, document['value'])} ({count}) on {document['data']}, "
        f"{document['runtime']} on {document['device']}"
    ]
    if document["details"]:
        parts.append(table(("", ""), [(name.replace("_", " "), _shown(v)) for name, v in document["details"].items()]))
    rows = sorted(document["per_class"].items(), key=lambda row: row[1])
    if rows:
        parts.append(table(("class", metric), [(n, figure(metric, v)) for n, v in rows], right=(metric,)))
    return parts


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return size(value) if isinstance(value, int) and not isinstance(value, bool) else str(value)
