"""The machine a bench runs on: its reference workload, and who else uses it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial

from edgekit.bench.others import between, snapshot
from edgekit.bench.reference_workload import ReferenceReadings
from edgekit.devices import open_worker
from edgekit.errors import DeviceError
from edgekit.results.bench import Others
from edgekit.types import DeviceSpec

log = logging.getLogger("edgekit")


@contextmanager
def reference_on(device: DeviceSpec, timeout_s: float) -> Iterator[Callable[[], ReferenceReadings | None]]:
    """A reference workload in a process of its own on ``device``, which starts beside what is done meanwhile.
    ``timeout_s``: longest wait for one of its answers.

    The call that this gives waits until it is there. None where it cannot be started, which is said, and on an emulated
    device, where nothing is timed.
    """
    if not device.evidence.has_time:
        yield lambda: None
        return
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(copy_context().run, partial(open_worker, device, timeout_s=timeout_s))

        def there() -> ReferenceReadings | None:
            try:
                client = starting.result()
            except DeviceError as error:
                log.warning(
                    "no reference workload on %s, blocks are not repeated on a slow machine: %s", device.name, error
                )
                return None
            return ReferenceReadings(client.reference_ns, int(client.hello["pid"]))

        try:
            yield there
        finally:
            if starting.exception() is None:  # else it was said
                starting.result().close()


class Watch:
    """Who else used the processor from its making to :meth:`others`; ``own``: the pids that are ours."""

    def __init__(self, own: Iterable[int | None]) -> None:
        self._own = {os.getpid(), *(pid for pid in own if pid is not None)}
        self._before = snapshot()

    def others(self) -> Others:
        """What they used."""
        return between(self._before, snapshot(), self._own)
