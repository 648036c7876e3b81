"""Serves queries at given times with one model, in the worker; latency counts from the scheduled time.

So a query that had to wait, because the model was busy or because this program woke late, is as slow as its user found
it (coordinated omission; MLPerf LoadGen, server scenario).
"""

from __future__ import annotations

import gc
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from time import sleep
from typing import Protocol

import numpy as np

from edgekit.bench.clock import Samples, now_ns

SPIN_NS = 1_000_000
"""The last millisecond before a query is waited for awake: a sleeping process may be woken later than it asked for."""


class Clock(Protocol):
    """What :func:`serve` needs of time; a test gives another."""

    def now(self) -> int:
        """Nanoseconds from an arbitrary origin."""

    def sleep(self, duration_ns: int) -> None:
        """Waits about so long."""


class RealClock:
    """The clock of this machine."""

    def now(self) -> int:
        return now_ns()

    def sleep(self, duration_ns: int) -> None:
        sleep(duration_ns / 1e9)


@dataclass(frozen=True, slots=True)
class Served:
    """One pass: per query, in the order of arrival, nanoseconds from its scheduled time to its end, and in the model.

    ``given_up``: queries that were never served, since the pass had to end while the line still grew.
    """

    latency_ns: Samples
    service_ns: Samples
    given_up: int


def serve(call: Callable[[], object], arrivals_ns: Samples, *, give_up_ns: int, clock: Clock | None = None) -> Served:
    """Calls ``call`` for each arrival (times from now, rising), one at a time, in order; garbage collection off.

    Once the pass is ``give_up_ns`` behind its last arrival the rest is not served any more.
    """
    time = clock or RealClock()
    count = int(arrivals_ns.size)
    latencies, services = array("q", bytes(8 * count)), array("q", bytes(8 * count))
    times = arrivals_ns.tolist()
    last = times[-1] + give_up_ns
    collecting = gc.isenabled()
    gc.disable()
    served = 0
    try:
        start = time.now()
        for k, scheduled in enumerate(times):
            now = time.now() - start
            if now > last:
                break
            while now < scheduled:
                if scheduled - now > SPIN_NS:
                    time.sleep(scheduled - now - SPIN_NS)
                now = time.now() - start
            began = time.now() - start
            call()
            ended = time.now() - start
            latencies[k], services[k] = ended - scheduled, ended - began
            served += 1
    finally:
        if collecting:
            gc.enable()
    done = (np.frombuffer(latencies, np.int64)[:served].copy(), np.frombuffer(services, np.int64)[:served].copy())
    return Served(*done, count - served)
