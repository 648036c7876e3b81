from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgekit.extras.load.arrivals import poisson_arrivals
from edgekit.extras.load.search import RateTrial, best, highest_rate

Queue = Callable[..., np.ndarray]


def md1(queued: Queue, bound_ms: float, seeds: list[int]) -> list[RateTrial]:
    """The search on a model of exactly 1 ms, each trial 2,000 queries with arrivals of its own."""

    def attempt(rate: float) -> RateTrial:
        seeds.append(len(seeds))
        arrivals = poisson_arrivals(rate, int(2e12 / rate), seed=len(seeds))
        p99 = float(np.quantile(queued(arrivals, 1_000_000), 0.99)) / 1e6
        return RateTrial(rate, p99 <= bound_ms, p99)

    return highest_rate(attempt, capacity=1000)


def exact_rate(queued: Queue, bound_ms: float) -> float:
    """The rate at which p99 of the same queue is ``bound_ms``, from a million queries."""
    low, high = 1.0, 990.0
    for _ in range(14):
        middle = (low + high) / 2
        arrivals = poisson_arrivals(middle, int(3e14 / middle), seed=99)
        p99 = np.quantile(queued(arrivals, 1_000_000), 0.99) / 1e6
        low, high = (middle, high) if p99 <= bound_ms else (low, middle)
    return low


@pytest.mark.parametrize("bound_ms", [2.0, 5.0])
def test_finds_the_rate_of_a_queue_of_known_service_time(bound_ms: float, queued: Queue) -> None:
    found = best(md1(queued, bound_ms, []))
    assert found is not None
    # a p99 out of 2,000 queries is uncertain by some 10%, which is less in the rate
    assert found.rate == pytest.approx(exact_rate(queued, bound_ms), rel=0.12)


def test_a_bound_below_the_model_itself_is_not_to_be_kept(queued: Queue) -> None:
    trials = md1(queued, 0.9, [])
    assert best(trials) is None
    assert len(trials) <= 10


def test_a_bound_that_always_holds_ends_at_the_capacity(queued: Queue) -> None:
    trials = md1(queued, 1e6, [])
    assert [trial.rate for trial in trials] == [950]
