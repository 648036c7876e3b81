"""What invocations of a timing program found about one cell: the same document as that of a worker, without samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.bench.compare import Comparison, compare_centres
from edgekit.bench.replicas import between_occasions, replicated
from edgekit.bench.result import CellResult
from edgekit.bench.statistics import REPORTED, percentile_key
from edgekit.bench.tools import ToolRun

HOW = "median over the invocations of what the tool reports; it does not report its samples"


@dataclass(frozen=True)
class ToolResult(CellResult):
    """One cell that a tool timed. Every invocation is a process of its own, and one round.

    Attributes:
        runs: one an invocation, in the order they ran.
        tool: its name and the SHA-256 of its file.
    """

    runs: tuple[ToolRun, ...] = ()
    tool: Mapping[str, Any] | None = None

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
        return compare_centres(*names, self._medians(), first._medians(), self.floor)

    def document(self) -> dict[str, Any]:
        body = super().document()
        count = sum(run.count for run in self.runs)
        body |= {
            "samples": count,
            "cold_start_ms": {"load": self._median("load_ms"), "first": self._median("first_ms")},
            "workers": max(len(self.runs), 1),
            "tool": {**(self.tool or {}), "how": HOW, "invocations": [run.document() for run in self.runs]},
        }
        return body

    def throughput(self) -> float | None:
        mean = self._mean()
        return None if mean is None else 1000 * self.setting.batch / mean

    def latency(self) -> dict[str, Any]:
        """The body of ``latency_ms``; a percentile that one of the invocations does not give is None."""
        figures: dict[str, Any] = {percentile_key(p): self._percentile(percentile_key(p)) for p in REPORTED}
        return figures | {
            "mean": self._mean(),
            "min": self._over("min_ms", min),
            "max": self._over("max_ms", max),
            "std": self._median("std_ms"),
            "ci95_p50": self._interval() if figures["p50"] is not None else None,
            "ci95_p50_run": None,  # of the samples behind its figures a tool says nothing
        }

    def _needs(self, samples: object) -> dict[str, Any]:
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

    def _interval(self) -> list[float] | None:
        """Where the p50 lies the next time, as in :func:`edgekit.bench.statistics.interval_p50_ms`.

        Invocations are processes; what lies within one is not to be seen.
        """
        logs = np.log(self._medians())
        found = replicated(logs, range(logs.size), self.floor)
        half = float(np.sqrt(2) * np.hypot(found.half, between_occasions(self.floor)))
        if not np.isfinite(half):
            return None
        return [float(np.exp(found.centre - half)), float(np.exp(found.centre + half))]
