"""What ``bench`` finds: an entry a cell, each with what was measured beside its times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from edgekit.results.base import Result, beside, optional
from edgekit.results.compare import Comparison, Gate
from edgekit.results.compressed import Coverage, Device, Parent
from edgekit.results.loaded import Arena, Budget, Delegation
from edgekit.results.measures import Failure, Tool, Transfer
from edgekit.types import Verdict


@dataclass(frozen=True, kw_only=True)
class LatencyFigures:
    """Milliseconds; null where the samples do not support a figure.

    Attributes:
        ci95_p50: where the p50 of this file on this machine lies the next time.
        ci95_p50_run: how well this run alone settles it.
    """

    p50: float | None = None
    p90: float | None = None
    p99: float | None = None
    p99_9: float | None = None
    mean: float | None = None
    min: float | None = None
    max: float | None = None
    std: float | None = None
    ci95_p50: tuple[float, float] | None = None
    ci95_p50_run: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Need:
    """Samples that a percentile needs in all, and about how many seconds they take."""

    samples: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ColdStart:
    """Milliseconds: loading the file in its worker, and the first inference after that."""

    load: float | None = None
    first: float | None = None


@dataclass(frozen=True, slots=True)
class Noise:
    """How steady the machine was.

    Attributes:
        cv: standard deviation over mean of all samples.
        cv_blocks: the same of the block medians, which single outliers do not move.
        drift: median of the last third of the block medians over that of the first third, minus one.
        interrupted: share of the time that went into calls of more than three times the p50.
        disturbed: share of the blocks in which the reference workload was slow and which could not be saved.
        verdict: ``noisy`` if one of the last four is above its limit, else ``stable``.
    """

    cv: float | None = None
    cv_blocks: float | None = None
    drift: float | None = None
    interrupted: float | None = None
    disturbed: float | None = None
    verdict: str | None = None


@dataclass(frozen=True, slots=True)
class DelegateShare:
    """Who ran how many of the operators, and the part of the time by ``--profile``."""

    by: str
    nodes: int
    share_nodes: float
    share_time: float | None = None


@dataclass(frozen=True)
class DelegationReport(Delegation):
    """With one row for each who ran operators."""

    shares: tuple[DelegateShare, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """The replay of the card's vectors on the device."""

    passed: bool
    max_abs: float
    tolerance: float
    precision: str | None = optional()


@dataclass(frozen=True, slots=True)
class Warmup:
    """Calls before the first block."""

    runs: int
    ms: float | None


@dataclass(frozen=True, kw_only=True)
class CompressedCoverage(Coverage):
    """``left_float``: how many operators or kinds of operators run in float."""

    left_float: int = 0


