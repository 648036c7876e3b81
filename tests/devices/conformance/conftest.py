"""The transports that have to pass the suite, and a worker program that does what a test tells it.

Every test is run on every transport (``place``), and after each of them nothing may be left: no process of a worker on
either side, no half-sent file, no temporary folder, and nothing that other users of the device could read. Processes
are told by ``EDGEKIT_CACHE``, which names a folder of this run in the environment of everything that belongs to it, on
the device as well.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from edgekit.devices.archive import floor_archive
from edgekit.devices.client import WorkerClient
from edgekit.devices.device import parse_device
from edgekit.devices.emulator import EmulatorTransport
from edgekit.devices.local import LocalTransport, PythonTransport
from edgekit.devices.mcu import McuTransport
from edgekit.devices.ssh import SshTransport
from edgekit.devices.transport import Start, Transport
from edgekit.errors import EdgekitError

LEAVE_S = 20.0
"""How long what was killed may take to be gone: nothing waits that long unless it is left behind for good."""
PROGRAM = """\
import ctypes, os, resource, signal, sys, threading, time
{early}
import numpy as np
from edgekit.devices import protocol, worker
class Told(worker.Worker):
    def __init__(self):
        super().__init__()
        self.commands["do"] = self.do
    def do(self, message):
        exec(message.header["body"], {{**globals(), "self": self}})
        return protocol.Message({{}})
worker.Worker = Told
sys.exit(worker.main())
"""
"""``__main__`` of the worker under test: the real one, with a command ``do`` that runs Python text."""


class Place(ABC):
    """One transport under test. ``cache``: where its device keeps what it is sent."""

    name: str

    def __init__(self, cache: Path) -> None:
        self.cache = cache

    @abstractmethod
    def transport(self) -> Transport:
        """The transport; its ``archive`` gives the program that it starts."""

    def foreign(self, program: Path) -> Transport:
        """The transport with ``program`` as its interpreter."""
        pytest.skip(f"{self.name} has no interpreter to choose")

    def cut(self, client: WorkerClient) -> None:
        """Ends the connection to the worker; here that is the worker itself."""
        os.kill(int(client.hello["pid"]), signal.SIGKILL)


class _CpuTransport(LocalTransport):
    """``cpu`` with the program of the suite in place of the installed one."""

    def command(self, start: Start) -> list[str]:
        return [sys.executable, "-P", str(self.archive()), *start.arguments]


class Cpu(Place):
    name = "cpu"

    def transport(self) -> Transport:
        return _CpuTransport(parse_device("cpu"))


class Python(Place):
    name = "python"
    interpreter = ""

    def transport(self) -> Transport:
        return PythonTransport(parse_device(f"python:{self.interpreter}"))

    def foreign(self, program: Path) -> Transport:
        return PythonTransport(parse_device(f"python:{program}"))


class _McuTransport(McuTransport):
    """``mcu`` with the program of the suite, run by the interpreter that it names."""

    def __init__(self, interpreter: str) -> None:
        super().__init__(parse_device("mcu"))
        self._python = interpreter


class Mcu(Place):
    """The interpreter of the environment with tflite-micro."""

    name = "mcu"
    interpreter = ""

    def transport(self) -> Transport:
        return _McuTransport(self.interpreter)

    def foreign(self, program: Path) -> Transport:
        return _McuTransport(str(program))


class Ssh(Place):
    """A real ssh server on this machine, with the second environment as the device's Python."""

    name = "ssh"
    interpreter = ""
    sshd: Any = None

    def transport(self) -> Transport:
        return SshTransport(parse_device(f"ssh://board?python={self.interpreter}"))

    def foreign(self, program: Path) -> Transport:
        return SshTransport(parse_device(f"ssh://board?python={program}"))

    def cut(self, client: WorkerClient) -> None:
        """Kills the server's process of this session; the worker is told by nobody."""
        bootstrap = _parent(int(client.hello["pid"]))
        os.kill(_parent(bootstrap), signal.SIGKILL)


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


class Emulator(Place):
    """An ARM core, emulated; every start takes seconds, so its run of the suite is slow."""

    name = "emulator"
    root = ""

    def transport(self) -> Transport:
        return EmulatorTransport(parse_device("emulator:cortex-a72"))

    def foreign(self, program: Path) -> Transport:
        transport = EmulatorTransport(parse_device("emulator:cortex-a72"))
        transport.python = program
        return transport


