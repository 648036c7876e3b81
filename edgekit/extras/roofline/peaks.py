"""What this machine can do, measured: multiply-accumulates of float32 matrices, and bytes through memory.

numpy only: its BLAS for the products, a copy for the memory. Each thread of Python has work of its own (numpy lets go
of the interpreter), with a BLAS of one thread (the worker sets that), so that the threads are those of the cell.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from edgekit.bench.clock import now_ns

SIDE = 384
"""Of the square matrices: three of them are 1.7 MB, for the second level of cache."""
LARGE_BYTES = 64 << 20
"""A copy, by each thread, beyond the last level of cache of what edgekit runs on."""
SMALLEST_BYTES = 16 << 10
_MEASURED_NS = 400_000_000
_PIECE_NS = 200_000
"""A piece of work that is timed as one: long against the clock, short against the turns that a busy system gives."""


def measure(threads: int, working_set_bytes: int) -> dict[str, float]:
    """The fastest of many short pieces of work each: a peak is what nothing disturbed, also on a busy machine.

    ``flops_per_s`` of float32 products; ``bytes_per_s`` read and written by a copy of ``working_set_bytes`` in all, the
    bandwidth of the level of memory where the model lives; ``memory_bytes_per_s`` of one that fits no cache.
    """
    generator = np.random.default_rng(0)

    def product() -> Callable[[], int]:
        a, b = (generator.random((SIDE, SIDE), dtype=np.float32) for _ in range(2))
        out = np.empty_like(a)

        def run() -> int:
            np.matmul(a, b, out=out)
            return 2 * SIDE**3

        return run

    def copy(size: int) -> Callable[[], int]:
        count = max(size // 2, SMALLEST_BYTES) // 8
        source, target = np.ones(count), np.zeros(count)

        def run() -> int:
            np.copyto(target, source)
            return 16 * count

        return run

    return {
        "flops_per_s": _rate(product, threads),
        "bytes_per_s": _rate(lambda: copy(min(working_set_bytes, LARGE_BYTES) // threads), threads),
        "memory_bytes_per_s": _rate(lambda: copy(LARGE_BYTES), threads),
    }


def _rate(make: Callable[[], Callable[[], int]], threads: int) -> float:
    """Work a second: of each thread its fastest piece while all of them work, added up."""
    jobs = [make() for _ in range(threads)]

    def fastest(job: Callable[[], int]) -> float:
        job()
        started = now_ns()
        job()
        times = max(1, _PIECE_NS // max(now_ns() - started, 1))
        best, begun = 0.0, now_ns()
        while now_ns() - begun < _MEASURED_NS:
            started = now_ns()
            done = sum(job() for _ in range(times))
            best = max(best, done / ((now_ns() - started) / 1e9))
        return best

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(fastest, jobs))
