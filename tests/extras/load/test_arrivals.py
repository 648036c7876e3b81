from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgekit.extras.load.arrivals import fixed_arrivals, longest_line, poisson_arrivals


def test_poisson_has_its_rate_and_its_spread() -> None:
    times = poisson_arrivals(1000, 20_000_000_000, seed=3)
    # 20,000 expected, standard deviation 141: five of them
    assert abs(times.size - 20_000) < 700
    gaps = np.diff(times)
    assert (gaps >= 0).all()
    assert gaps.std() / gaps.mean() == pytest.approx(1, abs=0.05)  # exponential: as wide as its mean
    assert times[-1] < 20_000_000_000
    assert (poisson_arrivals(1000, 10**9, 3) == poisson_arrivals(1000, 10**9, 3)).all()
    assert (poisson_arrivals(1000, 10**9, 3)[:50] != poisson_arrivals(1000, 10**9, 4)[:50]).any()


def test_there_is_always_one_query() -> None:
    assert poisson_arrivals(0.001, 10**6, 0).size == 1
    assert fixed_arrivals(0.001, 10**6).tolist() == [0]


def test_a_sensor_is_regular_and_does_not_drift() -> None:
    times = fixed_arrivals(3, 10 * 10**9)
    assert times.size == 30
    assert times[:4].tolist() == [0, 333_333_333, 666_666_667, 1_000_000_000]
    assert times[27] == 9_000_000_000  # rounding does not add up


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_mean_wait_is_that_of_queueing_theory(load: float, queued: Callable[..., np.ndarray]) -> None:
    """M/D/1: r s / (2 (1 - r)), Pollaczek and Khinchine."""
    service = 1_000_000
    arrivals = poisson_arrivals(load * 1000, 400_000_000_000, seed=1)
    latencies = queued(arrivals, service)
    wait = latencies.mean() - service
    # 120,000 to 320,000 queries; waits are correlated over about 1 / (1 - r)^2 of them: 5% is three deviations at 0.8
    assert wait == pytest.approx(load * service / (2 * (1 - load)), rel=0.05)


def test_a_sensor_faster_than_the_model_falls_behind(queued: Callable[..., np.ndarray]) -> None:
    arrivals = fixed_arrivals(1000, 10**8)
    latencies = queued(arrivals, 1_500_000)
    assert latencies[0] == 1_500_000
    assert latencies[-1] == 1_500_000 + 99 * 500_000
    assert longest_line(arrivals, latencies) == pytest.approx(34, abs=1)  # a third of those that came


def test_longest_line_by_hand() -> None:
    arrivals = np.array([0, 10, 11, 12, 100], np.int64)
    latencies = np.array([5, 20, 30, 40, 5], np.int64)
    assert longest_line(arrivals, latencies) == 3
    assert longest_line(arrivals[:0], latencies[:0]) == 0
