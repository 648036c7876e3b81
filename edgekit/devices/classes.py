"""``class:phone-2gb``: this machine, held to the memory and the cores of a class of devices.

A class of microcontrollers, such as ``mcu-256k``, is the device ``mcu`` with so much memory.

It proves whether a model fits and runs in that memory on that many threads; its evidence is ``constrained``. Times are
those of this machine's cores and say nothing of the speed of such a device.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Final

from edgekit.devices.local import LocalTransport
from edgekit.devices.transport import Start
from edgekit.errors import UnsupportedError, UsageError
from edgekit.types import DeviceSpec, Evidence

_HELD: Final = """\
import os, sys
os.sched_setaffinity(0, {int(core) for core in sys.argv[1].split(",")})
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True, slots=True)
class DeviceClass:
    """What one process gets there: about half of a device's memory where other programs run too, three quarters of a
    board's. The interpreter's own data count (about 100 MB with a runtime)."""

    memory_bytes: int
    cores: int
    what: str


CLASSES: Final[Mapping[str, DeviceClass]] = {
    "phone-2gb": DeviceClass(1 << 30, 4, "a phone with 2 GB, 4 cores for one program"),
    "phone-4gb": DeviceClass(2 << 30, 4, "a phone with 4 GB, 4 fast cores"),
    "board-512mb": DeviceClass(384 << 20, 4, "a board with 512 MB, such as a Raspberry Pi Zero 2 W"),
    "board-1gb": DeviceClass(768 << 20, 4, "a board with 1 GB, such as a Raspberry Pi 3"),
    "board-1core": DeviceClass(384 << 20, 1, "a board with 512 MB and one core"),
}


MICROCONTROLLERS: Final[Mapping[str, tuple[str, str]]] = {
    "mcu-64k": ("64k,256k", "a small microcontroller: 64 KB of RAM, 256 KB of flash"),
    "mcu-256k": ("256k,1m", "an nRF52840, as on the Arduino Nano 33 BLE Sense: 256 KB of RAM, 1 MB of flash"),
    "mcu-640k": ("640k,2m", "an STM32L4R5ZI, the reference board of MLPerf Tiny: 640 KB of RAM, 2 MB of flash"),
}
"""Class -> the address of ``mcu:``, and what it is."""


def parse_class(name: str) -> DeviceClass:
    """A class by its name, but for those of microcontrollers.

    Raises:
        UsageError: no such class; the message lists what there is.
    """
    if name not in CLASSES:
        known = "; ".join(f"{key} ({found.what})" for key, found in CLASSES.items())
        known += "; " + "; ".join(f"{key} ({what})" for key, (_, what) in MICROCONTROLLERS.items())
        raise UsageError(f"no class of devices is called {name!r}; there are: {known}")
    return CLASSES[name]


class ClassTransport(LocalTransport):
    """A worker with this interpreter, held to a class's memory and cores.

    Raises:
        UnsupportedError: this machine has fewer cores than the class: a run with fewer would not be of that class.
    """

    spelling: ClassVar[str] = "class:phone-2gb"
    description: ClassVar[str] = (
        "this machine held to the memory and cores of a class of devices: what fits there, not how fast"
    )
    evidence: ClassVar[Evidence] = Evidence.CONSTRAINED

    @classmethod
    def check_address(cls, address: str) -> None:
        if address not in MICROCONTROLLERS:
            parse_class(address)

    @classmethod
    def resolve(cls, spec: DeviceSpec) -> DeviceSpec:
        if spec.address not in MICROCONTROLLERS:
            return spec
        return replace(spec, kind="mcu", address=MICROCONTROLLERS[spec.address][0], evidence=Evidence.EMULATED)

    def __init__(self, spec: DeviceSpec) -> None:
        super().__init__(spec)
        self.held = parse_class(spec.address)
        self.memory_limit_bytes = self.held.memory_bytes
        self._cores = sorted(os.sched_getaffinity(0))
        if len(self._cores) < self.held.cores:
            raise UnsupportedError(
                f"class {spec.address} has {self.held.cores} cores, this process may use {len(self._cores)}: what runs "
                "here would not show what runs there; take a class with fewer cores, or a machine with more"
            )

    def command(self, start: Start) -> list[str]:
        cores = ",".join(map(str, self._cores[: self.held.cores]))
        return [sys.executable, "-S", "-c", _HELD, cores, *super().command(start)]
