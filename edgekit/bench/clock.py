"""The one clock of edgekit: nothing else reads ``perf_counter_ns``. Runs in the worker, on the device.

Standard library and numpy only.
"""

from __future__ import annotations

import gc
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.int64]

STEADY_WITHIN = 0.05
"""Warm-up is over when the medians of its last two quarters differ by at most this share."""
_FIRST_BUFFER = 4096
_LARGEST_BUFFER = 1 << 21


def now_ns() -> int:
    """The clock, in nanoseconds from an arbitrary origin; only differences mean anything."""
    return perf_counter_ns()


@dataclass(frozen=True, slots=True)
class WarmupRule:
    """Calls before the timed ones: at least ``min_runs`` and ``min_ns``, then until steady, at most ``max_ns``.

    Steady: the medians of the last two quarters of the warm-up differ by at most :data:`STEADY_WITHIN`.
    ``WarmupRule(0, 0, 0)`` means no warm-up.
    """

    min_runs: int
    min_ns: int
    max_ns: int


@dataclass(frozen=True, slots=True)
class Block:
    """One uninterrupted run of calls: nanoseconds of each, in order. ``warmup_ns`` are not part of any figure."""

    samples_ns: Samples
    warmup_ns: Samples


def time_calls(call: Callable[[], object], *, warmup: WarmupRule, min_runs: int, min_ns: int, max_ns: int) -> Block:
    """Times ``call`` one by one, after warm-up, with garbage collection off.

    Runs until both ``min_runs`` calls and ``min_ns`` of time are reached, or until ``max_ns`` (then with fewer
    calls, at least one). The buffer of samples is laid out before; between two calls only integers are made.

    Raises:
        ValueError: ``min_runs`` below 1.
        Exception: whatever ``call`` raises; nothing of the block is kept then.
    """
    if min_runs < 1:
        raise ValueError(f"min_runs is {min_runs}; a block needs at least one timed call")
    collecting = gc.isenabled()
    gc.disable()
    try:
        before = _until_steady(call, warmup)
        typical = float(np.median(before[-64:])) if before.size else 0.0
        expected = min_ns / typical if typical > 0 else 0.0
        capacity = int(min(max(2 * expected, min_runs, _FIRST_BUFFER), _LARGEST_BUFFER))
        samples = _timed(call, capacity, min_runs, min_ns, max_ns)
    finally:
        if collecting:
            gc.enable()
    return Block(samples_ns=samples, warmup_ns=before)


def time_once(call: Callable[[], Any]) -> tuple[Any, int]:
    """The result of one call and its nanoseconds (loading, first inference)."""
    started = perf_counter_ns()
    result = call()
    return result, perf_counter_ns() - started


def repeated(call: Callable[[], object], count: int) -> Callable[[], object]:
    """``call`` so many times in a row as one call; ``call`` itself for 1."""
    if count == 1:
        return call
    times = (None,) * count

    def calls() -> None:
        for _ in times:
            call()

    return calls


def clock_cost_ns(repeats: int = 2000) -> int:
    """What two readings of the clock in a row cost: the part of every sample that is the clock's own (median, ns)."""
    buffer = array("q", bytes(8 * repeats))
    now = perf_counter_ns
    for index in range(repeats):
        started = now()
        buffer[index] = now() - started
    return int(np.median(np.frombuffer(buffer, dtype=np.int64)))


def _timed(call: Callable[[], object], capacity: int, min_runs: int, min_ns: int, max_ns: int) -> Samples:
    now = perf_counter_ns
    buffer = array("q", bytes(8 * capacity))  # written once here, so that no page is first touched while timing
    count = 0
    first = now()
    while True:
        started = now()
        call()
        ended = now()
        buffer[count] = ended - started
        count += 1
        elapsed = ended - first
        if elapsed >= max_ns or (elapsed >= min_ns and count >= min_runs):
            break
        if count == capacity:  # between two samples: costs time of the block, of no sample
            buffer.extend(array("q", bytes(8 * capacity)))
            capacity *= 2
    return np.frombuffer(buffer, dtype=np.int64)[:count].copy()


def _until_steady(call: Callable[[], object], rule: WarmupRule) -> Samples:
    if rule.max_ns <= 0:
        return np.empty(0, dtype=np.int64)
    samples: list[int] = []
    first = perf_counter_ns()
    check_at = max(rule.min_runs, 8)
    while True:
        started = perf_counter_ns()
        if started - first >= rule.max_ns:
            break
        enough = len(samples) >= rule.min_runs and started - first >= rule.min_ns
        if enough and len(samples) >= check_at:
            if _steady(samples):
                break
            check_at = len(samples) + max(len(samples) // 4, 1)
        started = perf_counter_ns()
        call()
        samples.append(perf_counter_ns() - started)
    return np.array(samples, dtype=np.int64)


def _steady(samples: list[int]) -> bool:
    quarter = len(samples) // 4
    last = float(np.median(samples[-quarter:]))
    before = float(np.median(samples[-2 * quarter : -quarter]))
    return abs(last - before) <= STEADY_WITHIN * before
