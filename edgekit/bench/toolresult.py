"""What invocations of a timing program found about one cell: the same document as that of a worker, without samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgekit.bench.compare import compare_centres
from edgekit.bench.replicas import between_sessions, replicated
from edgekit.bench.result import CellResult
from edgekit.bench.statistics import REPORTED, percentile_key
from edgekit.bench.variance import BUILT_IN
from edgekit.results.bench import ColdStart, Entry, LatencyFigures, Need
from edgekit.results.compare import Comparison
from edgekit.results.measures import Tool, ToolRun

HOW = "median over the invocations of what the tool reports; it does not report its samples"


@dataclass(frozen=True)
class ToolResult(CellResult):
    """One cell that a tool timed. Every invocation is a process of its own, and one round.

    Attributes:
        runs: one an invocation, in the order they ran.
        tool: its name, its file and the SHA-256 of that.
    """

    runs: tuple[ToolRun, ...] = ()
    tool: tuple[str, str, str] = ("", "", "")

    @property
    def timed(self) -> bool:
        return self.error is None and bool(self.runs)

    @property
    def noise(self) -> None:
        """The drift within a run is not to be seen."""
        return

    def compared_with(self, first: CellResult, names: tuple[str, str]) -> Comparison:
        if not isinstance(first, ToolResult):
            raise TypeError("what a tool timed is compared with what a tool timed")
        return compare_centres(*names, self._medians(), first._medians())

    def entry(self) -> Entry:
        name, file, digest = self.tool
        return replace(
            super().entry(),
            samples=sum(run.count for run in self.runs),
            cold_start_ms=ColdStart(self._median("load_ms"), self._median("first_ms")),
            workers=max(len(self.runs), 1),
            tool=Tool(name=name, file=file, sha256=digest, how=HOW, invocations=self.runs),
        )

    def throughput(self) -> float | None:
        mean = self._mean()
        return None if mean is None else 1000 * self.setting.batch / mean

    def latency(self) -> LatencyFigures:
        """Milliseconds; a percentile that one of the invocations does not give is None. Of the samples behind its
        figures a tool says nothing, so that there is no ``ci95_p50_run``."""
        p50, p90, p99, p99_9 = (self._percentile(percentile_key(percent)) for percent in REPORTED)
        return LatencyFigures(
            p50=p50,
            p90=p90,
            p99=p99,
            p99_9=p99_9,
            mean=self._mean(),
            min=self._over("min_ms", min),
            max=self._over("max_ms", max),
            std=self._median("std_ms"),
            ci95_p50=None if p50 is None else self._interval(),
        )

    def _needs(self, samples: object) -> dict[str, Need]:
        return {}

    def _medians(self) -> NDArray[np.float64]:
        """The p50 of every invocation in milliseconds, NaN where the tool gives none."""
        return np.array([run.percentiles.get("p50", np.nan) for run in self.runs], np.float64)

    def _percentile(self, key: str) -> float | None:
        found = [run.percentiles.get(key) for run in self.runs]
        given = [value for value in found if value is not None]
        return float(np.median(given)) if given and len(given) == len(found) else None

    def _median(self, key: str) -> float | None:
        return self._over(key, lambda values: float(np.median(values)))

    def _over(self, key: str, over: Callable[[Sequence[float]], float]) -> float | None:
        given = [value for run in self.runs if (value := getattr(run, key)) is not None]
        return over(given) if given else None

    def _mean(self) -> float | None:
        if not self.runs:
            return None
        return float(np.average([run.mean_ms for run in self.runs], weights=[run.count for run in self.runs]))

    def _interval(self) -> tuple[float, float] | None:
        """Where the p50 lies the next time, as in :func:`edgekit.bench.statistics.interval_p50_ms`.

        Invocations are processes; what lies within one is not to be seen.
        """
        logs = np.log(self._medians())
        found = replicated(logs, range(logs.size))
        half = float(np.sqrt(2) * np.hypot(found.half, between_sessions(BUILT_IN)))
        if not np.isfinite(half):
            return None
        return float(np.exp(found.centre - half)), float(np.exp(found.centre + half))
