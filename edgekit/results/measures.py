"""What ``bench`` measures of a cell in passes of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgekit.results.base import named, optional
from edgekit.types import Evidence, Verdict


@dataclass(frozen=True, slots=True)
class Failure:
    """The class of an error and what it says."""

    type: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """A pass that failed."""

    error: Failure


@dataclass(frozen=True, slots=True)
class Absent:
    """Something that is not there, and why."""

    absent: str


@dataclass(frozen=True, kw_only=True)
class CopyTimes:
    """Medians in milliseconds; ``device``: of the run by the accelerator's own clock."""

    copy_in: float | None = None
    run: float | None = None
    copy_out: float | None = None
    device: float | None = None


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """What lies beside the timed run of an accelerator."""

    p50_ms: CopyTimes
    bytes_in: int
    bytes_out: int


@dataclass(frozen=True, kw_only=True)
class Load:
    """What became of the queries of a ``server`` or a ``fixed-rate``.

    Attributes:
        given_up: queries that were never served.
        utilisation: share of the time in which the model worked.
        highest_rate_per_s: at which p99 stays within the bound.
        capacity_per_s: queries a second without a pause.
    """

    rate_per_s: float
    queries: int
    given_up: int
    longest_line: int
    utilisation: float
    service_ms: Mapping[str, float]
    arrivals: str
    deadline_ms: float | None = optional()
    missed: int | None = optional()
    share_missed: float | None = optional()
    latency_bound_ms: float | None = optional()
    passed: bool | None = optional()
    highest_rate_per_s: float | None = optional()
    capacity_per_s: float | None = optional()
    trials: tuple[Mapping[str, Any], ...] | None = optional()


@dataclass(frozen=True, kw_only=True)
class Times:
    """All operators of one type, or of one who ran them: milliseconds a run, and the share of all operators."""

    type: str | None = optional()
    by: str | None = optional()
    nodes: int
    calls: float
    ms: float
    share: float


@dataclass(frozen=True, kw_only=True)
class LayerTimes:
    """All operators of one layer; the empty name is the outermost module, null is unknown."""

    layer: str | None
    nodes: int
    calls: float
    ms: float
    share: float


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Time per operator, in a pass of its own: shares are meant, not totals.

    Attributes:
        run_ms: a run under the profiler.
        total_ms: what the operators account for.
        bare_ms: a run without the profiler.
        reason: why another way was taken than the runtime's own profiler.
    """

    tool: str
    runs: int
    run_ms: float
    total_ms: float
    unattributed_ms: float
    resolution_us: float
    types: tuple[Times, ...]
    layers: tuple[LayerTimes, ...]
    by: tuple[Times, ...]
    nodes: tuple[Mapping[str, Any], ...]
    bare_ms: float | None = optional()
    reason: str | None = optional()


@dataclass(frozen=True, kw_only=True)
class Window:
    """A part of a long run."""

    at_s: float
    runs: int
    p50_ms: float
    p90_ms: float | None
    p99_ms: float | None
    max_ms: float
    temperature_c: float | str
    frequency_mhz: float | str
    busy: int | str


@dataclass(frozen=True, slots=True)
class Change:
    """Where the medians change: from ``at_s`` on they are ``ratio`` times as large; ``p``: by chance."""

    at_s: float
    ratio: float
    p: float


@dataclass(frozen=True, kw_only=True)
class Sustain:
    """One model without a pause. ``throttled_at_s``: when it became slower; null with the ``reason``."""

    seconds: float
    window_s: float
    windows: tuple[Window, ...]
    first_ms: float
    last_ms: float
    throttled_at_s: float | None
    change: Change | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Uncounted:
    """Operators whose work is not known."""

    type: str
    calls: int


@dataclass(frozen=True, kw_only=True)
class Work:
    """Multiply-accumulates and bytes moved of one inference.

    Attributes:
        narrow_macs: those on numbers of less than 32 bits, which the measured peak of float32 does not bound.
    """

    macs: int
    bytes: int
    narrow_macs: int = 0
    types: tuple[Mapping[str, Any], ...] = ()
    uncounted: tuple[Uncounted, ...] = ()


@dataclass(frozen=True, slots=True)
class Peaks:
    """What the machine was measured to do."""

    flops_per_s: float
    bytes_per_s: float
    memory_bytes_per_s: float


@dataclass(frozen=True, kw_only=True)
class Roofline(Work):
    """What a model computes and moves, and how near it comes to what the machine can do.

    Attributes:
        intensity: operations a byte.
        roof_flops_per_s: the lower of the two roofs there; ``bound``: which one that is. Of a model that computes in
            less than 32 bits only the roof of the memory is known.
        share_of_roof, share_of_compute_peak: what the model reaches of it; null where it is not known.
    """

    peaks: Peaks
    flops: float
    intensity: float
    attained_flops_per_s: float
    roof_flops_per_s: float
    bound: str
    share_of_roof: float | None
    share_of_compute_peak: float | None


@dataclass(frozen=True, kw_only=True)
class Start:
    """A start in its parts: medians in milliseconds. ``resident_share``: of the file, left in the page cache."""

    process: float
    imports: float = named("import")
    load: float
    first: float
    total: float
    starts: int
    resident_share: float | None = optional()


@dataclass(frozen=True, kw_only=True)
class Cold:
    """The three ways of starting: file out of the page cache, in it, and compiled before."""

    first_process: Start
    warm_disk: Start
    compiled_cache: Start | Absent


@dataclass(frozen=True, kw_only=True)
class MemoryFit:
    """The smallest memory limit under which the model loads and runs. ``counts``: what the limit counts."""

    limit_bytes: int
    kind: str
    counts: str
    evidence: Evidence
    resolution_bytes: int
    unlimited_bytes: int
    probes: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage from a raw sample to an answer."""

    stage: str
    p50_ms: float


