"""``adb:SERIAL``: an Android device through the system's ``adb``. There is no Python there, and so no worker.

What runs there are programs that the user gives (:mod:`edgekit.bench.tools`), which print times and no outputs: they
can be benched, and nothing else. ``$EDGEKIT_ADB`` names another client. On the device everything lies in one folder
under names made of its content, so that no text of the user is read by the device's shell.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import time
from pathlib import Path
from typing import ClassVar, Final, NamedTuple

from edgekit import limits
from edgekit.artifact import sha256_file
from edgekit.devices.channel import Channel
from edgekit.devices.stop import unstoppable
from edgekit.devices.transport import Start, Transport
from edgekit.errors import (
    DeviceError,
    ModelError,
    ProtocolError,
    RuntimeMissingError,
    TransferError,
    UnreachableError,
    UnsupportedError,
    UsageError,
    WorkerTimeoutError,
)
from edgekit.types import Closing, DeviceSpec

log = logging.getLogger("edgekit")
FOLDER: Final = "/data/local/tmp/edgekit"
"""Where a shell without root may write and run programs."""
LEAVE_S: Final = 15.0
"""How long clearing up may take, also after an interrupt."""
_SERIAL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:%\[\]-]{0,127}")
_SUFFIX: Final = re.compile(r"\.[a-z0-9]{1,10}")
_PID: Final = f"{FOLDER}/pid"
_STATUS: Final = re.compile(r"edgekit-status:(\d{1,3})\s*$")
_PROPERTY: Final = 200
"""Characters of what a device says of itself."""
PROPERTIES: Final = {
    "model": "ro.product.model",
    "maker": "ro.product.manufacturer",
    "soc": "ro.soc.model",
    "hardware": "ro.hardware",
    "abi": "ro.product.cpu.abi",
    "sdk": "ro.build.version.sdk",
    "release": "ro.build.version.release",
}
_ADVICE: Final = (
    ("unauthorized", "allow USB debugging on its screen"),
    ("offline", "plug it in again, or run: adb reconnect"),
    ("not found", "run: adb devices"),
    ("no devices", "run: adb devices"),
    ("no permissions", "see the udev rules of your system for Android devices"),
)


def parse_serial(text: str) -> str:
    """The serial number after ``adb:``.

    Raises:
        UsageError: ``text`` is not a serial number.
    """
    if not _SERIAL.fullmatch(text):
        raise UsageError(f"device 'adb:{text}': give adb:SERIAL; run: adb devices")
    return text


class AdbTransport(Transport):
    """The kind of device, of which only the facts are used: no worker runs there."""

    spelling: ClassVar[str] = "adb:SERIAL"
    description: ClassVar[str] = (
        "an Android device, through the system's adb and a timing program of yours (bench --tool), nothing else"
    )
    timed_by_tools: ClassVar[bool] = True

    @classmethod
    def check_address(cls, address: str) -> None:
        parse_serial(address)

    shares_files = False

    def command(self, start: Start) -> list[str]:
        """
        Raises:
            UnsupportedError: always, with what to do instead.
        """
        raise UnsupportedError(
            f"{self.spec.name}: over adb there are only programs that time a model and give no outputs, so it can be "
            "benched (edgekit bench --tool benchmark_model) and nothing else; for outputs install Termux with "
            "Python and a runtime on the device and reach it over ssh: ssh://user@phone:8022"
        )


class _Answer(NamedTuple):
    """What one adb command gave; ``out`` has the device's standard error as well where it is older than Android 7."""

    status: int
    out: str
    err: str

    @property
    def said(self) -> str:
        return self.out + self.err


