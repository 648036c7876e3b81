"""The one clock of edgekit: nothing else reads ``perf_counter_ns``. Runs in the worker, on the device.

Standard library and numpy only.
"""

from __future__ import annotations

import gc
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter_ns

import numpy as np
from numpy.typing import NDArray

from edgekit.bench.steady import FEWEST, is_steady
from edgekit.errors import DeviceError

Samples = NDArray[np.int64]

STALL_NS, STALL_TIMES = 500_000_000, 50
"""A call that took longer than both half a second and 50 times the median of its block was not the model's doing: the
process or the whole machine stood still."""
_FIRST_BUFFER = 4096
_LARGEST_BUFFER = 1 << 21
_SLEEP_SEEN_NS = 1_000_000
"""The two clocks are read one after the other; less than this between them is not a sleep."""


def now_ns() -> int:
    """The clock, in nanoseconds from an arbitrary origin; only differences mean anything."""
    return perf_counter_ns()


@dataclass(frozen=True, slots=True)
class WarmupRule:
    """Calls before the timed ones: at least ``min_runs`` and ``min_ns``, then until steady, at most ``max_ns``.

    Steady: see :func:`edgekit.bench.steady.is_steady`, asked again whenever there are a quarter more calls.
    ``WarmupRule(0, 0, 0)`` means no warm-up.
    """

    min_runs: int
    min_ns: int
    max_ns: int


@dataclass(frozen=True, slots=True)
class TimedBlock:
    """One uninterrupted run of calls: nanoseconds of each, in order. ``warmup_ns`` are not part of any figure.

    Attributes:
        suspended_ns: time in which the whole system slept during the block (Linux; 0 where it cannot be seen).
        discarded: samples that were left out since the clock ran backwards.
    """

    samples_ns: Samples
    warmup_ns: Samples
    suspended_ns: int = 0
    discarded: int = 0

    @property
    def stood_still(self) -> bool:
        """Whether the system slept, the clock jumped, or a call took far longer than any call of a model does."""
        longest, median = float(self.samples_ns.max()), float(np.median(self.samples_ns))
        return bool(self.suspended_ns or self.discarded or (longest > STALL_NS and longest > STALL_TIMES * median))


def time_calls(
    call: Callable[[], object], *, warmup: WarmupRule, min_runs: int, min_ns: int, max_ns: int
) -> TimedBlock:
    """Times ``call`` one by one, after warm-up, with garbage collection off.

    Runs until both ``min_runs`` calls and ``min_ns`` of time are reached, or until ``max_ns`` (then with fewer
    calls, at least one). The buffer of samples is laid out before; between two calls only integers are made.

    Raises:
        ValueError: ``min_runs`` below 1.
        DeviceError: the clock ran backwards in every call.
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
        slept = _slept_ns()
        samples = _timed(call, capacity, min_runs, min_ns, max_ns)
        slept = _slept_ns() - slept
    finally:
        if collecting:
            gc.enable()
    forwards = samples[samples >= 0]
    if not forwards.size:
        raise DeviceError("the clock of this device runs backwards; nothing can be timed on it")
    discarded = int(samples.size - forwards.size)
    return TimedBlock(forwards, before, slept if slept > _SLEEP_SEEN_NS else 0, discarded)


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


def _slept_ns() -> int:
    """Nanoseconds the system has slept since it started: Linux's clock with that time minus its clock without."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.clock_gettime_ns(time.CLOCK_MONOTONIC)


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
    check_at = max(rule.min_runs, FEWEST)
    while True:
        started = perf_counter_ns()
        if started - first >= rule.max_ns:
            break
        enough = len(samples) >= rule.min_runs and started - first >= rule.min_ns
        if enough and len(samples) >= check_at:
            if is_steady(samples):
                break
            check_at = len(samples) + max(len(samples) // 4, 1)
        started = perf_counter_ns()
        call()
        samples.append(perf_counter_ns() - started)
    return np.array(samples, dtype=np.int64)
