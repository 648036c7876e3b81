"""What ``bench`` finds of a cell beside its times; what its extras find stands with them (:mod:`edgekit.extras`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgekit.results.base import optional


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
