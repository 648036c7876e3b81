"""When queries arrive, and how many of them wait at once. Pure functions over integer nanoseconds."""

from __future__ import annotations

import numpy as np

from edgekit.bench.clock import Samples


def poisson_arrivals(rate: float, duration_ns: int, seed: int) -> Samples:
    """Times from the start, rising, of a Poisson process of ``rate`` a second (MLPerf LoadGen's server scenario).

    The same seed gives the same times on every machine; at least one arrival.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    expected = rate * duration_ns / 1e9
    gaps = generator.exponential(1e9 / rate, int(expected + 6 * np.sqrt(expected) + 16))
    times = np.cumsum(gaps).astype(np.int64)
    return times[: max(int(np.searchsorted(times, duration_ns)), 1)]


def fixed_arrivals(rate: float, duration_ns: int) -> Samples:
    """Times from the start, one every ``1 / rate`` seconds: a sensor. At least one."""
    count = max(int(duration_ns * rate / 1e9), 1)
    times: Samples = np.rint(np.arange(count) * (1e9 / rate)).astype(np.int64)
    return times


def longest_line(arrivals_ns: Samples, latencies_ns: Samples) -> int:
    """Most queries that were in the house at once, the one being served included."""
    ends = arrivals_ns + latencies_ns
    waiting = np.arange(1, arrivals_ns.size + 1) - np.searchsorted(np.sort(ends), arrivals_ns, side="right")
    return int(waiting.max(initial=0))
