"""What ``quantize`` makes: a file, how it compares with its parent, and what ``--scheme auto`` tried."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgekit.documents import typed
from edgekit.results.base import PublishedFile, Result, derived, hidden, optional
from edgekit.results.compressed import (
    CoverageReport,
    Device,
    FidelityFigures,
    MatchRatio,
    Parent,
    QualityChange,
    TimeRatio,
)
from edgekit.results.eval import Evaluation
from edgekit.results.loaded import Arena
from edgekit.types import Format, Step, Verdict

PLAN_SCHEMA = "edgekit.mixed-plan/2"


@dataclass(frozen=True, slots=True)
class LengthError:
    """Error of a quantized file at one length, or at one step of a fixed length.

    Attributes:
        steps: the length, or the step, counted from 1.
        max_abs: largest difference of an output from the float file's.
        relative: the same, of the largest output of the float file there.
    """

    steps: int
    max_abs: float
    relative: float


@dataclass(frozen=True, slots=True)
class KernelTimes:
    """The times of an operator in nanoseconds, null where none was taken, and the side it runs on.

    Attributes:
        operator: its name; ``kind``: its type.
        kept: ``integer`` or ``float``.
    """

    operator: str
    kind: str
    integer_ns: int | None
    float_ns: int | None
    kept: str


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What is left of the outputs with one operator quantized and all others in float.

    Attributes:
        name, operator: its name and type.
        snr_db: signal to noise of the worst output, in decibels; null where no output is real.
        dead_channels: channels of the outputs that are constant then.
        ruinous: these outputs miss the scheme's own floor already.
    """

    name: str
    operator: str
    snr_db: float | None
    dead_channels: int = 0
    ruinous: bool = False

    @property
    def rank(self) -> tuple[bool, int, float]:
        """Larger is worse: what ruins a channel comes before what only adds noise."""
        return self.ruinous, self.dead_channels, -(self.snr_db if self.snr_db is not None else 0.0)

    def __str__(self) -> str:
        left = "" if self.snr_db is None else f" leaves {self.snr_db:.1f} dB"
        dead = f", {self.dead_channels} dead channels" if self.dead_channels else ""
        return f"{self.name} ({self.operator}) alone{left}{dead}"


@dataclass(frozen=True, kw_only=True, repr=False)
class MixedPlan(Result):
    """Which operators stay in float, and why.

    Attributes:
        layers: what each operator costs by itself, worst first.
        keep: names of those that stay.
        by_itself: nobody asked for it, the quantizer found that they ruin the outputs.
    """

    schema: str = derived(lambda _: PLAN_SCHEMA)
    scheme: str
    model_sha256: str
    data: str = ""
    samples: int = 0
    layers: tuple[Sensitivity, ...] = ()
    keep: tuple[str, ...] = ()
    max_drop: float | None = None
    drop: float | None = None
    by_itself: bool = False


