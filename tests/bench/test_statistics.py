"""Figures against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.bench.statistics import (
    interval_of_run_ms,
    interval_p50_ms,
    latency_figures,
    missing_runs,
    noise,
    percentile_key,
)
from edgekit.bench.variance import PROCESS_SPREAD, SESSION_SPREAD
from edgekit.types import percentile_ns


def blocks(*rows: list[float]) -> list[np.ndarray]:
    return [np.array(row, dtype=np.float64).astype(np.int64) for row in rows]


@pytest.mark.parametrize(
    ("percent", "expected"), [(50, 50), (90, 90), (99, 99), (99.9, 100), (1, 1), (0.5, 1), (100, 100)]
)
def test_nearest_rank(percent: float, expected: int) -> None:
    assert percentile_ns(np.arange(100, 0, -1), percent) == expected  # of 1..100 the p-th percentile is p


def test_nearest_rank_of_few() -> None:
    assert percentile_ns(np.array([7]), 99) == 7
    assert percentile_ns(np.array([1, 2]), 50) == 1  # the smallest with at least half at or below it
    assert percentile_ns(np.array([1, 2, 3]), 50) == 2


@pytest.mark.parametrize(
    ("count", "given", "withheld"),
    [(10, [], ["p50", "p90", "p99", "p99_9"]), (11, ["p50"], ["p90"]), (63, ["p50"], ["p90"]), (64, ["p90"], ["p99"]),
     (661, ["p90"], ["p99"]), (662, ["p99"], ["p99_9"]), (6635, ["p99"], ["p99_9"]), (6636, ["p99_9"], [])],
)  # fmt: skip
def test_percentiles_only_with_the_samples_that_support_them(count: int, given: list[str], withheld: list[str]) -> None:
    figures = latency_figures([np.arange(1, count + 1, dtype=np.int64)])
    assert all(getattr(figures, key) is not None for key in given)
    assert all(getattr(figures, key) is None for key in withheld)
    assert set(withheld) <= set(missing_runs(count))
    assert not set(given) & set(missing_runs(count))
    assert (figures.ci95_p50 is None) == (count < 11)


def test_mean_min_max_std_by_hand() -> None:
    figures = latency_figures(blocks([1e6, 3e6], [5e6, 7e6]))
    assert (figures.mean, figures.min, figures.max) == (4.0, 1.0, 7.0)
    assert figures.std == pytest.approx(np.sqrt(5.0))  # (9 + 1 + 1 + 9) / 4
    assert figures.p50 is None


def test_no_samples_is_an_error() -> None:
    with pytest.raises(ValueError, match="no samples"):
        latency_figures([])
    with pytest.raises(ValueError, match="no samples"):
        noise([])


def test_interval_of_equal_blocks_is_what_is_expected_alone() -> None:
    low, high = interval_p50_ms(blocks(*[[1e6] * 20] * 6))
    # both sessions have the spread; 2.776: Student's t of four degrees of freedom, which that of sessions counts for
    half = np.sqrt(2) * np.hypot(1.96 * PROCESS_SPREAD, 2.776 * SESSION_SPREAD)
    assert (low, high) == pytest.approx((np.exp(-half), np.exp(half)))


def test_interval_holds_every_state_of_the_machine_that_was_seen() -> None:
    """Six blocks of 44 in the slower state: the p50 knows nothing of it, the next session may spend its time there."""
    fast, slow = [1.0e6] * 50, [1.3e6] * 50
    low, high = interval_p50_ms(blocks(*[fast] * 38, *[slow] * 6))
    steady_low, steady_high = interval_p50_ms(blocks(*[fast] * 44))
    assert low == steady_low
    assert steady_high < 1.05 < 1.3 < high < 1.35
    # one in 100 is not a state of the machine, and a longer run does not widen the interval by its accidents
    assert interval_p50_ms(blocks(*[fast] * 99, slow)) == (steady_low, steady_high)


def test_interval_of_the_run_sees_blocks_that_differ_and_is_the_same_for_a_seed() -> None:
    apart = blocks(*[[value] * 50 for value in (0.8e6, 0.9e6, 1.0e6, 1.1e6, 1.2e6)])
    low, high = interval_of_run_ms(apart, seed=3)
    assert low <= 0.9
    assert high >= 1.1
    assert interval_of_run_ms(apart, seed=3) == (low, high)
    assert interval_of_run_ms(blocks(*[[1e6] * 20] * 6)) == (1.0, 1.0)


def test_interval_of_the_run_sees_workers_that_differ() -> None:
    """Two workers, each steady: blocks drawn one by one would nearly always hold both, workers often one alone."""
    apart = blocks(*[[0.9e6] * 20] * 15, *[[1.1e6] * 20] * 16)
    assert interval_of_run_ms(apart, owners=[0] * 15 + [1] * 16) == (0.9, 1.1)


def test_interval_of_the_run_covers_the_true_median_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(100):
        levels = 1e6 * (1 + 0.02 * generator.standard_normal(20))  # blocks differ by 2% around a true p50 of 1 ms
        rows = [(level * (1 + 0.05 * generator.standard_normal(100))).astype(np.int64) for level in levels]
        low, high = interval_of_run_ms(rows)
        hits += low <= 1.0 <= high
    assert hits >= 88  # 95 expected; below 88 has a chance of 0.2% if the coverage is 95%


def test_noise_by_hand() -> None:
    found = noise(blocks([1e6, 1e6], [2e6, 2e6], [3e6, 3e6]))
    assert found.cv == pytest.approx(np.sqrt(2 / 3) / 2)
    assert found.cv_blocks == pytest.approx(np.sqrt(2 / 3) / 2)
    assert found.drift == pytest.approx(2.0)
    assert found.verdict == "noisy"


def test_what_makes_a_result_noisy() -> None:
    steady = [[1e6] * 95 + [9e6]] * 9  # 9 of 104 ms in interrupted calls
    assert noise(blocks(*steady)).interrupted == pytest.approx(9 / 104)
    assert noise(blocks(*steady)).verdict == "stable"
    interrupted = [[1e6] * 50 + [9e6]] * 9
    assert noise(blocks(*interrupted)).verdict == "noisy"
    drifting = [[1e6 * (1 + 0.01 * k)] * 50 for k in range(9)]  # 6% between the first and the last third
    assert noise(blocks(*drifting)).verdict == "noisy"


def test_keys() -> None:
    assert [percentile_key(p) for p in (50, 99.9)] == ["p50", "p99_9"]