@dataclass(frozen=True, kw_only=True)
class Percentiles:
    """Milliseconds."""

    p50: float | None
    p90: float | None
    p99: float | None


@dataclass(frozen=True, kw_only=True)
class EndToEnd:
    """From a raw sample to an answer."""

    runs: int
    stages: tuple[Stage, ...]
    total_ms: Percentiles


@dataclass(frozen=True, kw_only=True)
class Meter:
    """One meter of energy."""

    name: str
    source: str
    joules: float
    watts: float
    joules_per_run: float
    idle_watts: float
    joules_per_run_beyond_idle: float


@dataclass(frozen=True, kw_only=True)
class Energy:
    """Joules by every meter there is; ``refused``: meters that cannot be read."""

    runs: int
    seconds: float
    meters: tuple[Meter, ...]
    refused: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ProbeRatio:
    """One time relative to another; see :class:`~edgekit.results.compare.Comparison`."""

    ratio_p50: float | None
    ci95: tuple[float, float] | None
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class Denormals:
    """Denormal weights, and the time relative to that with flush-to-zero, or why there is none."""

    weights: int
    denormal: int
    absent: str | None = optional()
    ratio: ProbeRatio | None = optional()


@dataclass(frozen=True, kw_only=True)
class RealInput:
    """The time on the real input relative to that on seeded values."""

    ratio: ProbeRatio


@dataclass(frozen=True, slots=True)
class Reset:
    """What putting the state back costs."""

    p50_ms: float
    samples: int


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Factors that distort latency."""

    denormals: Denormals
    input: RealInput | Absent
    reset: Reset


@dataclass(frozen=True, kw_only=True)
class Instructions:
    """ARM instructions of an inference, counted in emulation. ``counts``: what is in the count."""

    per_run: int
    runs: tuple[int, ...]
    counted: tuple[int, ...]
    counts: str
    evidence: Evidence


@dataclass(frozen=True, kw_only=True)
class ToolRun:
    """What one invocation of a tool said. Milliseconds and bytes; None: it does not say.

    Attributes:
        percentiles: by name (``p50``), those that the number of runs supports.
        told: everything it said of the timed runs, as it said it.
        nodes, delegated, by: operators of the model, those a delegate took, and its name.
        memory_bytes: largest resident memory, of a run that was asked for it.
    """

    count: int
    mean_ms: float
    min_ms: float | None = optional()
    max_ms: float | None = optional()
    std_ms: float | None = optional()
    load_ms: float | None = optional()
    first_ms: float | None = optional()
    percentiles: Mapping[str, float] = field(default_factory=dict)
    told: Mapping[str, float] = field(default_factory=dict)
    nodes: int | None = optional()
    delegated: int | None = optional()
    by: str | None = optional()
    memory_bytes: int | None = optional()


@dataclass(frozen=True, kw_only=True)
class Tool:
    """The program that timed a cell. ``how``: its figures come from those of its invocations."""

    name: str
    file: str
    sha256: str
    how: str
    invocations: tuple[ToolRun, ...]
