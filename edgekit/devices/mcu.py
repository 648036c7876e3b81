"""``mcu``: TensorFlow Lite for Microcontrollers on this machine; ``mcu:256k``, ``mcu:256k,1m``: with no more memory for
tensors (RAM), and for the file (flash).

It proves that a file loads and runs there, what it computes, and what memory that takes; its evidence is ``emulated``,
and no figure in seconds comes from it.
"""

from __future__ import annotations

import re
from typing import ClassVar, Final

from edgekit.devices import measures
from edgekit.devices.client import WorkerClient
from edgekit.devices.local import LocalTransport
from edgekit.devices.transport import Start
from edgekit.documents import typed
from edgekit.environments import TFLM
from edgekit.errors import RuntimeMissingError, UsageError
from edgekit.results.loaded import Arena, Budget
from edgekit.runtime.tflm import ARENA_S, BUDGET
from edgekit.types import DeviceSpec, Evidence

_UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20}


def parse_budget(address: str) -> Budget:
    """``256k`` or ``256k,1m``: bytes of the arena, and of the file; nothing is limited where it is empty.

    Raises:
        UsageError: it is something else.
    """
    sizes = address.split(",") if address else []
    if len(sizes) > 2:
        raise UsageError(f"device 'mcu:{address}' has {len(sizes)} sizes; give mcu, mcu:ARENA or mcu:ARENA,FLASH")
    limits = [*map(parse_size, sizes), None, None]
    return Budget(arena_bytes=limits[0], flash_bytes=limits[1])


def parse_size(text: str) -> int:
    """Bytes: ``65536``, ``64k`` (times 1,024), ``1m``.

    Raises:
        UsageError: it is something else.
    """
    found = re.fullmatch(r"(\d{1,9})([km]?)(b?)", text.strip().lower())
    if found is None or int(found[1]) == 0:
        raise UsageError(f"{text!r} is not a size; give bytes, or 64k for 65,536, or 1m for 1,048,576")
    return int(found[1]) * _UNITS[found[2]]


class McuTransport(LocalTransport):
    """A worker with the interpreter of :data:`~edgekit.environments.TFLM`, which runs ``tflm`` alone.

    Raises:
        RuntimeMissingError: there is no such interpreter.
    """

    spelling: ClassVar[str] = "mcu[:ARENA[,FLASH]]"
    description: ClassVar[str] = (
        "TensorFlow Lite for Microcontrollers on this machine: what fits and what it computes, never how fast"
    )
    evidence: ClassVar[Evidence] = Evidence.EMULATED
    runtime: ClassVar[str] = "tflm"

    @classmethod
    def check_address(cls, address: str) -> None:
        parse_budget(address)

    def __init__(self, spec: DeviceSpec) -> None:
        super().__init__(spec)
        python = TFLM.python()
        if python is None:
            raise RuntimeMissingError(
                f"device {spec.name!r} needs tflite-micro, which is not installed: {TFLM.install}"
            )
        self._python = python

    def environment(self, start: Start) -> dict[str, str]:
        environment = super().environment(start)
        budget = parse_budget(self.spec.address)
        return {**environment, BUDGET: f"{budget.arena_bytes or 0},{budget.flash_bytes or 0}"}


def measured_arena(client: WorkerClient) -> Arena:
    """The arena that the model which ``client`` has loaded needs.

    Raises:
        UnsupportedError: it runs in another runtime.
        DeviceError: it does not run in any arena.
    """
    return typed(Arena, client.measure(measures.arena, timeout_s=ARENA_S).header, "arena")
