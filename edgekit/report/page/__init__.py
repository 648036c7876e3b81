"""``edgekit report``, ``--html``: results as one page, one self-contained file of HTML."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgekit.report.page.front import of_several
from edgekit.report.page.html import check_packages as check_packages
from edgekit.report.page.html import render
from edgekit.report.page.parts import Section
from edgekit.report.page.results import made_by, sections_of
from edgekit.results.saved import SavedDocument


def page(documents: Sequence[SavedDocument]) -> str:
    """One page of all ``documents``, in their order.

    Raises:
        RuntimeMissingError: jinja2 or vl-convert-python is not installed.
    """
    front = of_several(document.result for document in documents)
    sections = [Section("Front", front)] if front else []
    for document in documents:
        of = f"{Path(document.origin).name}: " if len(documents) > 1 else ""
        sections += [Section(f"{of}{one.title}", one.parts) for one in sections_of(document)]
    sections.append(Section("How it was made", [part for document in documents for part in made_by(document)]))
    one = documents[0]
    title = f"edgekit {one.verb}: {Path(one.origin).name}" if len(documents) == 1 else f"{len(documents)} results"
    return render(title, sections)
