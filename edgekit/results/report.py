"""What ``report`` made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgekit.results.base import Result


@dataclass(frozen=True, kw_only=True, repr=False)
class ReportResult(Result):
    """A page.

    Attributes:
        page: the file; bytes: its size.
        documents: the saved results that it shows, in their order.
    """

    page: Path
    bytes: int
    documents: tuple[Path, ...]
