"""Which machine a worker is on: devices that are one machine under several names must not be timed at the same time."""

from __future__ import annotations

import functools
import platform
from hashlib import sha256
from pathlib import Path
from typing import Final

_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
"""Drawn by the kernel at each start: one for all the containers it runs, which share its cores, while
``/etc/machine-id`` differs between containers and is the same on boards that were set up from one image."""


@functools.cache
def machine_id() -> str:
    """A name of the running system, 16 hexadecimal digits; its host name's where the kernel gives none."""
    try:
        text = _BOOT.read_text(encoding="ascii").strip()
    except OSError:
        text = ""
    return sha256((text or f"{platform.node()} {platform.machine()}").encode()).hexdigest()[:16]
