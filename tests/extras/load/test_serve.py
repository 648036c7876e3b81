"""Serving at given times, against a clock that only moves when it is told to."""

from __future__ import annotations

import gc
from collections.abc import Callable

import numpy as np
import pytest

from edgekit.extras.load.arrivals import fixed_arrivals, poisson_arrivals
from edgekit.extras.load.serve import serve


class FakeClock:
    """Time that passes by sleeping (late by ``late``), by each look (``look``) and by what :meth:`work` does."""

    def __init__(self, late: int = 0, look: int = 0) -> None:
        self.time, self.late, self.look, self.slept = 5_000, late, look, 0

    def now(self) -> int:
        self.time += self.look
        return self.time

    def sleep(self, duration_ns: int) -> None:
        assert duration_ns > 0
        self.time += duration_ns + self.late
        self.slept += duration_ns

    def work(self, duration_ns: int) -> None:
        self.time += duration_ns


@pytest.mark.parametrize("load", [0.2, 0.7, 1.1])
def test_latencies_are_those_of_the_queue(load: float, queued: Callable[..., np.ndarray]) -> None:
    clock = FakeClock(look=1_000)
    arrivals = poisson_arrivals(load * 1000, 2 * 10**9, seed=2)
    found = serve(lambda: clock.work(1_000_000), arrivals, give_up_ns=10**12, clock=clock)
    wanted = queued(arrivals, 1_001_000)
    assert found.given_up == 0
    assert found.service_ns.tolist() == [1_001_000] * arrivals.size
    # each query looks at the clock three times more than the model's own run takes: it adds up while the line stands
    assert (found.latency_ns >= wanted - 1).all()
    assert np.median(found.latency_ns) == pytest.approx(np.median(wanted), rel=0.1 if load < 1 else 0.3)


def test_waking_late_counts_against_the_model_like_any_wait() -> None:
    clock = FakeClock(late=1_700_000, look=100)
    found = serve(lambda: clock.work(10_000), fixed_arrivals(10, 10**9), give_up_ns=10**9, clock=clock)
    # slept until 1 ms before, woken 1.7 ms late: 0.7 ms behind the scheduled time, all but the first
    assert found.latency_ns[0] < 20_000
    assert (found.latency_ns[1:] > 700_000).all()
    assert (found.service_ns < 20_000).all()


def test_it_sleeps_rather_than_spins_while_there_is_time() -> None:
    clock = FakeClock(look=1_000)
    serve(lambda: None, fixed_arrivals(10, 10**9), give_up_ns=10**9, clock=clock)
    assert clock.slept > 0.9 * 8 * 10**8


def test_a_line_that_grows_without_end_is_given_up() -> None:
    clock = FakeClock()
    arrivals = fixed_arrivals(1000, 10**9)
    found = serve(lambda: clock.work(10_000_000), arrivals, give_up_ns=5 * 10**8, clock=clock)
    assert found.latency_ns.size + found.given_up == arrivals.size
    assert found.given_up > 800  # 1.5 s are 150 runs of 10 ms
    assert found.latency_ns.size == pytest.approx(150, abs=2)


def test_garbage_collection_is_off_and_comes_back() -> None:
    seen = []
    serve(lambda: seen.append(gc.isenabled()), fixed_arrivals(1e6, 10_000), give_up_ns=10**9)
    assert seen == [False] * 10
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError):
        serve(lambda: 1 // 0, fixed_arrivals(1e6, 10_000), give_up_ns=10**9)
    assert gc.isenabled()


def test_with_the_real_clock_nothing_is_served_before_its_time() -> None:
    found = serve(lambda: None, fixed_arrivals(200, 50_000_000), give_up_ns=10**9)
    assert (found.latency_ns >= 0).all()
    assert found.given_up == 0
