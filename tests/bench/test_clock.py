"""The clock: counts and order, never how long anything takes."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from edgekit.bench.clock import WarmupRule, clock_cost_ns, time_calls

NONE = WarmupRule(0, 0, 0)


def test_counts_and_buffer_growth() -> None:
    calls: list[int] = []
    block = time_calls(lambda: calls.append(1), warmup=NONE, min_runs=10_000, min_ns=0, max_ns=60 * 10**9)
    assert block.samples_ns.size == 10_000 == len(calls)  # beyond the first buffer of 4096
    assert block.samples_ns.dtype == np.int64
    assert block.warmup_ns.size == 0
    assert (block.samples_ns >= 0).all()


def test_a_cap_ends_the_block_with_at_least_one_sample() -> None:
    block = time_calls(lambda: None, warmup=NONE, min_runs=1000, min_ns=10**12, max_ns=1)
    assert block.samples_ns.size == 1


def test_warmup_is_kept_apart() -> None:
    calls: list[int] = []
    rule = WarmupRule(min_runs=20, min_ns=0, max_ns=60 * 10**9)
    block = time_calls(lambda: calls.append(1), warmup=rule, min_runs=5, min_ns=0, max_ns=60 * 10**9)
    assert block.warmup_ns.size >= 20
    assert block.samples_ns.size == 5
    assert len(calls) == block.warmup_ns.size + 5


def test_garbage_collection_is_off_inside_and_back_after() -> None:
    states: list[bool] = []
    assert gc.isenabled()
    time_calls(lambda: states.append(gc.isenabled()), warmup=NONE, min_runs=3, min_ns=0, max_ns=10**9)
    assert states == [False] * 3
    assert gc.isenabled()


def test_an_error_of_the_call_comes_through_and_restores_the_collector() -> None:
    def fails() -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        time_calls(fails, warmup=NONE, min_runs=1, min_ns=0, max_ns=10**9)
    assert gc.isenabled()


def test_min_runs_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        time_calls(lambda: None, warmup=NONE, min_runs=0, min_ns=0, max_ns=10**9)


def test_the_clock_cost() -> None:
    assert clock_cost_ns(50) >= 0


def test_the_timed_loop_allocates_nothing_of_its_own() -> None:
    """4,000 calls into a buffer laid out before."""
    import tracemalloc

    marks: list[int] = []
    count = iter(range(4000))

    def watched() -> None:
        if next(count) in (100, 3900):
            marks.append(tracemalloc.get_traced_memory()[0])

    tracemalloc.start()
    try:
        time_calls(watched, warmup=NONE, min_runs=4000, min_ns=0, max_ns=60 * 10**9)
    finally:
        tracemalloc.stop()
    assert marks[1] - marks[0] < 2048  # 3800 calls later; one integer kept for each would be 120 kB


def test_a_clock_that_runs_backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgekit.bench import clock
    from edgekit.errors import DeviceError

    times = iter([0, 10, 30, 40, 35, 50, 70, 80, 95])  # the first reading, then start and end of each call
    monkeypatch.setattr(clock, "perf_counter_ns", lambda: next(times))
    block = time_calls(lambda: None, warmup=NONE, min_runs=4, min_ns=0, max_ns=10**9)
    assert block.samples_ns.tolist() == [20, 20, 15]
    assert (block.discarded, block.stood_still) == (1, True)
    times = iter([0, 10, 5])
    with pytest.raises(DeviceError, match="backwards"):
        time_calls(lambda: None, warmup=NONE, min_runs=1, min_ns=0, max_ns=10**9)


def test_a_system_that_slept_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgekit.bench import clock

    slept = iter([7, 5_000_007, 0, 1000])
    monkeypatch.setattr(clock, "_slept_ns", lambda: next(slept))
    block = time_calls(lambda: None, warmup=NONE, min_runs=3, min_ns=0, max_ns=10**9)
    assert (block.suspended_ns, block.stood_still) == (5_000_000, True)
    block = time_calls(lambda: None, warmup=NONE, min_runs=3, min_ns=0, max_ns=10**9)
    assert (block.suspended_ns, block.stood_still) == (0, False)  # the two clocks are read one after the other


def test_the_two_clocks_of_the_system_agree_while_it_is_awake() -> None:
    from edgekit.bench import clock

    before = clock._slept_ns()
    assert abs(clock._slept_ns() - before) < clock._SLEEP_SEEN_NS
