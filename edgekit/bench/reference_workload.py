"""A fixed piece of work, timed between blocks: when it is slow, the machine is, whatever the model does.

As in Android's Jetpack Benchmark (``ThrottleDetector``: a matrix translation between measurements, 10% above its first
time means throttled, pause and do it over). It knows nothing of the blocks, so that repeating what it calls disturbed
does not select blocks by their own time. It runs in a process of its own on the device: a worker's memory, heap and
peak stay the model's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from edgekit.bench.clock import now_ns
from edgekit.errors import DeviceError
from edgekit.results.bench import ReferenceFigures

log = logging.getLogger("edgekit")

LIMIT = 0.10
"""A reading this share above the run's own quiet level means that the machine is disturbed (Jetpack's figure)."""
QUIET_PERCENTILE = 20.0
"""Of all readings of a run; the quiet level. Higher than the minimum, which a single lucky reading would set."""
_LANES, _PASSES = 4096, 160
_COPIED = 1 << 21
_REPEATS = 3


class ReferenceWorkload:
    """The fixed work: exponentials of 16 KiB that stay in the first cache, then a copy of 8 MiB that leaves the second.

    About half a millisecond on a server core. All memory is laid out once; a reading allocates nothing.
    """

    def __init__(self) -> None:
        self._values = np.linspace(-1.0, 1.0, _LANES, dtype=np.float32)
        self._out = np.empty_like(self._values)
        self._from = np.ones(_COPIED, dtype=np.float32)
        self._to = np.zeros(_COPIED, dtype=np.float32)

    def read_ns(self) -> int:
        """Nanoseconds of the work: the least of a few, so that one interruption is not taken for a slow machine."""
        return min(self._once() for _ in range(_REPEATS))

    def _once(self) -> int:
        started = now_ns()
        for _ in range(_PASSES):
            np.exp(self._values, out=self._out)
        np.copyto(self._to, self._from)
        return now_ns() - started


class ReferenceReadings:
    """Readings of one run and what they say.

    Args:
        read: nanoseconds of the reference work on the device.
        pid: the process that does it, if there is one.
    """

    def __init__(self, read: Callable[[], int], pid: int | None = None) -> None:
        self._read = read
        self.pid = pid
        self.readings: list[int] = []
        self.lost = ""
        self.paused_ns = 0
        self.repeated = 0

    def take(self) -> int:
        """One more reading, in nanoseconds; 0, which is never slow, once the device gives none any more."""
        if self.lost:
            return 0
        try:
            self.readings.append(self._read())
        except DeviceError as error:
            self.lost = str(error)
            log.warning("the reference workload is lost, so no block is repeated for a slow machine: %s", error)
            return 0
        return self.readings[-1]

    @property
    def quiet_ns(self) -> float:
        return float(np.percentile(self.readings, QUIET_PERCENTILE)) if self.readings else float("inf")

    def slow(self, reading: int) -> bool:
        return reading > (1 + LIMIT) * self.quiet_ns

    def figures(self) -> ReferenceFigures:
        """How often it read slow, what was waited and repeated for that."""
        return ReferenceFigures(
            readings=len(self.readings),
            quiet_ms=self.quiet_ns / 1e6 if self.readings else None,
            slow=sum(self.slow(reading) for reading in self.readings),
            limit=LIMIT,
            paused_ms=self.paused_ns / 1e6,
            repeated_blocks=self.repeated,
            lost=self.lost or None,
        )
