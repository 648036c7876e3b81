"""What ``optimize`` gives: every trial of a study, the front on each device, and the file that is recommended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from edgekit.errors import EdgekitError, GateError
from edgekit.results.base import Result, derived, rounded
from edgekit.types import Verdict


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a short look at one file on one device gave.

    Attributes:
        runtime, threads: where it was fastest among those in which it loses no more than is allowed.
        shortest_ms: of a few calls; ``ratio``: relative to the fastest float file's shortest call there.
        quality, drop: on the samples that trials are judged on.
        calls: runtime (``litert × 2 threads``) -> milliseconds of the shortest of a few calls, of all that run it.
    """

    device: str
    runtime: str
    threads: int
    shortest_ms: float
    ratio: float
    quality: float | None = None
    drop: float | None = None
    calls: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TrialRow:
    """One trial.

    Attributes:
        parameters: what was proposed: format, scheme, how much is removed, epochs.
        state: ``complete``, ``pruned`` (hopeless after the cheap evidence) or ``failed``.
        why: why it was pruned, or failed.
        seconds: to make and to judge it.
        evidence: short, on each device; the verdicts of :class:`FrontRow` do not stand on it.
    """

    number: int
    name: str
    parameters: Mapping[str, Any]
    state: str
    why: str = ""
    bytes: int | None = None
    sha256: str | None = None
    seconds: float | None = rounded(3, None)
    evidence: tuple[Evidence, ...] = ()
    on_front: bool = False


@dataclass(frozen=True, kw_only=True)
class FrontRow:
    """A published file on a device: nothing that was measured beside it is better in every respect.

    Attributes:
        path, recipe: absolute; the recipe makes the same file again, bit for bit.
        quality, drop: on the samples that no choice was made on; lost against the fastest float file.
        latency_ms, ratio_p50, ci95, verdict: from one interleaved run with its rivals, relative to ``against``.
        evidence: what kind of device gave the time.
        baseline: it is a float file as it was exported.
        limits: which of the limits it misses, in words; empty where it keeps all.
    """

    path: Path
    recipe: Path
    trial: int
    name: str
    format: str
    bytes: int
    sha256: str
    quality: float
    drop: float
    latency_ms: float
    ratio_p50: float | None
    ci95: tuple[float, float] | None
    verdict: Verdict | None
    against: str
    peak_memory_bytes: int | None
    device: str
    evidence: str
    runtime: str
    threads: int
    baseline: bool = False
    limits: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, kw_only=True, repr=False)
class OptimizeResult(Result):
    """A study: its trials, what is on the front of quality, time, bytes and memory on each device, and what is
    recommended.

    Attributes:
        folder: of the study; the same command goes on there.
        metric: the figure of merit, or likeness to the float file where nobody says what is right.
        judged_on, reported_on: the samples of the choice, and those of the front's figures.
        sampler: what proposed the trials.
    """

    ROWS: ClassVar[str] = "front"

    folder: Path
    source: str
    data: str
    metric: str
    judged_on: str
    reported_on: str
    sampler: str
    seed: int
    seconds: float = rounded(3)
    trials: tuple[TrialRow, ...]
    front: tuple[FrontRow, ...]
    recommended: FrontRow | None
    hypervolume: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    passed: bool = derived(lambda result: result.recommended is not None)

    def failure(self) -> EdgekitError | None:
        """What the program ends with: no file keeps the limits."""
        if self.recommended is not None:
            return None
        missed = "; ".join(dict.fromkeys(limit for row in self.front for limit in row.limits))
        return GateError(
            f"no file keeps every limit ({missed}); nothing is published. Allow more, or go on with more --trials: the "
            f"{len(self.trials)} there are kept in {self.folder}"
        )
