"""What dominates what, how much a front covers, and which of its files is recommended."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit.bench.pareto import dominates, nondominated
from edgekit.options.optimize import OptimizeOptions
from edgekit.pipeline.search.front import hypervolume, limits_missed, on_front, recommended
from edgekit.results.optimize import FrontRow
from edgekit.types import Verdict

ROW = FrontRow(
    path=Path("/a.onnx"), recipe=Path("/a.toml"), trial=0, name="a", format="onnx", bytes=1000, sha256="", quality=0.9,
    drop=0.0, latency_ms=1.0, ratio_p50=0.5, ci95=(0.49, 0.51), verdict=Verdict.FASTER, against="onnx float",
    peak_memory_bytes=None, device="cpu", evidence="measured", runtime="onnxruntime", threads=1,
)  # fmt: skip
FLOAT = replace(ROW, name="float", ratio_p50=None, ci95=None, verdict=None, latency_ms=2.0, bytes=4000, baseline=True)


def test_of_equal_points_one_stays() -> None:
    points = [(1, 2), (2, 1), (1, 2), (2, 2)]
    assert nondominated(points) == [0, 1]
    assert dominates((1, 1), (1, 2)) and not dominates((1, 2), (1, 2)) and not dominates((0, 3), (1, 2))


@pytest.mark.parametrize("figures", [1, 2, 3, 4])
def test_hypervolume_is_what_random_points_count(figures: int) -> None:
    random = np.random.default_rng(figures)
    points = random.uniform(-0.1, 1.4, (7, figures))
    drawn = random.uniform(0, 1.2, (200_000, figures))
    inside = np.zeros(len(drawn), bool)
    for point in points:
        if (point < 1.2).all():
            inside |= (drawn >= point).all(axis=1)
    found = hypervolume([tuple(point) for point in points], (1.2,) * figures)
    assert found == pytest.approx(inside.mean(), abs=5 * np.sqrt(0.25 / len(drawn)))


def test_hypervolume_of_known_boxes() -> None:
    assert hypervolume([], (1.0, 1.0)) == 0
    assert hypervolume([(0.5, 0.5)], (1.0, 1.0)) == 0.25
    assert hypervolume([(0.5, 0.5), (0.5, 0.5)], (1.0, 1.0)) == 0.25
    assert hypervolume([(0.25, 0.75), (0.75, 0.25)], (1.0, 1.0)) == pytest.approx(0.3125)
    assert hypervolume([(2.0, 1.0)], (4.0, 4.0)) == pytest.approx(0.375)
    assert hypervolume([(1.0, 0.0)], (1.0, 1.0)) == 0  # on the edge


def test_what_is_worse_everywhere_is_not_on_the_front() -> None:
    worse = replace(ROW, name="worse", latency_ms=1.5, bytes=1100)
    slim = replace(ROW, name="slim", latency_ms=1.5, bytes=900)
    assert [row.name for row in on_front([FLOAT, ROW, worse, slim])] == ["a", "slim"]


def test_the_fastest_is_recommended_and_of_equally_fast_ones_the_smallest() -> None:
    close = replace(ROW, name="close", ratio_p50=0.54, bytes=500)
    slow = replace(ROW, name="slow", ratio_p50=0.7, bytes=100)
    best = recommended([FLOAT, ROW, slow, close])
    assert best is not None and best.name == "close"
    assert (
        "within 10% of the fastest of 4 files" in best.reason and "0.54" in best.reason and "500 bytes" in best.reason
    )


def test_only_a_verdict_counts_as_faster() -> None:
    lucky = replace(ROW, name="lucky", verdict=Verdict.INCONCLUSIVE)
    best = recommended([lucky, FLOAT])
    assert best is not None and best.name == "float" and "as it was exported" in best.reason
    same = replace(ROW, name="same", verdict=Verdict.SAME, ratio_p50=1.0)
    smaller = recommended([lucky, FLOAT, same])
    assert smaller is not None and smaller.name == "same"


def test_what_misses_a_limit_is_not_recommended() -> None:
    limits = {"max_ms": 0.5, "max_bytes": 10, "max_memory": 5}
    options = OptimizeOptions("cnn", data="digits", out="d", **limits)
    missed = limits_missed(replace(ROW, drop=0.02), options, 0.01)
    assert len(missed) == 4 and "memory is not known" in missed[-1]
    assert "loses 0.0200, 0.01 is allowed" in missed
    assert limits_missed(replace(ROW, drop=float("nan")), OptimizeOptions("cnn", data="digits", out="d"), 0.01)
    assert recommended([replace(ROW, limits=missed)]) is None
