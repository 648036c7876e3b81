"""Intervals of a change of quality on the same samples: against published and brute-force figures."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.quality.anomaly import area
from edgekit.quality.frechet import distance, moments
from edgekit.quality.paired import drop_interval, newcombe, parts_of, quality_change
from edgekit.results.eval import Evaluation, Outcomes

RNG = np.random.default_rng(0)


def evaluation(value: float, outcomes: Outcomes | None, *, error: bool = False) -> Evaluation:
    total = 0 if outcomes is None else len(outcomes.values)
    return Evaluation("m", value, total, "data", lower_is_better=error, outcomes=outcomes)


def hits(answers: np.ndarray) -> Evaluation:
    return evaluation(float(answers.mean()), Outcomes("hits", answers))


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        # Altman et al., Statistics with confidence (2000), table 6.2, p. 52
        ((14, 5, 0, 41), 0.011, 0.226),
        # Fagerland et al., Statistical Analysis of Contingency Tables (2017), chapter 8: Cavo et al., 161 pairs
        ((59, 6, 16, 161), -0.1186, -0.0046),
    ],
)
def test_newcombe_as_published(counts: tuple[int, int, int, int], low: float, high: float) -> None:
    digits = 1e-3 if low == 0.011 else 1e-4  # as printed
    assert newcombe(*counts) == pytest.approx((low, high), abs=digits / 2)


def test_newcombe_leaves_phi_out_where_the_correction_takes_it_all() -> None:
    """Nobody is wrong twice, and no pair is odd the other way: phi is 0, and the margins are those of Wilson alone."""
    low, high = newcombe(36, 14, 0, 50)
    wilson = (0.5833, 0.8253)  # of 36 / 50, by the formula of Wilson (1927)
    assert low == pytest.approx(1 - 0.72 - np.hypot(1 - 50 / (50 + 1.959964**2), wilson[1] - 0.72), abs=1e-4)
    assert high == pytest.approx(1 - 0.72 + (0.72 - wilson[0]), abs=1e-4)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    held = 0
    for _ in range(1000):
        both, first, second, _ = (int(n) for n in RNG.multinomial(300, (0.8, 0.06, 0.02, 0.12)))
        low, high = newcombe(both, first, second, 300)
        held += low <= 0.04 <= high
    assert 930 <= held <= 975  # 950 of 1,000, three standard errors (7) either way


def test_pairing_makes_the_interval_narrow() -> None:
    first = RNG.random(1000) < 0.9
    second = first.copy()
    second[np.flatnonzero(first)[:12]] = False
    low, high = drop_interval(hits(first), hits(second)) or (0, 0)
    assert 0 < low < 0.012 < high < 0.03
    shuffled = RNG.permutation(second)
    loose = drop_interval(hits(first), hits(shuffled)) or (0, 0)
    assert loose[1] - loose[0] > 3 * (high - low)


def test_equal_answers_hold_zero_and_are_not_certain() -> None:
    first = RNG.random(200) < 0.8
    low, high = drop_interval(hits(first), hits(first)) or (1, 1)
    assert low < 0 < high
    assert high - low < 0.06


def test_errors_cover_the_change() -> None:
    first = RNG.gamma(2.0, size=600)
    second = first * 1.05 + RNG.normal(0, 0.01, 600)
    a, b = (evaluation(float(v.mean()), Outcomes("errors", v), error=True) for v in (first, second))
    low, high = drop_interval(a, b) or (0, 0)
    assert low < second.mean() / first.mean() - 1 < high
    assert high - low < 0.01  # both errors are of the same samples; apart they would be known to 0.15
    ends = drop_interval(
        evaluation(1, Outcomes("errors", first), error=True),
        evaluation(1, Outcomes("errors", RNG.permutation(second)), error=True),
    ) or (0, 0)
    assert ends[1] - ends[0] > 0.1


def test_blocks_widen_what_overlaps() -> None:
    walk = np.repeat(RNG.gamma(2.0, size=40), 25)
    change = np.repeat(RNG.normal(1.0, 0.2, 40), 25)

    def width(block: int) -> float:
        a, b = (evaluation(1, Outcomes("errors", v, block), error=True) for v in (walk, walk * change))
        low, high = drop_interval(a, b) or (0, 0)
        return high - low

    assert width(25) > 2.5 * width(1)  # 40 independent changes, not 1,000: five times without the overlap of blocks


def test_areas_as_a_bootstrap_says() -> None:
    positive = np.arange(300) < 60
    scores = RNG.normal(size=300) + 1.0 * positive
    other = scores + RNG.normal(0, 0.5, 300)
    a, b = (
        evaluation(area(s[positive], s[~positive]), Outcomes("scores", s, positive=positive)) for s in (scores, other)
    )
    low, high = drop_interval(a, b) or (0, 0)
    drawn = []
    for _ in range(1000):
        up, down = RNG.choice(np.flatnonzero(positive), 60), RNG.choice(np.flatnonzero(~positive), 240)
        drawn.append(area(scores[up], scores[down]) - area(other[up], other[down]))
    # 1,000 draws know the ends of an interval to about a tenth of its width
    assert (low, high) == pytest.approx(tuple(np.percentile(drawn, (2.5, 97.5))), abs=0.15 * (high - low))


def test_distances_hold_the_change() -> None:
    real = moments(RNG.normal(size=(2000, 4)))
    first = RNG.normal(0.5, 1.0, (1000, 4))
    second = first + 0.05
    values = [distance(*moments(v), *real) for v in (first, second)]
    a, b = (
        evaluation(d, Outcomes("features", v, reference=real), error=True)
        for d, v in zip(values, (first, second), strict=True)
    )
    low, high = drop_interval(a, b) or (0, 0)
    assert 0 < low < values[1] / values[0] - 1 < high


@pytest.mark.parametrize("error", [False, True])
def test_the_jackknife_of_a_ratio_as_a_bootstrap_says(error: bool) -> None:
    """A figure that is no mean over samples: the ratio of two sums, as mean IoU is."""
    top, other, below = RNG.gamma(4, 1, 600), RNG.gamma(4, 1, 600), RNG.gamma(9, 1, 600)
    second = np.where(RNG.random(600) < 0.9, top, other)

    def made(values: np.ndarray) -> Evaluation:
        parts = parts_of(600, lambda kept: {"m": values[kept].sum() / below[kept].sum()})
        return Evaluation("m", values.sum() / below.sum(), 600, "data", lower_is_better=error, parts=parts)

    low, high = drop_interval(made(top), made(second)) or (0, 0)
    drawn = []
    for _ in range(1000):
        k = RNG.integers(0, 600, 600)
        a, b = top[k].sum() / below[k].sum(), second[k].sum() / below[k].sum()
        drawn.append(b / a - 1 if error else a - b)
    # twenty groups know a deviation to 16%, 1,000 draws the ends to a tenth of the width
    assert (low, high) == pytest.approx(tuple(np.percentile(drawn, (2.5, 97.5))), abs=0.3 * (high - low))
    assert quality_change(made(top), made(second)).interval == "paired jackknife over groups of samples"


def test_parts_need_ten_samples_and_the_same_figure() -> None:
    assert parts_of(9, lambda kept: {"m": 1.0}) == {}
    one = Evaluation("m", 1.0, 50, "data", parts=parts_of(50, lambda kept: {"m": float(kept.mean())}))
    assert drop_interval(one, Evaluation("other", 1.0, 50, "data", parts={"other": one.parts["m"]})) is None
    assert drop_interval(one, one) == (0.0, 0.0)


def test_no_interval_without_ten_common_samples() -> None:
    few = hits(np.ones(9, bool))
    assert drop_interval(few, few) is None
    assert drop_interval(hits(np.ones(20, bool)), hits(np.ones(21, bool))) is None
    assert drop_interval(evaluation(1, None), evaluation(1, None)) is None
    found = quality_change(few, few)
    assert found.drop_ci95 is None
    assert found.interval is None
