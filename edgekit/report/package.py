"""The table of ``edgekit package``."""

from __future__ import annotations

from edgekit.report.text import Parts, size, small, table
from edgekit.results.package import PackageResult


def render_package(result: PackageResult) -> Parts:
    """The files, the self-test, what to know."""
    rows = [(one.path, size(one.bytes)) for one in result.files]
    test = result.selftest
    parts: Parts = [
        table(("file", "bytes"), rows, title=f"{result.name}, for {result.target}: {result.out}", right=("bytes",))
    ]
    parts.append(f"self-test run here: off by {small(test.max_abs)}, allowed {small(test.limit)}")
    made = [f"{name} ({kind})" for name, kind in result.preprocessing.items()]
    parts.append(
        f"preprocessing as code: {', '.join(made)}" if made else "no preprocessing: inputs are fed as they are"
    )
    if result.arena_bytes is not None:
        parts.append(f"tensor arena: {size(result.arena_bytes)} bytes; operators: {', '.join(result.operators)}")
    return [*parts, *(f"note: {note}" for note in result.notes)]