@dataclass(frozen=True, slots=True)
class LeftReason:
    """An operator that would stay in float."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True, repr=False)
class QuantizePlan(Result):
    """What ``edgekit quantize --dry-run`` would do."""

    dry_run: bool = derived(lambda _: True)
    model: Path
    step: Step
    kernels: tuple[KernelTimes, ...]
    left_float: tuple[LeftReason, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ParentFile:
    """The float file that was quantized."""

    path: Path
    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class MicroProof:
    """How a file for microcontrollers ran on TensorFlow Lite for Microcontrollers.

    Attributes:
        unplanned_bytes: its arena without the plan of memory that the file holds; that of ``arena`` where it holds
            none, since the interpreter's own is as good.
        max_steps: the largest difference of an output from LiteRT's reference kernels, in steps of its scale, over so
            many samples.
        litert_steps: the same of LiteRT's other kernels, XNNPACK's: what rounding makes of this network.
    """

    arena: Arena
    unplanned_bytes: int
    max_steps: float
    litert_steps: float
    samples: int

    def __str__(self) -> str:
        saved = self.unplanned_bytes - self.arena.bytes
        planned = f", {saved:,} less by the plan of memory that the file holds" if saved else ""
        return (
            f"TensorFlow Lite for Microcontrollers runs it in {self.arena}{planned}; on {self.samples} samples its "
            f"outputs are at most {self.max_steps:g} steps off LiteRT's reference kernels (XNNPACK's: "
            f"{self.litert_steps:g})"
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class QuantizeResult(Result):
    """What ``edgekit quantize`` made.

    Attributes:
        parent: the float file it is held against.
        inserted: conversions and transposes that the file has and its parent has not, by type.
        length_errors: of a recurrent network.
        account: what of the file is integer, what is not and why.
        micro: of a file for microcontrollers, how it ran there.
        against: the comparison with the parent, as the card keeps it.
        before, after: quality of the parent and of the file.
    """

    artifact: PublishedFile
    parent: ParentFile
    scheme: str = derived(lambda made: str(made.step.params.get("scheme", "")))
    step: Step
    quality: QualityChange | None = derived(lambda made: made.against.quality)
    time: TimeRatio | MatchRatio | None = derived(lambda made: made.against.time)
    inserted: Mapping[str, int] = derived(lambda made: made.against.inserted)
    fidelity: FidelityFigures | None = derived(lambda made: made.against.fidelity)
    length_errors: tuple[LengthError, ...] = ()
    account: CoverageReport
    mixed: MixedPlan | None = None
    micro: MicroProof | None = optional()
    kernels: tuple[KernelTimes, ...] = ()
    notes: tuple[str, ...] = ()
    against: Parent = hidden(read=lambda table, where: typed(Parent, {**dict(table["parent"]), **table}, where))
    before: Evaluation | None = hidden(None)
    after: Evaluation | None = hidden(None)

    @property
    def drop(self) -> float | None:
        """Quality lost (0.01 = one point of accuracy, or an error that rose by 1%); negative when quality rose."""
        return None if self.quality is None else self.quality.drop


@dataclass(frozen=True, kw_only=True)
class TrialQuality:
    """Quality of a candidate on the samples that the choice is made on; ``drop``: lost against the float file."""

    metric: str
    value: float
    drop: float | None
    data: str
    total: int


@dataclass(frozen=True, kw_only=True)
class TrialTime:
    """The time of a candidate.

    Attributes:
        stage: what it was measured in last: ``calls``, ``race`` or ``match``.
        shortest_ms: of a few calls.
    """

    stage: str
    shortest_ms: float | None
    p50_ms: float | None


@dataclass(frozen=True, kw_only=True)
class ComparedTime(TrialTime):
    """With the time relative to that of the float file ``against``."""

    ratio_p50: float | None
    ci95: tuple[float, float] | None
    verdict: Verdict
    against: str


@dataclass(frozen=True, kw_only=True)
class TrialRow:
    """A candidate's file on one way to run it. ``why``: why it was not chosen, or was."""

    name: str
    format: Format
    scheme: str
    calibration: str | None
    runtime: str | None
    device: str | None
    threads: int | None
    bytes: int | None
    sha256: str | None
    quality: TrialQuality | None
    time: ComparedTime | TrialTime | None
    chosen: bool
    why: str


@dataclass(frozen=True, kw_only=True, repr=False)
class AutoResult(QuantizeResult):
    """The published file, held against the fastest float file, which is its ``parent`` whatever its format.

    Attributes:
        best_float: name of the trial that all others were compared with.
        device: what timed them.
        trials: every candidate on every way to run it, in the order they were made.
        delivered: to be called when the result has been handed over: what was kept for an interruption goes.
    """

    ROWS: ClassVar[str] = "trials"

    scheme: str = derived(lambda _: "auto")
    chosen: TrialRow = derived(lambda result: next(trial for trial in result.trials if trial.chosen))
    best_float: str = ""
    device: Device
    trials: tuple[TrialRow, ...] = ()
    delivered: Callable[[], None] = hidden(lambda: None)

    def __post_init__(self) -> None:
        """Raises ValueError where no trial was chosen."""
        if not any(trial.chosen for trial in self.trials):
            raise ValueError("no trial is the chosen one")
