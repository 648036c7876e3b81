"""Who makes candidates: this process, several on this machine, or Ray's."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from edgekit.children import end_with_parent
from edgekit.options.optimize import OptimizeOptions
from edgekit.pipeline.search.evidence import Judge, Look, Reference, Typical, look
from edgekit.pipeline.search.steps import MadeFile, MakeOrder, make


class Makers(Protocol):
    """What runs orders; several at a time, ``count`` at most."""

    @property
    def count(self) -> int: ...

    def submit(self, order: MakeOrder) -> Future[MadeFile]:
        """Begins with an order, or puts it in the queue."""

    def first(self, futures: Sequence[Future[MadeFile]]) -> Future[MadeFile]:
        """One that is ready; waits for it."""

    def look(
        self, judge: Judge, file: MadeFile, label: str, references: Mapping[str, Reference], typical: Typical
    ) -> Look:
        """A short look at a file on every device."""


class _LooksHere:
    """This process looks at files, at one after the other."""

    def look(
        self, judge: Judge, file: MadeFile, label: str, references: Mapping[str, Reference], typical: Typical
    ) -> Look:
        return look(judge, file, label, references, typical)


class Here(_LooksHere):
    """This process: one order at a time, when it is asked for."""

    count = 1

    def submit(self, order: MakeOrder) -> Future[MadeFile]:
        future: Future[MadeFile] = Future()
        future.set_result(make(order))
        return future

    def first(self, futures: Sequence[Future[MadeFile]]) -> Future[MadeFile]:
        return futures[0]


class Processes(_LooksHere):
    """``count`` processes of this machine, which end with this one."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool = self._begun()

    def _begun(self) -> ProcessPoolExecutor:
        spawn = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self.count, mp_context=spawn, initializer=end_with_parent)

    def submit(self, order: MakeOrder) -> Future[MadeFile]:
        try:
            return self._pool.submit(make, order)
        except BrokenProcessPool:  # one of them was killed: the others have ended, too
            self._pool = self._begun()
            return self._pool.submit(make, order)

    def first(self, futures: Sequence[Future[MadeFile]]) -> Future[MadeFile]:
        done, _ = wait(futures, return_when=FIRST_COMPLETED)
        return next(future for future in futures if future in done)

    def close(self, *, at_once: bool) -> None:
        """Ends the processes; ``at_once``: what they are at is lost."""
        if at_once:
            for process in list((self._pool._processes or {}).values()):
                process.terminate()
        self._pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def makers(options: OptimizeOptions, folder: Path) -> Iterator[Makers]:
    """Those that the options ask for. ``folder``: of the study.

    Raises:
        UsageError, DeviceError: Ray's cluster cannot be used.
    """
    if options.workers is not None:
        from edgekit.pipeline.search.ray_cluster import RayMakers, connected

        with connected(options.workers) as connection:
            yield RayMakers(connection, options, folder)
    elif options.jobs == 1:
        yield Here()
    else:
        pool = Processes(options.jobs)
        try:
            yield pool
        except BaseException:
            pool.close(at_once=True)
            raise
        pool.close(at_once=False)
