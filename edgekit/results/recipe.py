"""What ``recipe`` says: the runs of a recipe as they would be done, or how they ended, and one table over all files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from edgekit.results.base import Result, rounded


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One run as it would be done.

    Attributes:
        line: of its step in the file.
        inputs: runs that it takes files from.
        gives: the file it writes; null for one that only measures.
        why: why it is to be done; null if it is done already.
    """

    run: str
    step: str
    line: int
    command: str
    inputs: tuple[str, ...] = field(metadata={"key": "from"})
    gives: str | None
    done: bool
    why: str | None


@dataclass(frozen=True, kw_only=True, repr=False)
class RecipePlan(Result):
    """A recipe that is right, and what running it would do."""

    recipe: str
    name: str
    source: str
    data: str | None
    folder: str
    runs: tuple[PlannedRun, ...]


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """How one run ended.

    Attributes:
        ended: ``done`` now, ``kept`` from an earlier time, ``failed``, or ``left out``: something before it failed.
        reason: why it had to be done, why it failed, or what it waited for.
        without: files that a run of several did without, since what makes them failed.
        result: its command's JSON document.
    """

    run: str
    step: str
    command: str
    options: Mapping[str, Any]
    inputs: tuple[str, ...] = field(metadata={"key": "from"})
    ended: str
    reason: str
    exit_code: int
    seconds: float = rounded(3)
    file: str | None
    sha256: str | None
    without: tuple[str, ...]
    result: Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class FileRow:
    """A model file and a place it was timed in; nulls where it was not timed or measured."""

    file: str
    step: str
    format: str
    bytes: int
    metric: str | None = None
    quality: float | None = None
    samples: int | None = None
    data: str | None = None
    device: str | None = None
    evidence: str | None = None
    runtime: str | None = None
    threads: int | None = None
    p50_ms: float | None = None
    ratio: float | None = None
    ci95: tuple[float, float] | None = None
    verdict: str | None = None
    against: str | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class RecipeRecord(Result):
    """A recipe that was run: its runs in order, and the files it made."""

    ROWS: ClassVar[str] = "table"

    recipe: str
    name: str
    source: str
    data: str | None
    folder: str
    seconds: float = rounded(3)
    exit_code: int
    runs: tuple[FinishedRun, ...]
    table: tuple[FileRow, ...]
