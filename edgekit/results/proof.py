"""What ``verify`` and ``export`` prove: a file's outputs against a reference, case by case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from edgekit.documents import typed
from edgekit.errors import ParityError
from edgekit.results.base import PublishedFile, Result, derived, hidden, optional, rounded
from edgekit.results.checks import Check
from edgekit.types import Artifact, Signature

SELF_TEST = "self-test"
"""Kind of the case that replays the vectors of the card."""


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One case of the parity report.

    Attributes:
        kind: of :class:`~edgekit.quality.cases.Case`.
        max_abs: largest absolute difference of any value of any output; null when shapes or finiteness fail.
        limit: largest that passes here.
        cosine: smallest cosine similarity over the outputs; null where an output is all zero or not finite.
        output: the output with the largest share of its limit.
        reason: why it failed, in words; empty when it passed.
        reference_failed: the reference itself gave NaN or infinity: nothing can be proved on this input.
        rounding: the reference's own rounding error here, where the limit was taken from it.
    """

    kind: str
    max_abs: float | None
    limit: float = field(metadata={"key": "tolerance"})
    cosine: float | None
    output: str
    passed: bool
    reason: str = optional("")
    reference_failed: bool = hidden(False)
    rounding: float | None = hidden(None)


def _largest(cases: tuple[CaseResult, ...]) -> float | None:
    found = [case.max_abs for case in cases]
    return None if None in found or not found else max(value for value in found if value is not None)


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """All cases of one proof.

    Attributes:
        max_abs: largest difference of all cases; null when one could not be measured.
        tolerance: the largest absolute difference that was allowed in any case.
        scale: largest magnitude of each output of the reference on typical inputs.
    """

    passed: bool = derived(lambda ledger: bool(ledger.cases) and all(case.passed for case in ledger.cases))
    max_abs: float | None = derived(lambda ledger: _largest(ledger.cases))
    tolerance: float = derived(lambda ledger: max((case.limit for case in ledger.cases), default=0.0))
    cases: tuple[CaseResult, ...]
    scale: Mapping[str, float] = hidden(read=lambda table, where: {})
    first_divergence: str | None = hidden(None)

    @property
    def notes(self) -> tuple[str, ...]:
        """One line for every case whose limit is the reference's own rounding."""
        return tuple(
            f"case {case.kind!r}: float32 itself rounds by {case.rounding:.1e} there (against float64), so "
            f"{case.limit:.1e} was allowed"
            for case in self.cases
            if case.rounding is not None
        )

    @property
    def first_failure(self) -> CaseResult | None:
        return next((case for case in self.cases if not case.passed), None)


@dataclass(frozen=True, kw_only=True, repr=False)
class VerifyResult(Result):
    """What ``edgekit verify`` found.

    Attributes:
        first_divergence: the first layer to differ, where it was found.
        selftest: the replay of the card's vectors, the last of ``cases``; None where it has none.
    """

    ROWS: ClassVar[str] = "cases"

    model: Path
    sha256: str
    against: str
    runtime: str
    device: str
    passed: bool = derived(lambda result: result.ledger.passed and all(case.passed for case in result.cases))
    max_abs: float | None = derived(lambda result: result.ledger.max_abs)
    tolerance: float = derived(lambda result: result.ledger.tolerance)
    cases: tuple[CaseResult, ...] = derived(
        lambda result: (*result.ledger.cases, *([] if result.selftest is None else [result.selftest]))
    )
    first_divergence: str | None = derived(lambda result: result.ledger.first_divergence)
    notes: tuple[str, ...]
    ledger: Ledger = hidden(read=lambda table, where: _divided(table, where)[0])
    selftest: CaseResult | None = hidden(None, read=lambda table, where: _divided(table, where)[1])

    @property
    def reason(self) -> str:
        """Why it failed, in one sentence; empty when it passed."""
        bad = self.ledger.first_failure
        if bad is not None:
            failed = sum(not case.passed for case in self.ledger.cases)
            layer = self.first_divergence or "not found"
            return (
                f"{self.model} does not compute what {self.against} does: {bad.reason} on the case {bad.kind!r} ("
                f"{failed} of {len(self.ledger.cases)} cases failed); first layer to differ: {layer}"
            )
        if self.selftest is not None and not self.selftest.passed:
            return f"{self.model} does not give the outputs its own card promises: {self.selftest.reason}"
        return ""

    def checks(self) -> tuple[Check, ...]:
        return tuple(
            Check(f"case {number}: {case.kind}", "" if case.passed else case.reason or "differs")
            for number, case in enumerate(self.cases, 1)
        )

    def failure(self) -> ParityError | None:
        """What the command ends with where the comparison failed."""
        return None if self.passed else ParityError(self.reason)


def _divided(table: Mapping[str, Any], where: str) -> tuple[Ledger, CaseResult | None]:
    """The comparison and the self-test of a document, which has the cases of both in one list."""
    whole = typed(Ledger, table, where)
    compared = replace(whole, cases=tuple(case for case in whole.cases if case.kind != SELF_TEST))
    return compared, next((case for case in whole.cases if case.kind == SELF_TEST), None)


@dataclass(frozen=True)
class ExportedArtifact(PublishedFile):
    """One published file and its proof. ``seconds``: conversion and proof, which overlap between formats."""

    seconds: float = rounded(3, 0.0)
    parity: Ledger = field(default_factory=lambda: Ledger(cases=(), scale={}))
    notes: tuple[str, ...] = ()

    @property
    def artifact(self) -> Artifact:
        return self


@dataclass(frozen=True, kw_only=True, repr=False)
class ExportResult(Result):
    """What ``edgekit export`` published.

    Attributes:
        weights: ``trained``, ``pretrained``, ``partly random`` or ``random``; null where the source does not say.
    """

    ROWS: ClassVar[str] = "artifacts"

    source: str
    network: str
    weights: str | None = None
    artifacts: tuple[ExportedArtifact, ...]
    signature: Signature = hidden(Signature((), ()))
