"""Saved results of a folder over time: how each figure of each model went, on each device by itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgekit.results.base import Result, derived
from edgekit.results.compare import Comparison
from edgekit.types import Verdict

TIME = "p50 ms"
"""The figure that the bench's rules judge."""


@dataclass(frozen=True, kw_only=True)
class HistoryRun:
    """A figure in one document.

    Attributes:
        document: path below the folder.
        date: of the document, UTC, ISO 8601.
        version: of edgekit, which wrote it.
        sha256: of the model file; empty where the document does not say.
        ci95: 95% interval of ``value``, of times.
        against_previous: of times, this run relative to the one before; null for the first.
    """

    document: str
    date: str
    version: str
    sha256: str
    value: float
    ci95: tuple[float, float] | None = None
    against_previous: Comparison | None = None

    @property
    def slower(self) -> bool:
        return self.against_previous is not None and self.against_previous.verdict is Verdict.SLOWER


@dataclass(frozen=True, kw_only=True)
class Course:
    """A figure of a model in one place and setting, the oldest run first.

    Attributes:
        figure: ``p50 ms``, ``bytes``, or the name of a metric.
        model: file name.
        runtime, device, cpu: where it was measured; empty for ``bytes``. Different CPUs are different courses.
        setting: threads, batch and scenario of a time, the data of a metric.
        change: the last value relative to the first.
        comparison: of times, the last run relative to the first.
    """

    figure: str
    model: str
    runtime: str = ""
    device: str = ""
    cpu: str = ""
    setting: str = ""
    runs: tuple[HistoryRun, ...]
    change: float | None = derived(
        lambda course: course.runs[-1].value / course.runs[0].value if course.runs[0].value else None
    )
    comparison: Comparison | None = None

    @property
    def regressed(self) -> bool:
        """Whether the last run is slower than the first, or a run slower than the one before it."""
        whole = self.comparison is not None and self.comparison.verdict is Verdict.SLOWER
        return whole or any(run.slower for run in self.runs)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file that is not part of the history, and why."""

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True, repr=False)
class HistoryResult(Result):
    """What ``edgekit report DIR`` found.

    Attributes:
        documents: how many saved results of edgekit there are.
        courses: those of one model stand together, times first.
        regressions: how many of the courses have a run that is slower than the one before, or than the first.
        left_out: files that are not saved results of this version.
        page: the page that was written, if one was wanted.
    """

    ROWS: ClassVar[str] = "courses"

    folder: Path
    documents: int
    courses: tuple[Course, ...]
    regressions: int = derived(lambda result: sum(course.regressed for course in result.courses))
    left_out: tuple[LeftOut, ...] = ()
    page: Path | None = None
