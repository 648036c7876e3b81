"""The table of ``edgekit verify``."""

from __future__ import annotations

from typing import Any, Protocol

from edgekit.report.text import small, table


class _Result(Protocol):
    def document(self) -> dict[str, Any]: ...


def render_verify(result: _Result) -> list[Any]:
    """One line a case, and where the two part first."""
    document = result.document()
    columns = ("input", "max |difference|", "allowed", "cosine", "")
    rows = []
    for case in document["cases"]:
        cosine = None if case["cosine"] is None else f"{case['cosine']:.6f}"
        verdict = "ok" if case["passed"] else f"FAILED: {case['reason']}"
        rows.append((case["kind"], small(case["max_abs"]), small(case["tolerance"]), cosine, verdict))
    title = f"{document['model']} against {document['against']}: {'passed' if document['passed'] else 'FAILED'}"
    parts: list[Any] = [table(columns, rows, title=title, right=columns[1:4])]
    if document["first_divergence"]:
        parts.append(f"First layer to differ: {document['first_divergence']}")
    return parts
