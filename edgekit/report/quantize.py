"""How the result of ``quantize`` looks on the screen."""

from __future__ import annotations

from edgekit.report.text import SHARES, figure, points, share, size, small, table, worse
from edgekit.report.verbs import Documented, Parts, account_line

_SHOWN = 12
"""Operators left in float that are listed one by one; the JSON document has them all."""


def render_quantize(result: Documented) -> Parts:
    """Bytes and quality before and after, the integer account, what stayed in float and why."""
    document = result.document()
    artifact, parent, quality, account = (document[k] for k in ("artifact", "parent", "quality", "account"))
    rows: list[tuple[object, ...]] = [
        ("bytes", size(parent["bytes"]), size(artifact["bytes"]), f"{artifact['bytes'] / parent['bytes']:.2f}×")
    ]
    if quality:
        metric = quality["metric"]
        change = points(quality["drop"]) if metric in SHARES else worse(quality["drop"])
        before, after = figure(metric, quality["before"]), figure(metric, quality["after"])
        rows.append((f"{metric} on {quality['data']}", before, after, change))
    parts: Parts = [f"{artifact['path']}: {document['scheme']}"]
    parts.append(table(("", "before", "after", ""), rows, right=("before", "after")))
    parts.append(account_line(account))
    if document["length_errors"]:
        errors = [(e["steps"], small(e["max_abs"]), share(e["relative"])) for e in document["length_errors"]]
        parts.append(table(("steps", "largest error", "of the largest output"), errors, right=("steps",)))
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
    if not quality:
        parts.append("quality was not measured: give --data with labels")
    return [*parts, *(f"note: {note}" for note in document["notes"])]
