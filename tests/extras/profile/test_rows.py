from __future__ import annotations

import pytest

from edgekit.extras.profile.rows import Row, document

ROWS = [
    Row("a", "Conv", "XNNPACK", 3.0, layer="stem"),
    Row("b", "Add", "XNNPACK", 1.0, layer="stem"),
    Row("c", "Conv", "TFLite kernels", 4.0, calls=8.0, layer=None),
]


def test_tables_are_sums_sorted_by_time() -> None:
    found = document(ROWS, tool="t", runs=5, run_ms=10.0, resolution_us=1.0)
    assert (found["total_ms"], found["unattributed_ms"]) == (8.0, 2.0)
    kinds = [(r["type"], r["ms"], r["nodes"], r["calls"]) for r in found["types"]]
    assert kinds == [
        ("Conv", 7, 2, 9),
        ("Add", 1, 1, 1),
    ]
    assert [(r["layer"], r["share"]) for r in found["layers"]] == [("stem", 0.5), (None, 0.5)]
    assert {r["by"]: r["share"] for r in found["by"]} == {"XNNPACK": 0.5, "TFLite kernels": 0.5}
    assert [r["name"] for r in found["nodes"]] == ["c", "a", "b"]


def test_nothing_seen_is_not_a_division_by_zero() -> None:
    found = document([Row("a", "Conv", "x", 0.0)], tool="t", runs=1, run_ms=0.5, resolution_us=1.0)
    assert found["types"][0]["share"] == 0
    assert found["unattributed_ms"] == pytest.approx(0.5)
