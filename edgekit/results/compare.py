"""A against B: one comparison, several, and what a gate says to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from edgekit.documents import typed
from edgekit.errors import EdgekitError, GateError, InconclusiveError
from edgekit.results.base import Result, derived, hidden, optional
from edgekit.results.checks import Check
from edgekit.types import Verdict

MARGIN = 0.03
"""Two files whose times differ by less than this share are the ``same`` for whoever has to choose."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Comparison(Result):
    """Time of ``a`` relative to ``b``: ratio 0.5 means half the time.

    Attributes:
        ratio_p50: null when the samples of one of the two do not support a p50.
        ci95: 95% interval of the ratio; null with fewer than two pairs of rounds.
        margin: share within which two times are the ``same``.
        smallest_detectable: share by which ``a`` would have to be slower to be called so four times in five.
        method: ``paired`` (one interleaved run), ``occasions`` (two runs) or ``invocations`` (of a tool).
        device, threads: what the two have in common.
        runtimes: of the two.
        reason: why there is no verdict.
    """

    a: str
    b: str
    ratio_p50: float | None
    ci95: tuple[float, float] | None = None
    verdict: Verdict
    margin: float = MARGIN
    smallest_detectable: float | None = None
    method: str
    device: str | None = optional()
    threads: int | None = optional()
    runtimes: tuple[str | None, ...] | None = optional()
    reason: str = optional("")

    @property
    def ratio(self) -> float | None:
        return self.ratio_p50

    @property
    def low(self) -> float | None:
        return None if self.ci95 is None else self.ci95[0]

    @property
    def high(self) -> float | None:
        return None if self.ci95 is None else self.ci95[1]

    def __str__(self) -> str:
        if self.ratio is None or self.ci95 is None:
            return f"{self.a} against {self.b}: {self.reason}"
        return f"{self.a} against {self.b}: ratio {self.ratio:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Gate:
    """What ``--fail-slower`` (per cent) came to: ``passed``, ``slower`` or ``inconclusive``."""

    fail_slower: float
    outcome: str


def overall(verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict for several: any ``slower`` wins, then ``inconclusive``, then ``faster``; else ``same``."""
    for verdict in (Verdict.SLOWER, Verdict.INCONCLUSIVE, Verdict.FASTER):
        if verdict in verdicts:
            return verdict
    return Verdict.SAME


def gate_slower(comparison: Comparison, percent: float) -> Verdict:
    """``slower`` if even the lower end of the interval is beyond ``percent``, ``same`` (passed) if the upper end is
    not, else ``inconclusive``: the noise does not allow to say on which side of the limit the time lies."""
    limit = 1 + percent / 100
    if comparison.low is None or comparison.high is None:
        return Verdict.INCONCLUSIVE
    if comparison.low > limit:
        return Verdict.SLOWER
    return Verdict.SAME if comparison.high <= limit else Verdict.INCONCLUSIVE


def gate_error(comparisons: Sequence[Comparison], percent: float | None) -> EdgekitError | None:
    """What ``--fail-slower`` ends with: GateError if one is slower beyond it, else InconclusiveError, else None."""
    if percent is None:
        return None
    outcomes = [(str(one), gate_slower(one, percent)) for one in comparisons]
    slower = [text for text, verdict in outcomes if verdict is Verdict.SLOWER]
    if slower:
        return GateError(f"slower by more than {percent:g}%: {'; '.join(slower)}")
    open_ones = [text for text, verdict in outcomes if verdict is Verdict.INCONCLUSIVE]
    if open_ones:
        return InconclusiveError(
            f"the noise is too large to say whether it is slower by {percent:g}%: {'; '.join(open_ones)}; "
            "give more --seconds, or a quieter machine"
        )
    return None


def checks_of(comparisons: Sequence[Comparison], percent: float | None) -> list[Check]:
    """Each comparison as the gate judges it; without one none can fail."""
    failures = [gate_error([one], percent) for one in comparisons]
    return [
        Check(f"time of {one.a} against {one.b}", "" if failure is None else str(failure))
        for one, failure in zip(comparisons, failures, strict=True)
    ]


def gate_of(comparisons: Sequence[Comparison], percent: float | None) -> Gate | None:
    """The gate as it stands in a document; None without one."""
    if percent is None:
        return None
    verdict = overall([gate_slower(one, percent) for one in comparisons])
    return Gate(percent, "passed" if verdict is Verdict.SAME else verdict.value)


@dataclass(frozen=True, kw_only=True, repr=False)
class CompareResult(Result):
    """Comparisons of all pairs found in both files.

    Attributes:
        verdict: one for all of them.
        unmatched: settings that only one of the files has.
        gate: with ``--fail-slower`` only.
    """

    ROWS: ClassVar[str] = "comparisons"

    comparisons: tuple[Comparison, ...]
    verdict: Verdict = derived(lambda result: overall([one.verdict for one in result.comparisons]))
    unmatched: tuple[str, ...] = ()
    gate: Gate | None = derived(lambda result: gate_of(result.comparisons, result.fail_slower), optional=True)
    fail_slower: float | None = hidden(None, read=lambda table, where: _fail_slower(table, where))

    def checks(self) -> tuple[Check, ...]:
        return tuple(checks_of(self.comparisons, self.fail_slower))

    def failure(self) -> EdgekitError | None:
        """The error that ``fail_slower`` calls for, or None when it lets the result pass."""
        return gate_error(self.comparisons, self.fail_slower)


def _fail_slower(table: Mapping[str, Any], where: str) -> float | None:
    return typed(Gate, table["gate"], f"{where}.gate").fail_slower if "gate" in table else None
