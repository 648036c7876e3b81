from __future__ import annotations

from typing import Any

from edgekit.bench.ledger import ledger, not_delegated

MIXED: dict[str, Any] = {
    "nodes": 4,
    "delegated": 3,
    "by": "XNNPACK",
    "left": [{"name": "s", "type": "CUMSUM", "by": "TFLite kernels"}],
}


def test_shares_of_nodes_and_of_time() -> None:
    profile = {"by": [{"by": "TFLite kernels", "share": 0.9}, {"by": "XNNPACK", "share": 0.1}]}
    assert ledger(MIXED, profile)["shares"] == [
        {"by": "XNNPACK", "nodes": 3, "share_nodes": 0.75, "share_time": 0.1},
        {"by": "TFLite kernels", "nodes": 1, "share_nodes": 0.25, "share_time": 0.9},
    ]
    assert [row["share_time"] for row in ledger(MIXED)["shares"]] == [None, None]


def test_nothing_delegated_names_nobody() -> None:
    left = [{"name": str(k), "type": "ADD", "by": "TFLite kernels"} for k in range(2)]
    found = ledger({"nodes": 2, "delegated": 0, "by": "", "left": left})
    assert [(row["by"], row["nodes"]) for row in found["shares"]] == [("TFLite kernels", 2)]
    assert not_delegated(found) == "2 of 2 operators were not taken by the delegate: 2 ADD"


def test_what_was_left_is_named() -> None:
    assert not_delegated(MIXED) == "1 of 4 operators were not taken by XNNPACK: CUMSUM"
    assert not_delegated({"nodes": 4, "delegated": 4, "by": "XNNPACK", "left": []}) == ""
    assert "does not tell" in not_delegated(None)
