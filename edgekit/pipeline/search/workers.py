"""Who makes candidates: this process, several on this machine, or Ray's."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from typing import Protocol

from edgekit.options.optimize import OptimizeOptions
from edgekit.pipeline.search.steps import MadeFile, MakeOrder, make


class Makers(Protocol):
    """What runs orders; several at a time, ``count`` at most."""

    count: int

    def submit(self, order: MakeOrder) -> Future[MadeFile]:
        """Begins with an order, or puts it in the queue."""

    def first(self, futures: Sequence[Future[MadeFile]]) -> Future[MadeFile]:
        """One that is ready; waits for it."""


class Here:
    """This process: one order at a time, when it is asked for."""

    count = 1

    def submit(self, order: MakeOrder) -> Future[MadeFile]:
        future: Future[MadeFile] = Future()
        future.set_result(make(order))
        return future

    def first(self, futures: Sequence[Future[MadeFile]]) -> Future[MadeFile]:
        return futures[0]


class Processes:
    """``count`` processes of this machine."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool = ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"))

    def submit(self, order: MakeOrder) -> Future[MadeFile]:
        return self._pool.submit(make, order)

    def first(self, futures: Sequence[Future[MadeFile]]) -> Future[MadeFile]:
        done, _ = wait(futures, return_when=FIRST_COMPLETED)
        return next(future for future in futures if future in done)

    def close(self) -> None:
        """Ends the processes; what they are at is lost."""
        for process in list((self._pool._processes or {}).values()):
            process.terminate()
        self._pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def makers(options: OptimizeOptions) -> Iterator[Makers]:
    """Those that the options ask for."""
    if options.jobs == 1:
        yield Here()
        return
    pool = Processes(options.jobs)
    try:
        yield pool
    finally:
        pool.close()
