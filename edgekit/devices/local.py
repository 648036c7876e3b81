"""Transports on this machine: a worker with this interpreter, or with another one."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import ClassVar

from edgekit.devices.transport import Start, Transport
from edgekit.errors import UsageError
from edgekit.types import DeviceSpec

_OTHER_PYTHONS = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
"""Variables that speak of this interpreter and would mislead another one."""


def without_this_python(environment: Mapping[str, str]) -> dict[str, str]:
    """``environment`` without the variables that speak of this interpreter."""
    return {name: value for name, value in environment.items() if name not in _OTHER_PYTHONS}


class LocalTransport(Transport):
    """``cpu``: a worker with this interpreter and its packages, or with another one of this machine, which needs numpy
    and a runtime, not edgekit (:func:`edgekit.devices.device.with_runtime`)."""

    spelling: ClassVar[str] = "cpu"
    description: ClassVar[str] = "this machine, a worker with this interpreter"

    here: ClassVar[bool] = True

    @classmethod
    def check_address(cls, address: str) -> None:
        if address:
            raise UsageError(f"device 'cpu:{address}': cpu takes no address; give cpu")

    def __init__(self, spec: DeviceSpec) -> None:
        super().__init__(spec)
        self._python = spec.address if spec.kind == "cpu" else ""

    def command(self, start: Start) -> list[str]:
        if self._python:
            return [self._python, str(self.archive()), *start.arguments]
        return [sys.executable, "-P", "-m", "edgekit.devices.worker", *start.arguments]

    def environment(self, start: Start) -> dict[str, str]:
        environment = super().environment(start)
        return without_this_python(environment) if self._python else environment

    def install(self, package: str) -> str:
        return f"{self._python or sys.executable} -m pip install {package}"


class PythonTransport(LocalTransport):
    """``python:/path/to/python``: a worker with another interpreter, which needs numpy and a runtime, not edgekit.

    Raises:
        UsageError: there is no such program.
    """

    spelling: ClassVar[str] = "python:/path/to/python"
    description: ClassVar[str] = "this machine, a worker in another environment (numpy and a runtime are enough)"

    @classmethod
    def check_address(cls, address: str) -> None:
        if not address:
            raise UsageError("device 'python:' names no interpreter; give python:/path/to/python")

    def __init__(self, spec: DeviceSpec) -> None:
        super().__init__(spec)
        # the link is kept: resolving it would leave the virtual environment
        self._python = os.path.abspath(os.path.expanduser(spec.address))
        if not os.access(self._python, os.X_OK) or os.path.isdir(self._python):
            raise UsageError(
                f"device {spec.name!r}: {self._python} is not a program that can be run; "
                "give the path of a Python interpreter, such as python:.venv-tflite/bin/python"
            )