@dataclass(frozen=True, kw_only=True)
class Compressed:
    """What the card of a compressed file says of it."""

    account: CompressedCoverage
    parent: Parent | None


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One cell: a file, how and where it ran, and what was found.

    Attributes:
        latency_ms: null where nothing was timed.
        needs: percentile that is null -> what it needs.
        peak_memory_bytes, load_memory_bytes: resident memory of the worker at its highest, over the whole run and until
            the file was loaded, interpreter and libraries included. On a microcontroller the first is the arena.
        arena_bytes: what the runtime set aside for activations.
        arena: what a microcontroller computes in; budget: what it has, and what of the file is too large for it.
        workers: processes that took turns.
        blocks: samples of each block, in the order they were taken; ``block_workers``: who took each.
        disturbed_blocks: places of the blocks in which the machine was disturbed.
        samples_ns: all samples, in nanoseconds.
        extras: what was measured beside the times, by the name of the extra, or how it failed (:mod:`edgekit.extras`).
        error: what ended the cell.
    """

    model: str
    sha256: str = ""
    format: str = ""
    bytes: int = 0
    runtime: str | None
    runtime_version: str | None = None
    device: Device
    threads: int
    batch: int
    scenario: str
    samples: int = 0
    latency_ms: LatencyFigures | None = None
    needs: Mapping[str, Need] = field(default_factory=dict)
    cold_start_ms: ColdStart = field(default_factory=ColdStart)
    peak_memory_bytes: int | None = None
    load_memory_bytes: int | None = None
    arena_bytes: int | None = None
    arena: Arena | None = optional()
    budget: Budget | None = optional()
    throughput_per_s: float | None = None
    noise: Noise | None = None
    delegation: DelegationReport | None = None
    selftest: Replayed | None = None
    warmup: Warmup | None = None
    workers: int = 1
    blocks: tuple[int, ...] | None = None
    block_workers: tuple[str, ...] | None = None
    disturbed_blocks: tuple[int, ...] = ()
    samples_ns: tuple[int, ...] | None = None
    transfer: Transfer | None = optional()
    compressed: Compressed | None = optional()
    extras: Mapping[str, Any] = beside()
    error: Failure | None = optional()
    tool: Tool | None = optional()

    @property
    def noisy(self) -> bool:
        """Whether the result says of itself that the machine was noisy."""
        return self.noise is not None and self.noise.verdict == "noisy"

    @property
    def p50_ms(self) -> float | None:
        return None if self.latency_ms is None else self.latency_ms.p50


@dataclass(frozen=True, slots=True)
class Nothing:
    """An empty table: nothing is known."""


@dataclass(frozen=True, kw_only=True)
class ReferenceFigures:
    """The reference workload between blocks: how often it was slow, what was waited and repeated for that."""

    readings: int = 0
    quiet_ms: float | None
    slow: int
    limit: float | None = None
    paused_ms: float = 0.0
    repeated_blocks: int
    lost: str | None = optional()


@dataclass(frozen=True, kw_only=True)
class Busy:
    """A process of somebody else, and the share of a core it used."""

    name: str
    pid: int
    cores: float


@dataclass(frozen=True, kw_only=True)
class Others:
    """Who else used the processor: shares of one core, or ``unknown``. ``steal``: what the host gave to others."""

    seconds: float
    cores: float | str
    busiest: tuple[Busy, ...] | str
    steal: float | str


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How the cells of one machine were timed.

    Attributes:
        order: for each round, the cells in the order they ran, by their places in the whole run.
        noise_floor: the run-to-run variance that intervals are widened by.
        parent_cores: share of a core that this process took meanwhile.
        kept_blocks: blocks that an interrupted run had taken before.
    """

    rounds: int | None = optional()
    block_ms: float | None = optional()
    order: tuple[tuple[int, ...], ...] | None = optional()
    plan: Mapping[str, Any] | None = optional()
    noise_floor: Mapping[str, Any] | None = optional()
    thermometer: ReferenceFigures | Nothing | None = optional()
    others: Others | Nothing | None = optional()
    parent_cores: float | None = optional()
    kept_blocks: int | None = optional()


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One of several machines. ``cells``: places of its cells in the whole run."""

    devices: tuple[str, ...]
    cells: tuple[int, ...] = ()
    timing: Timing = beside(Timing)


@dataclass(frozen=True, kw_only=True)
class Lease:
    """A machine that was held for this run: threads of others on its ``cores`` before and after, and whether the lease
    was kept all the time."""

    device: str
    owner: str
    waited_s: float
    cores: int | str
    busy_before: int | str | None
    busy_after: int | str | None = None
    kept: bool = False
    lost: str | None = optional()


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How all was timed: of one machine as it is, of several under ``machines``.

    Attributes:
        clock_cost_ns: of one reading of the clock.
        options: with which the bench can be run again.
    """

    seconds: float = 0.0
    clock_cost_ns: int = 0
    margin: float | None = None
    options: Mapping[str, Any] | None = None
    leases: tuple[Lease, ...] = ()
    machines: tuple[Machine, ...] | None = optional()
    timing: Timing = beside(Timing)


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """One thread count: how much faster than the fewest, and that over what the threads would allow."""

    threads: int
    p50_ms: float | None
    speedup: float | None = 1.0
    ci95: tuple[float, float] | None = None
    efficiency: float | None = 1.0


@dataclass(frozen=True, kw_only=True)
class ThreadCurve:
    """A file with several thread counts; ``best``: the one with the least p50."""

    model: str
    runtime: str | None
    device: str
    points: tuple[CurvePoint, ...]
    best: int | None


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """The comparison with a saved result; see :class:`~edgekit.results.compare.CompareResult`."""

    path: str
    comparisons: tuple[Comparison, ...] = ()
    verdict: Verdict | None = None
    unmatched: tuple[str, ...] = ()
    gate: Gate | None = optional()


@dataclass(frozen=True, kw_only=True, repr=False)
class BenchRecord(Result):
    """All cells, and how they compare with the first of their group.

    Attributes:
        parents: each compressed file against the file it was made from.
        thread_curves: with several thread counts.
        gate: with ``--fail-slower``.
        baseline: with ``--baseline`` or ``--replay``.
    """

    ROWS: ClassVar[str] = "results"

    results: tuple[Entry, ...]
    comparisons: tuple[Comparison, ...] = ()
    seed: int = 0
    protocol: Protocol = field(default_factory=Protocol)
    parents: tuple[Comparison, ...] | None = optional()
    thread_curves: tuple[ThreadCurve, ...] | None = optional()
    gate: Gate | None = optional()
    baseline: Baseline | None = optional()
