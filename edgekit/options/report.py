"""Options of ``edgekit report``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgekit.options.base import Options, option


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions(Options):
    """The options of ``report``."""

    results: Sequence[str | Path] = field(
        kw_only=False,
        metadata=option("Files that --json of any command wrote.", metavar="RESULT...", takes="words"),
    )
    out: str | Path = field(
        metadata=option("The page to write.", metavar="FILE.html", flags=("-o", "--out"), names="output")
    )
