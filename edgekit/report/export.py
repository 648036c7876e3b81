"""The table of ``edgekit export``."""

from __future__ import annotations

from edgekit.report.text import Parts, size, small, table
from edgekit.results.proof import ExportedArtifact, ExportResult


def render_export(result: ExportResult) -> Parts:
    """One line a file: bytes, seconds, and the proof's largest difference beside what was allowed."""
    columns = ("file", "bytes", "seconds", "cases", "max |difference|", "allowed")
    rows = [_row(item) for item in result.artifacts]
    notes = [f"{item.path}: {note}" for item in result.artifacts for note in item.notes]
    return [table(columns, rows, title=f"{result.network}, exported and proved", right=columns[1:]), *notes]


def _row(item: ExportedArtifact) -> tuple[object, ...]:
    parity = item.parity
    figures = (len(parity.cases), small(parity.max_abs), small(parity.tolerance))
    return (item.path, size(item.bytes), f"{item.seconds:.1f}", *figures)
