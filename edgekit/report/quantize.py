"""How the result of ``quantize`` looks on the screen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from edgekit.report.against import COLUMNS, account_line, against_rows, fidelity_parts, inserted_line, missing_lines
from edgekit.report.text import Parts, scope, share, small, table
from edgekit.results.quantize import KernelTimes, MixedPlan, QuantizePlan, QuantizeResult

_SHOWN = 12
"""Operators left in float that are listed one by one; the JSON document has them all."""


def render_quantize(result: QuantizeResult) -> Parts:
    """Bytes, quality and time before and after, the integer account, what stayed in float and why."""
    against, account, file = result.against, result.account, result.artifact
    parts: Parts = [f"{file.path}: {result.scheme}"]
    parts.append(table(COLUMNS, against_rows(file.bytes, against), right=("before", "after")))
    parts += [*fidelity_parts(against.fidelity), account_line(account), inserted_line(against)]
    if result.micro is not None:
        parts.append(str(result.micro))
    if result.length_errors:
        errors = [(e.steps, small(e.max_abs), share(e.relative)) for e in result.length_errors]
        parts.append(table(("steps", "largest error", "of the largest output"), errors, right=("steps",)))
    if result.mixed is not None:
        parts += render_plan(result.mixed)
    reasons: dict[str, Counter[str]] = {}
    for row in account.left_float:
        reasons.setdefault(row.reason, Counter())[row.operator] += 1
    if reasons:
        listed = [
            (", ".join(f"{n} {op}" for op, n in kinds.items()), why) for why, kinds in list(reasons.items())[:_SHOWN]
        ]
        parts.append(table(("left in float", "why"), listed))
    parts += missing_lines(against)
    return [*parts, *(f"note: {note}" for note in result.notes)]


def render_quantize_plan(plan: QuantizePlan) -> Parts:
    """What would be done: the parameters of the step, the two times of every operator, what would stay in float."""
    parts: Parts = [f"{plan.model}: nothing was written"]
    parts.append(table(("parameter", "value"), list(plan.step.params.items())))
    if plan.kernels:
        parts.append(kernel_table(plan.kernels))
    others = {row.operator for row in plan.kernels}
    left = [(scope(row.name), row.reason) for row in plan.left_float if row.name not in others]
    if left:
        parts.append(table(("left in float", "why"), left))
    return [*parts, *(f"note: {note}" for note in plan.notes)]


def kernel_table(kernels: Sequence[KernelTimes]) -> Any:
    """Operators with their two times in microseconds and the side they run on, equal ones in one row."""
    rows = Counter((one.kind, _us(one.integer_ns), _us(one.float_ns), one.kept) for one in kernels)
    listed = [(kind, count, integer, real, kept) for (kind, integer, real, kept), count in rows.items()]
    columns = ("operator", "count", "integer, us", "float, us", "runs in")
    return table(columns, listed, right=columns[1:4])


def _us(time_ns: int | None) -> str | None:
    return None if time_ns is None else small(time_ns / 1000)


def render_plan(plan: MixedPlan) -> Parts:
    """The operators that cost most by themselves, worst first, and which stay in float."""
    kept = set(plan.keep)
    parts: Parts = []
    if plan.layers:
        rows = [
            (
                one.name,
                one.operator,
                None if one.snr_db is None else f"{one.snr_db:.1f} dB",
                one.dead_channels or None,
                "float" if one.name in kept else plan.scheme,
            )
            for number, one in enumerate(plan.layers)
            if number < _SHOWN or one.name in kept
        ]
        title = f"Each operator alone in {plan.scheme}, {plan.samples} samples"
        columns = ("operator", "type", "signal to noise", "dead channels", "plan")
        parts.append(table(columns, rows, title=title))
    limit = "" if plan.max_drop is None else f", {share(plan.max_drop)} allowed"
    lost = "" if plan.drop is None else f"; together they lose {share(plan.drop)} of the quality{limit}"
    one = len(kept) == 1
    said = f"{len(kept)} operator{'' if one else 's'} {'stays' if one else 'stay'} in float"
    return [*parts, f"{said}{', which ruined the outputs' if plan.by_itself else ''}{lost}"]