class Adb(Closing):
    """One Android device; a context manager that removes what it brought there.

    Raises:
        RuntimeMissingError: there is no adb here.
        UnreachableError: the device is not there, or does not let us in; with adb's own words.
    """

    def __init__(self, spec: DeviceSpec, timeout_s: float = 60.0) -> None:
        self.name = spec.name
        self._serial = parse_serial(spec.address)
        self._timeout_s = timeout_s
        self._brought: dict[str, str] = {}
        program = os.environ.get("EDGEKIT_ADB") or "adb"
        self._program = shutil.which(program) or ""
        if not self._program:
            raise RuntimeMissingError(
                f"device {spec.name!r} needs the program {program!r}, which is not installed here; "
                "run: apt-get install adb (or install Android's platform-tools)"
            )
        asked = self._adb("get-state")
        if asked.status != 0 or asked.out.strip() != "device":
            raise self._unreachable(asked)

    def properties(self) -> dict[str, str]:
        """What the device is; what it does not tell is the word ``unknown``."""
        _, said = self.shell("; ".join(f"echo {key}=$(getprop {name})" for key, name in PROPERTIES.items()))
        told = dict(line.strip().partition("=")[::2] for line in said.splitlines() if "=" in line)
        return {key: told.get(key, "")[:_PROPERTY] or "unknown" for key in PROPERTIES}

    def bring(self, file: str | Path, *, program: bool = False) -> str:
        """Sends a file unless one with its content is there; its name there.

        Raises:
            ModelError: it cannot be read.
            TransferError: it did not arrive as it was sent.
        """
        path = Path(file)
        try:
            digest = sha256_file(path)
        except OSError as error:
            raise ModelError(f"{path} cannot be read: {error.strerror}") from error
        if digest in self._brought:
            return self._brought[digest]
        suffix = "" if program else path.suffix.lower()
        place = f"{FOLDER}/{digest}{suffix if _SUFFIX.fullmatch(suffix) else ''}"
        self._brought[digest] = place
        if not self._holds(place, digest):
            self.shell(f"mkdir -p {FOLDER} && chmod 700 {FOLDER}")
            pushed = self._adb("push", os.path.abspath(path), place, limit_s=10 * self._timeout_s)
            if pushed.status != 0 or not self._holds(place, digest):
                last = pushed.said.strip().splitlines()[-1:] or ["it did not arrive as it was sent"]
                raise TransferError(f"{path} could not be sent to {self.name}: {last[0]}")
        self.shell(f"chmod {'700' if program else '600'} {place}")
        return place

    def run(self, words: list[str], limit_s: float) -> tuple[int, str]:
        """Runs a program that was brought; its exit status and all it said.

        ``words``: paths of :meth:`bring` and options of plain letters and digits: the device's shell reads them.
        """
        for word in words:
            if not re.fullmatch(r"[A-Za-z0-9_./=-]+", word):
                raise ValueError(word)
        inner = f"echo $$ > {_PID}; exec {' '.join(words)}"
        return self.shell(f"sh -c '{inner}' 2>&1; s=$?; rm -f {_PID}; (exit $s)", limit_s)

    def shell(self, command: str, limit_s: float | None = None) -> tuple[int, str]:
        """Has the device's shell run ``command``, a text without anything of the user's.

        Raises:
            UnreachableError: the device is gone.
            WorkerTimeoutError: it gave no answer in time.
        """
        asked = self._adb("shell", f"umask 077; {command}; echo edgekit-status:$?", limit_s=limit_s)
        told = _STATUS.search(asked.out)
        if told is None:  # the shell ended before it could say how
            raise self._unreachable(asked)
        return int(told[1]), asked.out[: told.start()] + asked.err

    def close(self) -> None:
        """Ends what still runs there and removes what was brought; twice does no harm. A device that is gone keeps it,
        which is said."""
        places, self._brought = self._brought, {}
        if not places:
            return
        files = " ".join([*places.values(), _PID])
        try:
            with unstoppable():
                ending = f"[ -f {_PID} ] && kill -9 $(cat {_PID}); rm -f {files}; rmdir {FOLDER} 2>/dev/null"
                self.shell(ending, min(self._timeout_s, LEAVE_S))
        except DeviceError as error:
            log.warning("what was brought to %s is still in %s there: %s", self.name, FOLDER, error)

    def _holds(self, place: str, digest: str) -> bool:
        """Whether a file of this content is there; Android brings sha256sum since version 6."""
        status, said = self.shell(f"sha256sum {place}")
        return status == 0 and said.strip().startswith(digest)

    def _adb(self, *arguments: str, limit_s: float | None = None) -> _Answer:
        limit = limit_s or self._timeout_s
        channel = Channel([self._program, "-s", self._serial, *arguments], os.environ, self.name)
        try:
            out = channel.read_to_end(limits.limit("REPLY_BYTES"), time.monotonic() + limit).decode("utf-8", "replace")
            status = channel.wait(limit)
        except TimeoutError:
            raise WorkerTimeoutError(
                f"{self.name} gave no answer to adb {arguments[0]} within {limit:g} s; allow more time with --timeout"
            ) from None
        except ValueError as error:
            raise ProtocolError(f"{self.name} says {error} to adb {arguments[0]}; what runs there?") from None
        finally:
            channel.kill()
        return _Answer(1 if status is None else status, out.replace("\r\n", "\n"), channel.stderr_tail.text())

    def _unreachable(self, answer: _Answer) -> DeviceError:
        said = answer.said
        lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith("* daemon")]
        words = next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "adb says nothing")
        advice = next((advice for text, advice in _ADVICE if text in said), "run: adb devices")
        return UnreachableError(f"{self.name} cannot be reached: {words[:300]}; {advice}")
