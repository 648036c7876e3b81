"""Leases of the devices a bench runs on: one bench at a time on a board, whoever started it, and who else was there."""

from __future__ import annotations

import getpass
import logging
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

from edgekit.devices import WorkerClient
from edgekit.devices.stop import pause
from edgekit.errors import DeviceError
from edgekit.results.bench import Lease

log = logging.getLogger("edgekit")
SHARED: Final = ("ssh",)
"""Kinds of device that others may be using; on this machine the bench sees the other processes itself."""
WAIT_S: Final = 600.0
ASK_EVERY_S: Final = 2.0
SLACK_S: Final = 300.0
"""On top of the time that the cells take: starting, loading, what is timed apart."""


@contextmanager
def leased(
    doors: Sequence[WorkerClient],
    seconds: float,
    waiting: Callable[[], None] = lambda: None,
    wait_s: float = WAIT_S,
) -> Iterator[list[Lease]]:
    """Holds the lease of one machine; what became of it stands in the list once it is given up.

    Args:
        doors: a worker on each of its devices that is shared. It has one lease, whatever its names: the first takes it.
        seconds: how long the run takes about; a lease that is held longer may be taken over.
        waiting: called once when somebody else holds it.
        wait_s: how long is waited then.

    Raises:
        DeviceError: somebody else holds it, and did so all the time.
    """
    told: list[Lease] = []
    if not doors:
        yield told
        return
    client, name = doors[0], ", ".join(door.name for door in doors)
    row = _take(client, name, seconds, (waiting, wait_s))
    yield told
    try:
        row = replace(row, busy_after=client.environment()["busy"], kept=client.lease_is_mine())
    except DeviceError as error:  # what was timed before is still what it is
        row = replace(row, busy_after=None, kept=False, lost=str(error))
    client.close()  # the lease goes with its worker: others need not wait for the rest of a fleet
    told.append(row)
    _warn(row, name)


def _take(client: WorkerClient, name: str, seconds: float, patience: tuple[Callable[[], None], float]) -> Lease:
    waiting, wait_s = patience
    owner = f"{getpass.getuser()}@{socket.gethostname()}"
    started, said = time.monotonic(), False
    while True:
        holder = client.lease(owner, seconds + SLACK_S)
        waited = time.monotonic() - started
        if holder is None:
            break
        if waited >= wait_s:
            raise DeviceError(
                f"{name} is used by {_told(holder)}; it was waited for {waited:.0f} s, try it again later"
            )
        if not said:
            log.info("%s is used by %s; waiting", name, _told(holder))
            waiting()
            said = True
        pause(min(ASK_EVERY_S, wait_s))
    there = client.environment()
    cores, busy = there["cores"], there["busy"]
    return Lease(device=name, owner=owner, waited_s=round(waited, 1), cores=cores, busy_before=busy)


def _told(holder: Mapping[str, Any]) -> str:
    left = max(float(holder["left_s"]), 0.0)
    return f"{holder['owner']} for {holder['held_s']:.0f} s, and for at most {left:.0f} s more"


def _warn(row: Lease, name: str) -> None:
    """Says what may have spoilt the figures: a lease that was taken over, and threads that ran beside the bench."""
    if row.lost is not None:
        log.warning("%s: lost before it could be given up: %s", name, row.lost)
    elif not row.kept:
        log.warning("%s: somebody took the lease over while this ran; time it again", name)
    cores = row.cores
    for when, busy in (("before", row.busy_before), ("after", row.busy_after)):
        if isinstance(busy, int) and isinstance(cores, int) and 2 * busy >= cores:
            log.warning(
                "%s: %d other threads ran on its %d cores %s the run; its times may be too long",
                name,
                busy,
                cores,
                when,
            )
