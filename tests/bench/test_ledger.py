from __future__ import annotations

from edgekit.bench.ledger import ledger, not_delegated
from edgekit.results.bench import DelegateShare
from edgekit.results.loaded import Delegation, Operator

MIXED = Delegation(4, 3, "XNNPACK", (Operator(name="s", type="CUMSUM", by="TFLite kernels"),))


def test_shares_of_nodes_and_of_time() -> None:
    assert ledger(MIXED, {"TFLite kernels": 0.9, "XNNPACK": 0.1}).shares == (
        DelegateShare("XNNPACK", 3, 0.75, 0.1),
        DelegateShare("TFLite kernels", 1, 0.25, 0.9),
    )
    assert [row.share_time for row in ledger(MIXED).shares] == [None, None]


def test_nothing_delegated_names_nobody() -> None:
    left = tuple(Operator(name=str(k), type="ADD", by="TFLite kernels") for k in range(2))
    found = ledger(Delegation(2, 0, "", left))
    assert [(row.by, row.nodes) for row in found.shares] == [("TFLite kernels", 2)]
    assert not_delegated(found) == "2 of 2 operators were not taken by the delegate: 2 ADD"


def test_what_was_left_is_named() -> None:
    assert not_delegated(MIXED) == "1 of 4 operators were not taken by XNNPACK: CUMSUM"
    assert not_delegated(Delegation(4, 4, "XNNPACK")) == ""
    assert "does not tell" in not_delegated(None)
