"""How recipes look on the screen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekit.report.text import figure, ms, ratio, size, table
from edgekit.report.verbs import Documented, Parts


def render_check(result: Documented) -> Parts:
    """The text of ``recipe check``."""
    document = result.document()
    steps = len({row["step"] for row in document["runs"]})
    return [f"{document['recipe']}: right; {steps} steps, {len(document['runs'])} runs"]


def render_show(result: Documented) -> Parts:
    """Every run with its command line and its state."""
    document = result.document()
    parts: Parts = [f"{document['recipe']} in {document['folder']}: from {_origin(document)}"]
    rows = [
        (number, row["run"], row["command"], "done" if row["done"] else row["why"])
        for number, row in enumerate(document["runs"], 1)
    ]
    return [*parts, table(("", "run", "does", "state"), rows)]


def render_run(result: Documented) -> Parts:
    """What every run ended with, and one table over all files and devices."""
    document = result.document()
    ends: dict[str, int] = {}
    for row in document["runs"]:
        ends[row["ended"]] = ends.get(row["ended"], 0) + 1
    told = ", ".join(f"{count} {name}" for name, count in ends.items())
    parts: Parts = [f"{document['name']} from {_origin(document)}: {told}; everything is in {document['folder']}"]
    rows = [_row(row) for row in document["table"]]
    if rows:
        columns = ("file", "format", "bytes", "quality", "device", "runtime", "p50 ms", "time", "verdict", "against")
        parts.append(table(columns, rows, right=("bytes", "quality", "p50 ms", "time")))
    wrong = [(row["run"], row["ended"], row["reason"]) for row in document["runs"] if row["ended"] in _WRONG]
    if wrong:
        parts.append(table(("run", "ended", "why"), wrong))
    return parts


_WRONG = ("failed", "left out")


def _origin(document: Mapping[str, Any]) -> str:
    return f"{document['source']} on {document['data']}" if document["data"] else str(document["source"])


def _row(row: Mapping[str, Any]) -> tuple[object, ...]:
    threads = f", {row['threads']} threads" if (row["threads"] or 1) > 1 else ""
    return (
        row["file"],
        row["format"],
        size(row["bytes"]),
        row["metric"] and f"{row['metric']} {figure(row['metric'], row['quality'])} ({row['samples']})",
        row["device"],
        row["runtime"] and f"{row['runtime']}{threads}",
        ms(row["p50_ms"]),
        ratio(row["ratio"]),
        row["verdict"],
        row["against"],
    )
