"""The delegation ledger: who runs how many of the operators, and how much of the time goes there. Never silent.

Who: an execution provider of onnxruntime, XNNPACK, or the runtime's own kernels where the delegate left an operator.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from edgekit.results.bench import DelegateShare, DelegationReport
from edgekit.results.loaded import Delegation


def ledger(nodes: Delegation, times: Mapping[str, float] | None = None) -> DelegationReport:
    """``nodes`` with one row for each who in ``shares``.

    ``times``: the share of the time of each, where that was measured.
    """
    counts = Counter(operator.by for operator in nodes.left)
    if nodes.delegated:
        counts[str(nodes.by)] += nodes.delegated
    shares = tuple(
        DelegateShare(by, count, count / (nodes.nodes or 1), times.get(by, 0.0) if times else None)
        for by, count in counts.most_common()
    )
    return DelegationReport(nodes.nodes, nodes.delegated, nodes.by, nodes.left, nodes.precisions, shares)


def not_delegated(nodes: Delegation | None) -> str:
    """Why a cell does not pass for fully delegated, in words; empty if every operator was taken."""
    if nodes is None:
        return "its runtime does not tell what runs where"
    if not nodes.left and nodes.delegated == nodes.nodes:
        return ""
    kinds = Counter(operator.type for operator in nodes.left)
    told = ", ".join(f"{count} {kind}" if count > 1 else kind for kind, count in kinds.most_common(6))
    rest = f" and {len(kinds) - 6} more types" if len(kinds) > 6 else ""
    by = nodes.by or "the delegate"
    return f"{len(nodes.left)} of {nodes.nodes} operators were not taken by {by}: {told}{rest}"
