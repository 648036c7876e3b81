"""How the result of ``quantize`` looks on the screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgekit.report.against import COLUMNS, account_line, against_rows, fidelity_parts, inserted_line, missing_lines
from edgekit.report.text import share, small, table
from edgekit.report.verbs import Documented, Parts

_SHOWN = 12
"""Operators left in float that are listed one by one; the JSON document has them all."""


def render_quantize(result: Documented) -> Parts:
    """Bytes, quality and time before and after, the integer account, what stayed in float and why."""
    document = result.document()
    artifact, account = document["artifact"], document["account"]
    against = {**document["parent"], **{key: document[key] for key in ("quality", "time", "inserted")}}
    parts: Parts = [f"{artifact['path']}: {document['scheme']}"]
    parts.append(table(COLUMNS, against_rows(artifact["bytes"], against), right=("before", "after")))
    parts += [*fidelity_parts(document["fidelity"]), account_line(account), inserted_line(against)]
    if document["length_errors"]:
        errors = [(e["steps"], small(e["max_abs"]), share(e["relative"])) for e in document["length_errors"]]
        parts.append(table(("steps", "largest error", "of the largest output"), errors, right=("steps",)))
    if document.get("mixed"):
        parts += plan_parts(document["mixed"])
    left = account["left_float"]
    if left:
        reasons: dict[str, dict[str, int]] = {}
        for row in left:
            kinds = reasons.setdefault(row["reason"], {})
            kinds[row["operator"]] = kinds.get(row["operator"], 0) + 1
        listed = [
            (", ".join(f"{n} {op}" for op, n in kinds.items()), why) for why, kinds in list(reasons.items())[:_SHOWN]
        ]
        parts.append(table(("left in float", "why"), listed))
    parts += missing_lines(against)
    return [*parts, *(f"note: {note}" for note in document["notes"])]


def render_quantize_plan(result: Documented) -> Parts:
    """What would be done: the parameters of the step, the two times of every operator, what would stay in float."""
    document = result.document()
    parts: Parts = [f"{document['model']}: nothing was written"]
    parts.append(table(("parameter", "value"), list(document["step"]["params"].items())))
    if document["kernels"]:
        parts.append(kernel_table(document["kernels"]))
    others = {row["operator"] for row in document["kernels"]}
    left = [(row["name"], row["reason"]) for row in document["left_float"] if row["name"] not in others]
    if left:
        parts.append(table(("left in float", "why"), left))
    return [*parts, *(f"note: {note}" for note in document["notes"])]


def kernel_table(kernels: Sequence[Mapping[str, Any]]) -> Any:
    """Operators with their two times in microseconds and the side they run on, equal ones in one row."""
    rows: dict[tuple[Any, ...], int] = {}
    for one in kernels:
        times = [None if one[side] is None else small(one[side] / 1000) for side in ("integer_ns", "float_ns")]
        key = (one["kind"], *times, one["kept"])
        rows[key] = rows.get(key, 0) + 1
    listed = [(kind, count, integer, real, kept) for (kind, integer, real, kept), count in rows.items()]
    columns = ("operator", "count", "integer, us", "float, us", "runs in")
    return table(columns, listed, right=columns[1:4])


def render_plan(result: Documented) -> Parts:
    """The plan of mixed precision by itself: no model was written."""
    return plan_parts(result.document())


def plan_parts(plan: Mapping[str, Any]) -> Parts:
    """The operators that cost most by themselves, worst first, and which stay in float."""
    kept = set(plan["keep"])
    parts: Parts = []
    if plan["layers"]:
        rows = [
            (
                one["name"],
                one["operator"],
                None if one["snr_db"] is None else f"{one['snr_db']:.1f} dB",
                one["dead_channels"] or None,
                "float" if one["name"] in kept else plan["scheme"],
            )
            for number, one in enumerate(plan["layers"])
            if number < _SHOWN or one["name"] in kept
        ]
        title = f"Each operator alone in {plan['scheme']}, {plan['samples']} samples"
        columns = ("operator", "type", "signal to noise", "dead channels", "plan")
        parts.append(table(columns, rows, title=title))
    limit = "" if plan["max_drop"] is None else f", {share(plan['max_drop'])} allowed"
    lost = "" if plan["drop"] is None else f"; together they lose {share(plan['drop'])} of the quality{limit}"
    one = len(kept) == 1
    said = f"{len(kept)} operator{'' if one else 's'} {'stays' if one else 'stay'} in float"
    return [*parts, f"{said}{', which ruined the outputs' if plan['by_itself'] else ''}{lost}"]
