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
        metadata=option(
            "Files that --json of any command wrote, or a folder of them, whose runs are compared over time.",
            metavar="RESULT...|DIR",
            takes="words",
        ),
    )
    out: str | Path | None = field(
        default=None,
        metadata=option(
            "The page to write; of a folder it may be left out.",
            metavar="FILE.html",
            flags=("-o", "--out"),
            names="output",
        ),
    )
