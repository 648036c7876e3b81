"""The table of ``edgekit export``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from edgekit.report.text import size, small, table


class _Result(Protocol):
    def document(self) -> dict[str, Any]: ...


def render_export(result: _Result) -> list[Any]:
    """One line a file: bytes, seconds, and the proof's largest difference beside what was allowed."""
    document = result.document()
    columns = ("file", "bytes", "seconds", "cases", "max |difference|", "allowed")
    rows = [_row(item) for item in document["artifacts"]]
    notes = [f"{item['path']}: {note}" for item in document["artifacts"] for note in item["notes"]]
    return [table(columns, rows, title=f"{document['network']}, exported and proved", right=columns[1:]), *notes]


def _row(item: Mapping[str, Any]) -> tuple[object, ...]:
    parity = item["parity"]
    figures = (len(parity["cases"]), small(parity["max_abs"]), small(parity["tolerance"]))
    return (item["path"], size(item["bytes"]), f"{item['seconds']:.1f}", *figures)
