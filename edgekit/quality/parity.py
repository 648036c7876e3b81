"""The parity ledger: a model's outputs against a reference, case by case. Nothing that is not finite ever passes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgekit.errors import ParityError
from edgekit.progress import track
from edgekit.quality.cases import Case
from edgekit.results.proof import CaseResult, Ledger
from edgekit.types import Array, Feed

Function = Callable[[Feed], Mapping[str, Array]]

RELATIVE = 1e-4
"""Default tolerance, relative to an output's scale. Two float32 kernels that sum k products in different orders differ
by about eps * sqrt(k) of the sum (eps = 6e-8; Higham, Accuracy and Stability, 2002, ch. 4): 4e-6 for k = 4,096, and a
few times that through tens of layers. A wrong weight, axis or activation shows at 1e-2 and more."""
ORDERS = 16
"""How much further a kernel that adds one number after the other may round than torch, which adds in blocks: errors
grow with sqrt(k) and log2(k) of the k numbers (Higham, ch. 4), and sqrt(k) / log2(k) is 16 at k = 65,000. For means of
equal numbers that is too little: see :mod:`edgekit.source.serial_means`, whose difference counts as rounding, too."""
MOST = 1e-3
"""And no further than this share of an output's scale: a network that is off by more in float32, or gives something
else at every run, is not measured by its own error."""
FLOOR = 1e-6
"""Smallest limit: below it float32 rounding of intermediate values near 1 is all that is seen."""


@dataclass(slots=True)
class _Measured:
    """Differences of one case before its limits are known."""

    case: Case
    differences: dict[str, float]
    magnitudes: dict[str, float]
    exact: set[str]
    cosine: float | None
    reason: str
    output: str
    reference_failed: bool = False


def prove(
    reference: Function,
    candidate: Function,
    cases: Iterable[Case],
    tolerance: float | None = None,
    rounding: Callable[[Feed], Mapping[str, float]] | None = None,
    relative: float = RELATIVE,
) -> Ledger:
    """Runs every case through both and compares output by output, by name.

    Args:
        reference, candidate: a feed -> arrays by output name; the candidate may have more outputs than the reference.
        tolerance: largest absolute difference that passes; None allows ``relative`` of the output's scale: its
            largest magnitude in this case or on typical inputs, whichever is larger; integers and booleans are equal.
        rounding: the reference's own rounding error on a feed, by output. Asked for cases that fail the default limit,
            which then is :data:`ORDERS` times that error, at most :data:`MOST` of the scale: a network that amplifies
            rounding does so in every runtime.
        relative: more than :data:`RELATIVE` where the candidate computes with fewer bits (``runtime/precision.py``).
    """
    shown = track(cases, "comparing outputs")
    measured = [_measure(case, reference(case.feed), candidate(case.feed)) for case in shown]
    scale: dict[str, float] = {}
    for row in measured:
        if row.case.typical:
            for name, magnitude in row.magnitudes.items():
                scale[name] = max(scale.get(name, 0.0), magnitude)
    judged = [_judge(row, scale, tolerance, relative) for row in measured]
    if rounding is not None and tolerance is None:
        for k, row in enumerate(measured):
            if not judged[k].passed and not row.reason:
                again = _judge(row, scale, tolerance, relative, rounding(row.case.feed))
                judged[k] = again if again.passed else judged[k]
    return Ledger(cases=tuple(judged), scale=scale)


def with_rows(ledger: Ledger, rows: tuple[CaseResult, ...], where: str) -> Ledger:
    """``ledger`` with more lines; ``where`` says what differs should they be the first to fail."""
    found = ledger.first_divergence
    if ledger.passed and not all(row.passed for row in rows):
        found = where
    return replace(ledger, cases=(*ledger.cases, *rows), first_divergence=found)


def require(ledger: Ledger, what: str, against: str) -> None:
    """Raises ParityError, with the case and the layer, unless every case passed."""
    bad = ledger.first_failure
    if bad is None:
        if not ledger.cases:
            raise ParityError(f"{what} was compared with {against} on no input at all; nothing was published")
        return
    if bad.reference_failed:
        raise ParityError(
            f"{what} cannot be proved: {against} itself gives NaN or infinity in output {bad.output!r} on the case "
            f"{bad.kind!r}. Correct the network, or its weights. Nothing was published"
        )
    failed = sum(not case.passed for case in ledger.cases)
    layer = ledger.first_divergence or "the first layer that differs could not be found"
    raise ParityError(
        f"{what} does not compute what {against} does: {bad.reason} on the case {bad.kind!r} ({failed} of "
        f"{len(ledger.cases)} cases failed). First to differ: {layer}. Nothing was published"
    )


def _measure(case: Case, wanted: Mapping[str, Array], got: Mapping[str, Array]) -> _Measured:
    row = _Measured(case, {}, {}, set(), None, "", "")
    cosines: list[float] = []
    for name, reference in wanted.items():
        if name not in got:
            row.reason, row.output = f"output {name!r} is missing (there are: {', '.join(got)})", name
            continue
        a, b = np.asarray(reference), np.asarray(got[name])
        if a.shape != b.shape:
            row.reason, row.output = f"output {name!r} has shape {b.shape} instead of {a.shape}", name
            continue
        if a.dtype.kind not in "fc":
            row.exact.add(name)
        x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            row.reference_failed = not np.isfinite(x).all()
            whose = "the reference itself" if row.reference_failed else "the model"
            row.reason, row.output = f"{whose} gives NaN or infinity in output {name!r}", name
            continue
        row.magnitudes[name] = float(np.abs(x).max(initial=0.0))
        row.differences[name] = float(np.abs(x - y).max(initial=0.0))
        norm = float(np.linalg.norm(x) * np.linalg.norm(y))
        if norm > 0:
            cosines.append(float(x @ y) / norm)
    row.cosine = min(cosines, default=None) if not row.reason else None
    return row


def _judge(
    row: _Measured,
    scale: Mapping[str, float],
    tolerance: float | None,
    relative: float,
    rounding: Mapping[str, float] | None = None,
) -> CaseResult:
    own = rounding or {}

    def limit(name: str) -> float:
        if tolerance is not None:
            return tolerance
        if name in row.exact:
            return 0.0
        large = max(row.magnitudes.get(name, 0.0), scale.get(name, 0.0))
        return max(relative * large, FLOOR, min(ORDERS * own.get(name, 0.0), MOST * large))

    kind = row.case.kind
    if row.reason:
        return CaseResult(kind, None, limit(row.output), None, row.output, False, row.reason, row.reference_failed)
    worst = max(row.differences, key=lambda name: row.differences[name] / max(limit(name), 1e-300))
    max_abs, allowed = row.differences[worst], limit(worst)
    if max_abs <= allowed:
        return CaseResult(kind, max_abs, allowed, row.cosine, worst, True, rounding=own.get(worst))
    reason = f"output {worst!r} differs by {max_abs:.3g}, {allowed:.3g} is allowed"
    return CaseResult(kind, max_abs, allowed, row.cosine, worst, False, reason)
