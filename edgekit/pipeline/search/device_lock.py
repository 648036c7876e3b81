"""One job a device: who looks at a file, or times the front, holds the device until that is done."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from edgekit.devices import open_worker
from edgekit.devices.device import transport_for
from edgekit.devices.identity import machine_id
from edgekit.locks import locked
from edgekit.pipeline.bench.leases import SHARED, leased
from edgekit.pipeline.checkpoint_log import state_folder
from edgekit.types import DeviceSpec

LOOK_S = 600.0
"""A look takes less; a lease that is held longer may be taken over."""
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")


def key_of(device: DeviceSpec) -> str:
    """A name of the machine behind ``device``: those of this machine share its cores, so they share the name."""
    text = machine_id() if transport_for(device).here else f"{device.kind}-{device.address}"
    return _NOT_IN_A_NAME.sub("-", text)


@contextmanager
def held(device: DeviceSpec, *, lease: bool = True) -> Iterator[None]:
    """The device, for this process alone: others of this user on this machine wait, and where other machines may use it
    it is leased.

    Args:
        lease: False where what is done in the block takes the lease itself, as a bench does.

    Raises:
        DeviceError: another machine holds the lease, and did so all the time that was waited.
    """
    with ExitStack() as stack:
        place = state_folder() / "devices" / f"{key_of(device)}.lock"
        stack.enter_context(locked(place, f"{device.name} is in use by another search; waiting"))
        if lease and device.kind in SHARED:
            client = open_worker(device)
            stack.callback(client.close)
            stack.enter_context(leased([client], LOOK_S))
        yield
