"""The table of ``edgekit verify``."""

from __future__ import annotations

from edgekit.report.text import Parts, small, table
from edgekit.results.proof import VerifyResult


def render_verify(result: VerifyResult) -> Parts:
    """One line a case, and where the two part first."""
    columns = ("input", "max |difference|", "allowed", "cosine", "")
    rows = []
    for case in result.cases:
        cosine = None if case.cosine is None else f"{case.cosine:.6f}"
        verdict = "ok" if case.passed else f"FAILED: {case.reason}"
        rows.append((case.kind, small(case.max_abs), small(case.limit), cosine, verdict))
    title = f"{result.model} against {result.against}: {'passed' if result.passed else 'FAILED'}"
    parts: Parts = [table(columns, rows, title=title, right=columns[1:4])]
    if result.first_divergence:
        parts.append(f"First layer to differ: {result.first_divergence}")
    return parts