PLACES = (Cpu, Python, Mcu, Ssh, Emulator)
ON_THE_EMULATOR = (
    "it_says_what_it_is",
    "[emulator-ctypes.PyDLL",
    "killed_by_somebody",
    "and_once[emulator",
    "python_is_out",
)
"""What is run on the emulator every time, where a start takes seconds; all of it with ``pytest -m sweep``."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "[emulator" in item.name and not any(name in item.name for name in ON_THE_EMULATOR):
            item.add_marker(pytest.mark.sweep)
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", params=PLACES, ids=lambda kind: kind.name)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Place:
    made: Place = request.param(tmp_path_factory.mktemp("device"))
    if isinstance(made, Python | Ssh):
        made.interpreter = request.getfixturevalue("other_python")
    if isinstance(made, Mcu):
        made.interpreter = request.getfixturevalue("tflm_python")
    if isinstance(made, Emulator):
        made.root = str(request.getfixturevalue("arm_root"))
    if isinstance(made, Ssh):
        made.sshd = request.getfixturevalue("sshd")
        made.cache = made.sshd.cache
    return made


@pytest.fixture(autouse=True)
def _nothing_is_left(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    temporary = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setenv("EDGEKIT_CACHE", str(place.cache))
    if isinstance(place, Ssh):
        monkeypatch.setenv("EDGEKIT_SSH", place.sshd.client)
    if isinstance(place, Emulator):
        monkeypatch.setenv("EDGEKIT_EMULATOR_ROOT", place.root)
    yield
    assert processes_of(place) == [], "a process is left behind"
    whole = re.compile(r"[0-9a-f]{64}")
    files = [file for file in place.cache.rglob("*") if file.is_file() and file.name != ".lock"]
    parts = [file.name for file in files if not any(whole.match(name) for name in file.relative_to(place.cache).parts)]
    assert parts == [], "half-sent files are left behind"
    opened = [str(entry) for entry in place.cache.rglob("*") if entry.stat().st_mode & 0o077]
    assert opened == [], "others can read what was sent"
    made = [entry.name for entry in temporary.iterdir() if not _is_archive(entry)]
    assert made == [], "temporary files are left behind"


def _is_archive(folder: Path) -> bool:
    """The worker's archives are made once a process and removed when the process ends."""
    return folder.is_dir() and {file.suffix for file in folder.iterdir()} == {".pyz"}


def processes_of(place: Place, within_s: float = LEAVE_S) -> list[str]:
    """Command lines of the processes that belong to ``place`` and are not gone in time."""
    mark = f"EDGEKIT_CACHE={place.cache}".encode()
    deadline = time.monotonic() + within_s
    while True:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            except OSError:  # it ended, or is somebody else's
                continue
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.02)


@pytest.fixture
def start(place: Place) -> Iterator[Callable[..., WorkerClient]]:
    """``start(early, **options)``: a worker on the transport; its program (``main``) runs the text ``early`` first."""
    clients: list[WorkerClient] = []

    def make(early: str = "", main: str = PROGRAM, **options: Any) -> WorkerClient:
        transport = place.transport()
        transport.archive = partial(floor_archive, main.format(early=early))
        client = WorkerClient(transport, **options)
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def left(place: Place) -> Callable[[], list[str]]:
    """What :func:`processes_of` sees right now, for the test that the check can fail."""
    return lambda: processes_of(place, within_s=0)


@pytest.fixture
def do() -> Callable[..., None]:
    """``do(client, body)``: the worker runs the Python text ``body``."""

    def tell(client: WorkerClient, body: str, *, timeout_s: float | None = None) -> None:
        client._ask("do", body=body, timeout_s=timeout_s)

    return tell


@pytest.fixture
def ends_in() -> Callable[..., AbstractContextManager[None]]:
    """``with ends_in(kind, *said)``: exactly this error of the tree, one line with every text of ``said`` in it."""

    @contextmanager
    def ends(kind: type[EdgekitError], *said: str, code: int = 4) -> Iterator[None]:
        with pytest.raises(kind) as caught:
            yield
        assert type(caught.value) is kind
        assert caught.value.exit_code == code
        message = str(caught.value)
        assert "\n" not in message
        for text in said:
            assert text in message

    return ends
