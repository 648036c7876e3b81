"""``emulator:cortex-a53|a72|a76``: an ARM core in user-mode emulation (qemu), with ARM builds of Python and runtimes.

It proves that a file loads on ARM, that its operators exist there, and what they compute on NEON. It proves nothing
of time: its evidence is ``emulated``, and no figure in seconds comes from it. Its files (the *root*) are made once by
``edgekit device add NAME emulator:CORE`` (:mod:`edgekit.pipeline.emulator_root`).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import ClassVar, Final

from edgekit.data.cache import cache_folder
from edgekit.devices.instructions import emulator_with_plugins, plugin
from edgekit.devices.transport import Start, Transport
from edgekit.errors import RuntimeMissingError, UsageError
from edgekit.types import DeviceSpec, Evidence

CORES: Final = ("cortex-a53", "cortex-a72", "cortex-a76", "cortex-a710")
"""Raspberry Pi 3, 4 and 5, a phone of 2022. The first two know neither dot products nor half-precision arithmetic, the
last one bfloat16 and products of int8 matrices as well."""
SITES: Final = {"": "site", "tflite-runtime": "site-tflite-runtime"}
"""What follows the core, after a comma -> the folder of packages; tflite-runtime needs numpy 1, so it has its own."""
VERSION: Final = "2"
"""Of the root's layout and contents: another one is built beside the old one."""
_MISLEADING: Final = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "LD_PRELOAD")
"""Variables that speak of this machine's programs."""
_LIMITED: Final = """\
import os, resource, sys
resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[1]), int(sys.argv[1])))
os.execv(sys.argv[2], sys.argv[2:])
"""
_OWN_BYTES: Final = 1200 << 20
"""What the emulator itself asks for, most of it a buffer of translated code that stays empty; on top of any limit."""


def root_folder() -> Path:
    """Where the root is: ``$EDGEKIT_EMULATOR_ROOT``, else in edgekit's cache. It need not be there."""
    chosen = os.environ.get("EDGEKIT_EMULATOR_ROOT")
    return Path(chosen) if chosen else cache_folder() / "emulator" / f"aarch64-{VERSION}"


def parse_core(address: str) -> tuple[str, str]:
    """``cortex-a72`` or ``cortex-a72,tflite-runtime`` as core and the folder of its packages.

    Raises:
        UsageError: no such core or environment.
    """
    core, _, environment = address.partition(",")
    if core not in CORES or environment not in SITES:
        raise UsageError(
            f"device 'emulator:{address}': there are {', '.join(f'emulator:{name}' for name in CORES)}, "
            "each also with ',tflite-runtime' after it (numpy 1 and tflite-runtime 2.14)"
        )
    return core, SITES[environment]


class EmulatorTransport(Transport):
    """A worker in the emulator.

    Raises:
        RuntimeMissingError: the root is not there yet.
    """

    spelling: ClassVar[str] = "emulator:cortex-a53|a72|a76|a710"
    description: ClassVar[str] = (
        "an ARM core, emulated, with the real ARM runtimes: what a file computes there, never how fast"
    )
    evidence: ClassVar[Evidence] = Evidence.EMULATED

    @classmethod
    def check_address(cls, address: str) -> None:
        parse_core(address)

    here: ClassVar[bool] = True
    start_s: ClassVar[float] = 120.0
    slow: ClassVar[float] = 20.0

    def __init__(self, spec: DeviceSpec) -> None:
        super().__init__(spec)
        self._core, site = parse_core(spec.address)
        self._root = root_folder()
        self._site = self._root / site
        self._emulator = [str(self._root / "qemu-aarch64")]
        self.python = self._root / "system" / "usr" / "bin" / "python3.11"
        if not (self._root / "manifest.json").is_file():
            raise RuntimeMissingError(
                f"device {spec.name!r} has no ARM system in {self._root} yet; "
                f"run: edgekit device add arm emulator:{self._core}"
            )

    def command(self, start: Start) -> list[str]:
        system = str(self._root / "system")
        guest = [str(self.python), "-s", "-P", str(self.archive())]
        command = [*self._emulator, "-cpu", self._core, "-L", system, *guest, *start.arguments]
        if "--memory-limit" not in start.arguments:
            return command
        limit = int(start.arguments[start.arguments.index("--memory-limit") + 1])
        return [
            sys.executable,
            "-S",
            "-c",
            _LIMITED,
            str(limit + _OWN_BYTES),
            *command,
        ]  # the guest's own call does nothing

    def count_into(self, file: Path) -> None:
        """From now on workers run in a qemu that counts instructions into ``file`` (:mod:`.instructions`).

        Raises:
            RuntimeMissingError: there is no such qemu, or no C compiler.
        """
        self._emulator = [emulator_with_plugins(), "-plugin", f"{plugin()},out={file}"]

    def environment(self, start: Start) -> dict[str, str]:
        kept = {name: value for name, value in super().environment(start).items() if name not in _MISLEADING}
        return {**kept, "PYTHONPATH": str(self._site)}

    def install(self, package: str) -> str:
        return f"rm -r {self._root} && edgekit device add arm emulator:{self._core} (it brings {package})"
