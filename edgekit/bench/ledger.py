"""The delegation ledger: who runs how many of the operators, and how much of the time goes there. Never silent.

Who: an execution provider of onnxruntime, XNNPACK, or the runtime's own kernels where the delegate left an operator.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

Document = Mapping[str, Any]


def ledger(delegation: Document, profile: Document | None = None) -> dict[str, Any]:
    """``delegation`` (``nodes``, ``delegated``, ``by``, ``left``) with one row for each who in ``shares``.

    ``share_time`` is the part of the time by ``profile`` (:mod:`edgekit.bench.profile`), None without one.
    """
    nodes = Counter(str(row["by"]) for row in delegation.get("left", ()))
    if delegation["delegated"]:
        nodes[str(delegation["by"])] += int(delegation["delegated"])
    times = {str(row["by"]): float(row["share"]) for row in (profile or {}).get("by", ())}
    shares = [
        {
            "by": by,
            "nodes": count,
            "share_nodes": count / delegation["nodes"],
            "share_time": times.get(by, 0.0) if times else None,
        }
        for by, count in nodes.most_common()
    ]
    return {**delegation, "shares": shares}


def not_delegated(delegation: Document | None) -> str:
    """Why a cell does not pass for fully delegated, in words; empty if every operator was taken."""
    if delegation is None:
        return "its runtime does not tell what runs where"
    left = delegation.get("left", ())
    if not left and delegation["delegated"] == delegation["nodes"]:
        return ""
    kinds = Counter(str(row["type"]) for row in left)
    told = ", ".join(f"{count} {kind}" if count > 1 else kind for kind, count in kinds.most_common(6))
    rest = f" and {len(kinds) - 6} more types" if len(kinds) > 6 else ""
    by = delegation["by"] or "the delegate"
    return f"{len(left)} of {delegation['nodes']} operators were not taken by {by}: {told}{rest}"
