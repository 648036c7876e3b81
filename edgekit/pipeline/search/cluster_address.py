"""Where a cluster of Ray's is looked for, checked before anything is made."""

from __future__ import annotations

import importlib.util
import socket
from typing import Final

from edgekit.errors import DeviceError, RuntimeMissingError, UsageError
from edgekit.options.optimize import OptimizeOptions

LOCAL: Final = "ray"
"""A cluster of Ray's on this machine, for the time of the command."""
_ANSWER_S: Final = 10.0


def check_workers(options: OptimizeOptions) -> None:
    """Whether there can be the makers that the options ask for, before anything is made.

    Raises:
        UsageError: the options contradict each other, or name no address.
        RuntimeMissingError: Ray is not installed.
        DeviceError: nothing answers at the address; Ray itself would go on asking for ever.
    """
    address = options.workers
    if address is None:
        return
    if options.jobs > 1:
        raise UsageError("--jobs are processes of this machine, --workers Ray's; give one")
    if address not in (LOCAL, "auto") and not address.rpartition(":")[2].isdecimal():
        raise UsageError(f"--workers {address}: give ray, ray://HOST:PORT, HOST:PORT or auto")
    if importlib.util.find_spec("ray") is None:
        raise RuntimeMissingError("--workers needs ray, which is not installed: pip install 'edgekit[ray]'")
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host:
        try:
            socket.create_connection((host.strip("[]"), int(port)), _ANSWER_S).close()
        except OSError as error:
            raise unanswered(address, error.strerror or str(error)) from error


def unanswered(address: str, why: str) -> DeviceError:
    """The error for an address at which there is no cluster."""
    return DeviceError(
        f"no Ray cluster answers at {address}: {why}; start one there with 'ray start --head', with the same Ray and "
        "Python as here"
    )
