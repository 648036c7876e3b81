"""``edgekit report``, ``--html``: results as one page, one self-contained file of HTML."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekit.extras.base import Sheet
from edgekit.report.page.bench import bench_sections
from edgekit.report.page.history import history_sections
from edgekit.report.page.parts import Command, Facts, Part, Section
from edgekit.report.page.render import check_packages as check_packages
from edgekit.report.page.render import render
from edgekit.results.base import Result
from edgekit.results.bench import BenchRecord
from edgekit.results.history import HistoryResult
from edgekit.results.saved import SavedDocument


def page(documents: Sequence[SavedDocument]) -> str:
    """One page of all ``documents``, in their order.

    Raises:
        RuntimeMissingError: jinja2 or vl-convert-python is not installed.
    """
    sections: list[Section] = []
    for document in documents:
        of = f": {Path(document.origin).name}" if len(documents) > 1 else ""
        found = _sections(document.result)
        sections += [Section(f"{document.verb}{of} – {one.title}", _printable(one.parts)) for one in found]
    sections += [Section("How it was made", [part for document in documents for part in _origin(document)])]
    title = f"edgekit {documents[0].verb}" if len(documents) == 1 else f"{len(documents)} results of edgekit"
    return render(title, sections)


def _sections(result: Result) -> list[Section]:
    if isinstance(result, BenchRecord):
        return bench_sections(result)
    if isinstance(result, HistoryResult):
        return history_sections(result)
    return []


def _printable(parts: Sequence[Any]) -> list[Part]:
    return [part for part in parts if isinstance(part, Part | Sheet)]


def _origin(document: SavedDocument) -> list[Part]:
    """The command, the version and the machine of a document."""
    named = f"{document.origin}: edgekit {document.version}"
    command: Part = "The document does not say by which command it was made."
    if document.command:
        command = Command(shlex.join(document.command))
    return [named, command, Facts(_flat(document.environment), "Environment")]


def _flat(table: Mapping[str, Any], before: str = "") -> list[tuple[str, object]]:
    """The rows of a table and of those within it."""
    rows: list[tuple[str, object]] = []
    for key, value in table.items():
        name = f"{before}{key}".replace("_", " ")
        if isinstance(value, Mapping):
            rows += _flat(value, f"{name} ")
        else:
            rows.append((name, ", ".join(map(str, value)) if isinstance(value, list | tuple) else value))
    return rows
