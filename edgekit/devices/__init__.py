"""Where models run: devices by name, the worker program, and runners that live in a worker."""

from __future__ import annotations

from edgekit.devices.client import LoadedInfo, WorkerClient
from edgekit.devices.device import list_devices, parse_device, with_runtime
from edgekit.devices.runner import kept_workers, open_runner, open_worker

__all__ = [
    "LoadedInfo",
    "WorkerClient",
    "kept_workers",
    "list_devices",
    "open_runner",
    "open_worker",
    "parse_device",
    "with_runtime",
]
