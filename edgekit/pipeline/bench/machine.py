"""The machine a bench runs on: its reference workload, what is known of its noise, and who else uses it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from typing import Any

import numpy as np

from edgekit.bench.environment import environment
from edgekit.bench.noisefloor import NOISY, Ledger, NoiseFloor, process_record
from edgekit.bench.others import between, snapshot
from edgekit.bench.reference_workload import ReferenceReadings
from edgekit.bench.replicas import replicated
from edgekit.bench.result import CellResult
from edgekit.bench.statistics import block_medians
from edgekit.devices import open_worker
from edgekit.errors import DeviceError
from edgekit.results.bench import Others
from edgekit.types import DeviceSpec
from edgekit.version import __version__

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


def machine_ledger(found: Mapping[str, Any] | None = None) -> Ledger:
    """The noise records of a machine with its versions of the runtimes; ``found``: its environment, None: ours."""
    found = environment() if found is None else found
    name = {key: found[key] for key in ("cpu", "cpu_id", "cores", "machine", "versions")}
    return Ledger({**name, "edgekit": __version__})


def learn(ledger: Ledger, results: Sequence[CellResult], floor: NoiseFloor) -> None:
    """Adds what a finished run says about the noise of the machine.

    Between processes: from all cells that were timed together. Between occasions: the p50 of each file in its setting;
    those at which the machine was noisy, which the result says of itself, are kept apart.
    """
    timed = [result for result in results if result.timed]
    whole = [result for result in timed if len(result.blocks) == max(len(other.blocks) for other in timed)]
    logs = [np.log(block_medians(result.blocks)) for result in whole]
    visits: dict[str, tuple[float, float, float]] = {}
    for result in timed:
        noise, setting = result.noise, result.setting
        if noise is None or len(set(result.owners)) < 2:
            continue
        found = replicated(np.log(block_medians(result.blocks)), result.owners, floor)
        where = setting.runtime, setting.device.name, setting.threads, setting.batch, setting.scenario
        visits.setdefault(
            " ".join(map(str, (setting.sha256, *where))) + (NOISY if noise.verdict == "noisy" else ""),
            (time.time(), found.centre, found.error**2),
        )
    ledger.add(process_record(logs, [result.owners for result in whole]), visits)


class Watch:
    """Who else used the processor from its making to :meth:`others`; ``own``: the pids that are ours."""

    def __init__(self, own: Iterable[int | None]) -> None:
        self._own = {os.getpid(), *(pid for pid in own if pid is not None)}
        self._before = snapshot()

    def others(self) -> Others:
        """What they used."""
        return between(self._before, snapshot(), self._own)
