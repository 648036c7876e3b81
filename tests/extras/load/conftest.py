"""What a queue with one server does, for tests that know the answer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgekit.bench.clock import Samples

Queue = Callable[[Samples, int], Samples]


@pytest.fixture
def queued() -> Queue:
    """``queued(arrivals_ns, service_ns)``: each query's latency, served one at a time in the order of arrival.

    Lindley's recursion (1952, 10.1017/S0305004100027638): a query starts when it has arrived and the one before has
    ended. For Poisson arrivals and a constant service time s at load r the mean wait is r s / (2 (1 - r)) (M/D/1).
    """

    def latencies(arrivals_ns: Samples, service_ns: int) -> Samples:
        before = service_ns * np.arange(arrivals_ns.size)
        starts: Samples = before + np.maximum.accumulate(arrivals_ns - before)
        return starts + service_ns - arrivals_ns

    return latencies
