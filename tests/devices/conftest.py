"""Model files, the second environment, and workers that misbehave on purpose."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgekit.devices.client import WorkerClient
from edgekit.devices.emulator import root_folder
from edgekit.devices.local import LocalTransport
from edgekit.devices.transport import Start
from edgekit.types import DeviceSpec

CPU = DeviceSpec("cpu", "cpu")


@pytest.fixture(scope="session")
def files(model_files: ModuleType) -> ModuleType:
    """The module ``tests/runtime/files.py``."""
    return model_files


@pytest.fixture(scope="session")
def arm_root() -> Path:
    """The root of the ARM emulator, which ``scripts/test`` builds where it can."""
    root = root_folder()
    if not (root / "manifest.json").is_file():
        pytest.skip(
            "needs the ARM system of the emulator: run scripts/test, or edgekit device add arm emulator:cortex-a72"
        )
    return root


@pytest.fixture(scope="session")
def sshd(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real ssh server on the loopback (``tests/devices/sshd.py``)."""
    server = runpy.run_path(str(root / "tests" / "devices" / "sshd.py"), run_name="edgekit_tests_sshd")
    running = server["start_sshd"](tmp_path_factory.mktemp("sshd"))
    yield running
    running.process.terminate()
    running.process.wait(20)


class BrokenTransport(LocalTransport):
    """The real worker program, whose command ``reset`` runs ``body`` instead (worker, os, sys, time are at hand)."""

    def __init__(self, script: Path, body: str) -> None:
        super().__init__(CPU)
        self._script = script
        lines = "\n".join(f"    {line}" for line in body.splitlines())
        script.write_text(
            "import ctypes, os, signal, sys, time\nimport numpy as np\nfrom edgekit.devices import protocol, worker\n"
            f"def misbehave(self, message):\n{lines}\n    return protocol.Message({{}})\n"
            "worker.Worker.reset = misbehave\nsys.exit(worker.main())\n"
        )

    def command(self, start: Start) -> list[str]:
        return [sys.executable, str(self._script), *start.arguments]


@pytest.fixture
def broken(tmp_path: Path) -> Callable[..., WorkerClient]:
    """``broken(body, **options)``: a worker whose ``reset()`` does what the Python text ``body`` says."""

    def make(body: str, **options: object) -> WorkerClient:
        return WorkerClient(BrokenTransport(tmp_path / "misbehave.py", body), **options)  # type: ignore[arg-type]

    return make
