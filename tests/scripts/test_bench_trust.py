"""How scripts/bench_trust judges: made-up rows on both sides of each bar."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def script(root: Path) -> ModuleType:
    sys.path.insert(0, str(root / "scripts"))
    try:
        return importlib.import_module("bench_trust")
    finally:
        sys.path.remove(str(root / "scripts"))


def row(**more: object) -> dict[str, object]:
    made = {"model": "m", "verdict": "same", "ratio": 1.0, "low": 0.99, "high": 1.01, "detectable": 0.024}
    return {**made, "noise": ["stable"], "parent_cores": 0.01, **more}


def test_same_allows_five_of_a_hundred(script: ModuleType) -> None:
    slower = [row(verdict="slower")] * 5
    assert script.judge_same([row()] * 95 + slower)[0]
    assert not script.judge_same([row()] * 94 + slower + [row(verdict="faster")])[0]


def test_slower_wants_ninety_five(script: ModuleType) -> None:
    slower = [row(verdict="slower")]
    assert script.judge_slower(slower * 95 + [row(verdict="inconclusive")] * 5)[0]
    assert not script.judge_slower(slower * 94 + [row(verdict="inconclusive")] * 6)[0]


def test_detectable_is_judged_for_each_file(script: ModuleType) -> None:
    # half an interval of 1% needs an estimate of 3% - 1% = 2% to be called slower
    good = [row(ratio=1 + shift) for shift in (-0.004, -0.002, 0.0, 0.002, 0.004)]
    assert script.judge_detectable(good)[0]
    assert not script.judge_detectable([*good, *(row(model="n", detectable=0.05) for _ in range(5))])[0]


def test_parent_and_agreement_and_wall(script: ModuleType) -> None:
    assert script.judge_parent([row()])[0]
    assert not script.judge_parent([row(), row(parent_cores=0.03)])[0]
    assert script.judge_agreement([row(ratio=r, other_ms=1.0) for r in (0.9, 1.01, 1.02)])[0]  # the median counts
    assert not script.judge_agreement([row(ratio=1.04, other_ms=1.0)])[0]
    assert script.judge_wall([row(wall_s=10.9, allowed_s=11.0)])[0]
    assert not script.judge_wall([row(wall_s=11.1, allowed_s=11.0)])[0]


def test_occasions(script: ModuleType) -> None:
    def one(p50: float) -> dict[str, object]:
        return row(p50=p50, low=p50 - 0.02, high=p50 + 0.02)

    assert script.judge_occasions([one(1.0), one(1.01), one(1.015)])[0]
    assert not script.judge_occasions([one(1.0), one(1.01), one(1.05)])[0]
    assert not script.judge_occasions([one(1.0)])[0]


def test_rows_are_kept_and_gone_on_with(script: ModuleType, tmp_path: Path) -> None:
    taken = []

    def take(folder: Path, seconds: float, number: int) -> dict[str, object]:
        taken.append((seconds, number))
        return row()

    bar = script.Bar("same", "", 3, 100, take, script.judge_same)
    assert len(script.measure(bar, tmp_path, 2, 3.0, until=float("inf"))) == 2
    assert len(script.measure(bar, tmp_path, 3, 3.0, until=float("inf"))) == 3
    assert len(script.measure(bar, tmp_path, 9, 3.0, until=0.0)) == 3  # the time is over
    assert taken == [(3.0, 0), (3.0, 1), (3.0, 2)]
    named = {name: verdict for name, _, _, verdict in script.report(tmp_path)}
    assert (named["same"], named["parent"], named["wall"]) == ("pass", "pass", "\u2013")


def test_the_figures_go_between_the_marks(script: ModuleType, tmp_path: Path, root: Path) -> None:
    assert (root / "docs" / "bench.md").read_text().count(script.TABLE) == 2
    page = tmp_path / "bench.md"
    page.write_text(f"before\n{script.TABLE}\nold\n{script.TABLE}\nafter\n")
    script.write_into(page, [("same", "wanted", "found", "pass")])
    text = page.read_text()
    assert "| same | wanted | found | pass |" in text
    assert "old" not in text
    assert text.startswith("before") and text.endswith("after\n")
    page.write_text("no marks")
    with pytest.raises(SystemExit, match="no two"):
        script.write_into(page, [])
