"""The interval of a change of mean intersection over union."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.quality.paired import drop_interval, quality_change
from edgekit.results.eval import Evaluation, Outcomes
from edgekit.types import Array


def measured(pixels: Array) -> Evaluation:
    sums = pixels.sum(0)
    union = sums[1] + sums[2] - sums[0]
    value = float((sums[0] / union).mean())
    return Evaluation("miou", value, len(pixels), "made@test", outcomes=Outcomes("overlaps", pixels))


def answers(rng: np.random.Generator, share: float, count: int = 200) -> Array:
    """Pixels of two classes, of which ``share`` is right."""
    wanted = np.stack([np.full(count, 900), rng.integers(50, 150, count)], 1)
    right = (wanted * (share + rng.uniform(-0.02, 0.02, (count, 2)))).astype(np.int64)
    return np.stack([right, wanted, wanted], 1)


def test_the_interval_holds_what_was_lost() -> None:
    rng = np.random.default_rng(0)
    before, after = measured(answers(rng, 0.9)), measured(answers(rng, 0.85))
    interval = drop_interval(before, after)
    assert interval is not None
    low, high = interval
    assert low <= before.value - after.value <= high and low > 0 and high - low < 0.02
    assert quality_change(before, after).interval == "paired bootstrap over pictures"


def test_a_file_beside_itself_lost_nothing() -> None:
    pixels = answers(np.random.default_rng(1), 0.9)
    assert drop_interval(measured(pixels), measured(pixels)) == pytest.approx((0, 0))
    rare = pixels.copy()
    rare[1:, :, 1] = 0  # a class in one picture only: it is not in every draw
    assert drop_interval(measured(rare), measured(rare)) == pytest.approx((0, 0))
