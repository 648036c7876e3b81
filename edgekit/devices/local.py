"""Transports on this machine: how the worker program is started. The protocol is the same for all of them."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import sys
import tempfile
import zipfile
from abc import ABC, abstractmethod
from pathlib import Path

from edgekit.errors import UsageError
from edgekit.types import DeviceSpec

FLOOR = (
    "__init__.py",
    "version.py",
    "types.py",
    "errors.py",
    "registry.py",
    "artifact.py",
    "cardfile.py",
    "wire_onnx.py",
    "wire_tflite.py",
    "runtime",
    "data",
    "bench",
    "devices",
)
"""Ground and device floor: the files and folders of the package that a worker without edgekit is given."""
OLDEST_PYTHON = (3, 11)
_MAIN = f"""\
import sys
if sys.version_info < {OLDEST_PYTHON}:
    sys.exit("edgekit's worker needs Python {OLDEST_PYTHON[0]}.{OLDEST_PYTHON[1]}, this is " + sys.version.split()[0])
from edgekit.devices.worker import main
sys.exit(main())
"""
_OTHER_PYTHONS = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
"""Variables that speak of this interpreter and would mislead another one."""


class Transport(ABC):
    """How a worker is started on the device ``spec``."""

    def __init__(self, spec: DeviceSpec) -> None:
        self.spec = spec

    @abstractmethod
    def command(self, arguments: list[str]) -> list[str]:
        """Program and arguments, passed on as they are: no shell reads them."""

    def environment(self) -> dict[str, str]:
        """Environment variables of the worker. Its numpy needs no threads of its own."""
        return {"OPENBLAS_NUM_THREADS": "1", **os.environ}

    def file(self, path: Path) -> str:
        """What the worker calls a file of this machine."""
        return os.path.abspath(path)


class LocalTransport(Transport):
    """``cpu``: a worker with this interpreter and its packages."""

    def command(self, arguments: list[str]) -> list[str]:
        return [sys.executable, "-P", "-m", "edgekit.devices.worker", *arguments]


class PythonTransport(Transport):
    """``python:/path/to/python``: a worker with another interpreter, which needs numpy and a runtime, not edgekit.

    Raises:
        UsageError: there is no such program.
    """

    def __init__(self, spec: DeviceSpec) -> None:
        super().__init__(spec)
        # the link is kept: resolving it would leave the virtual environment
        self._python = os.path.abspath(os.path.expanduser(spec.address))
        if not os.access(self._python, os.X_OK) or os.path.isdir(self._python):
            raise UsageError(
                f"device {spec.name!r}: {self._python} is not a program that can be run; "
                "give the path of a Python interpreter, such as python:.venv-tflite/bin/python"
            )

    def command(self, arguments: list[str]) -> list[str]:
        return [self._python, str(floor_archive()), *arguments]

    def environment(self) -> dict[str, str]:
        return {name: value for name, value in super().environment().items() if name not in _OTHER_PYTHONS}


@functools.cache
def floor_archive() -> Path:
    """A zip of the device floor that an interpreter can run; made once a process, removed when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="edgekit-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    root = Path(__file__).resolve().parent.parent
    archive = folder / "edgekit-worker.pyz"
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr("__main__.py", _MAIN)
        for name in FLOOR:
            place = root / name
            for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
                out.write(file, f"edgekit/{file.relative_to(root).as_posix()}")
    return archive
