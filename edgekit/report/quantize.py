"""How the result of ``quantize`` looks on the screen."""

from __future__ import annotations

from edgekit.report.against import COLUMNS, account_line, against_rows, inserted_line, missing_lines
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
    parts += [account_line(account), inserted_line(against)]
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
    parts += missing_lines(against)
    return [*parts, *(f"note: {note}" for note in document["notes"])]
