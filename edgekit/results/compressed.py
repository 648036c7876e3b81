"""What a compressed file says of itself and of the float file it was made from; its card keeps the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from edgekit.documents import typed
from edgekit.errors import ModelError
from edgekit.results.base import beside, hidden, optional, rounded, to_json
from edgekit.types import Evidence, Verdict

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What of a file is integer, in figures.

    Attributes:
        operators: operators that do work; conversions of the number format are not counted.
        integer_operators: those of them that compute on integers.
        hybrid_operators: those of the integer ones that take and give real values.
        weight_bytes_integer_share: share of the bytes of constant tensors that is held in integers, 0..1.
        integer_macs_share: share of the multiply-accumulates on integers, 0..1; null where a shape is not known.
        conversions: operators that only change the number format while the model runs.
    """

    operators: int
    integer_operators: int
    hybrid_operators: int = 0
    weight_bytes_integer_share: float = rounded(4)
    integer_macs_share: float | None = rounded(4, None)
    conversions: int = 0


@dataclass(frozen=True, slots=True)
class LeftFloat:
    """One operator that runs in float: its type, its name in the file, and why."""

    operator: str
    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class CoverageReport(Coverage):
    """The figures with what is behind them.

    Attributes:
        left_float: every operator that runs in float.
        plumbing: operators of the file that only change the number format or the layout, by type, also those that a
            runtime fuses away.
        macs: multiply-accumulates of a run; None where a shape is not known.
    """

    left_float: tuple[LeftFloat, ...] = ()
    plumbing: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False, metadata={"hidden": True})
    macs: int | None = hidden(None)

    @property
    def quantized(self) -> bool:
        """True when anything in the file is held or computed in integers."""
        return self.integer_operators > 0 or self.weight_bytes_integer_share > 0

    def inserted(self, parent: CoverageReport) -> dict[str, int]:
        """Operators of ``plumbing`` that this file has and its ``parent`` has not, by type."""
        more = {kind: count - parent.plumbing.get(kind, 0) for kind, count in self.plumbing.items()}
        return {kind: count for kind, count in more.items() if count > 0}

    def card_document(self) -> dict[str, Any]:
        """The coverage as a file carries it: what stayed in float by type and reason, with counts instead of names.

        A TFLite operator's name is the path of its module, hundreds of bytes; an encoder of 26,000 weights had 48 kB of
        them. ``inspect`` reads the names off the file itself.
        """
        counts = Counter((one.operator, one.reason) for one in self.left_float)
        left = [{"operator": kind, "count": count, "reason": reason} for (kind, reason), count in counts.items()]
        return {**to_json(self), "left_float": left}


@dataclass(frozen=True, kw_only=True)
class QualityChange:
    """A figure of merit of the parent and of the file, on the same samples.

    Attributes:
        drop: what was lost: of a share the difference, of an error the share by which it rose.
        drop_ci95: 95% interval of ``drop``; null with fewer than ten samples.
        interval: how the interval was found.
        total: number of samples.
    """

    metric: str
    before: float
    after: float
    drop: float
    drop_ci95: tuple[float, float] | None = None
    interval: str | None = None
    data: str = ""
    total: int = 0


@dataclass(frozen=True, kw_only=True)
class Device:
    """Where a cell ran. ``chip``: the accelerator. A device without workers has further properties of its own."""

    name: str
    kind: str = ""
    evidence: Evidence
    cpu: str | None
    cpu_id: str | None = None
    chip: str | None = optional()
    properties: Mapping[str, Any] = beside()


@dataclass(frozen=True, kw_only=True)
class TimeRatio:
    """The time of the file relative to its parent's, both timed in interleaved rounds.

    Attributes:
        ratio_p50: 0.5 is half the time; null where there is no time, with the ``reason``.
        ci95: 95% interval of the ratio.
        verdict: ``faster``, ``slower``, ``same`` or ``inconclusive``.
        device: where it was timed.
        seconds: time for each of the two.
    """

    ratio_p50: float | None
    ci95: tuple[float, float] | None = None
    verdict: Verdict
    smallest_detectable: float | None = optional()
    threads: int | None = optional()
    runtimes: tuple[str | None, ...] | None = optional()
    reason: str = optional("")
    device: Device
    seconds: float


@dataclass(frozen=True, kw_only=True)
class MatchRatio:
    """The time of the chosen file relative to the fastest float file's, as ``--scheme auto`` found it; see
    :class:`TimeRatio`."""

    ratio_p50: float | None
    ci95: tuple[float, float] | None = None
    verdict: Verdict
    device: Device
    threads: int

    reason = ""


@dataclass(frozen=True, kw_only=True)
class OutputFigures:
    """One output of the file beside its parent's.

    Attributes:
        snr_db: signal to noise in decibels; null for integers.
        cosine: mean over the samples; null for integers, or where one side is all zero.
        top1_agreement: share of the places where the largest channel is the parent's.
        worst_channel_db: the least ratio of a channel, and which one.
        channels: how many there are, 0 where the output has none.
        dead_channels: how many of them are constant where the parent's vary.
    """

    name: str
    snr_db: float | None = None
    cosine: float | None = None
    top1_agreement: float | None = None
    worst_channel_db: float | None = None
    worst_channel: int | None = None
    channels: int = 0
    dead_channels: int = 0


@dataclass(frozen=True, kw_only=True)
class FidelityGate:
    """What each output had to reach, in decibels; ``binding``: a file that misses it is not published."""

    min_snr_db: float
    min_channel_db: float
    passed: bool
    binding: bool


@dataclass(frozen=True, kw_only=True)
class FidelityFigures:
    """All outputs on samples that did not calibrate; ``data`` says which these were."""

    outputs: tuple[OutputFigures, ...]
    samples: int = 0
    data: str = ""
    gate: FidelityGate | None = optional()


@dataclass(frozen=True, kw_only=True)
class Parent:
    """The float file a file was made from, and how the two compare. Null: it was not measured.

    Attributes:
        inserted: conversions and transposes that the file has and its parent has not, by type.
    """

    sha256: str = ""
    bytes: int
    inserted: Mapping[str, int] = field(default_factory=dict)
    quality: QualityChange | None = None
    fidelity: FidelityFigures | None = None
    time: TimeRatio | MatchRatio | None = None


def of_card(kind: type[T], value: Any, where: str) -> T:
    """What a card keeps of a compressed file, as :class:`Parent` or :class:`Coverage`; ``where``: its field.

    Raises:
        ModelError: a card of another form.
    """
    try:
        return typed(kind, value, f"card.{where}")
    except ValueError as error:
        raise ModelError(f"the card inside the file is not valid: {error}") from error
