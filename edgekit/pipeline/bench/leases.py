"""Leases of the devices a bench runs on: one bench at a time on a board, whoever started it, and who else was there."""

from __future__ import annotations

import getpass
import logging
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from edgekit.devices import WorkerClient, open_worker
from edgekit.errors import DeviceError
from edgekit.types import DeviceSpec

log = logging.getLogger("edgekit")
SHARED: Final = ("ssh",)
"""Kinds of device that others may be using; on this machine the bench sees the other processes itself."""
WAIT_S: Final = 600.0
ASK_EVERY_S: Final = 2.0
SLACK_S: Final = 300.0
"""On top of the time that the cells take: starting, loading, what is timed apart."""


@contextmanager
def leased(devices: Sequence[DeviceSpec], seconds: float, wait_s: float = WAIT_S) -> Iterator[list[dict[str, Any]]]:
    """Holds the leases of those devices that are shared; what became of each stands in the list once they are given up.

    Args:
        devices: the devices of a run; a device that occurs twice is leased once.
        seconds: how long the run takes about; a lease that is held longer may be taken over.
        wait_s: how long is waited for a device that somebody else holds.

    Raises:
        DeviceError: somebody else holds a device, and did so all the time.
    """
    told: list[dict[str, Any]] = []
    shared = {device.name: device for device in devices if device.kind in SHARED}
    with ExitStack() as stack:
        held = [(client := stack.enter_context(open_worker(device)), _take(client, name, seconds, wait_s))
                for name, device in shared.items()]  # fmt: skip
        yield told
        for (client, row), name in zip(held, shared, strict=True):
            row |= {"busy_after": client.environment()["busy"], "kept": client.lease_is_mine()}
            told.append(row)
            _warn(row, name)


def _take(client: WorkerClient, name: str, seconds: float, wait_s: float) -> dict[str, Any]:
    owner = f"{getpass.getuser()}@{socket.gethostname()}"
    started = time.monotonic()
    while True:
        holder = client.lease(owner, seconds + SLACK_S)
        waited = time.monotonic() - started
        if holder is None:
            break
        if waited >= wait_s:
            raise DeviceError(
                f"{name} is used by {_told(holder)}; it was waited for {waited:.0f} s, try it again later"
            )
        if waited < ASK_EVERY_S:
            log.info("%s is used by %s; waiting", name, _told(holder))
        time.sleep(min(ASK_EVERY_S, wait_s))
    there = client.environment()
    return {
        "device": name,
        "owner": owner,
        "waited_s": round(waited, 1),
        "cores": there["cores"],
        "busy_before": there["busy"],
    }


def _told(holder: Mapping[str, Any]) -> str:
    left = max(float(holder["left_s"]), 0.0)
    return f"{holder['owner']} for {holder['held_s']:.0f} s, and for at most {left:.0f} s more"


def _warn(row: Mapping[str, Any], name: str) -> None:
    """Says what may have spoilt the figures: a lease that was taken over, and threads that ran beside the bench."""
    if not row["kept"]:
        log.warning("%s: somebody took the lease over while this ran; time it again", name)
    for when in ("before", "after"):
        busy, cores = row[f"busy_{when}"], row["cores"]
        if isinstance(busy, int) and isinstance(cores, int) and 2 * busy >= cores:
            log.warning(
                "%s: %d other threads ran on its %d cores %s the run; its times may be too long",
                name,
                busy,
                cores,
                when,
            )
