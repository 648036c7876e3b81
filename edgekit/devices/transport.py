"""What a transport is: how a worker is started on a device, and how it is known what became of it."""

from __future__ import annotations

import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgekit.devices.archive import floor_archive
from edgekit.devices.channel import Channel
from edgekit.types import DeviceSpec, Evidence


@dataclass(frozen=True, slots=True)
class Start:
    """What a worker is started with.

    Attributes:
        arguments: of the worker program.
        padding: characters of an environment variable without meaning, which move its stack and heap.
    """

    arguments: tuple[str, ...] = ()
    padding: int = 0

    @property
    def environment(self) -> dict[str, str]:
        """The worker's own variables. Its numpy needs no threads of its own."""
        return {"OPENBLAS_NUM_THREADS": "1", "EDGEKIT_PADDING": "x" * self.padding}


@dataclass(frozen=True, slots=True)
class Ending:
    """How a worker ended. ``status``: exit status, negative for a signal, None while it lives with its output closed.

    ``lost``: it was not the worker that ended but the way to it; ``words`` say how.
    """

    status: int | None
    words: str = ""
    lost: bool = False

    @property
    def killed(self) -> bool:
        return self.status == -signal.SIGKILL

    def __str__(self) -> str:
        if self.status is None:
            return "it closed its output without an answer"
        if self.status >= 0:
            return f"it left with exit status {self.status}"
        try:
            return f"signal {signal.Signals(-self.status).name}"
        except ValueError:
            return f"signal {-self.status}"


class Transport(ABC):
    """How a worker is started on the device ``spec``. The protocol is the same for all of them.

    Attributes:
        archive: gives the program for interpreters that know no edgekit.
        memory_limit_bytes: limit of every worker there that is given no other; None sets none.
        runs_on: what its runtime is told to run on: ``cpu``, or ``cuda:N``.
        start_s: longest wait for the first sign of a worker, on top of the client's time-out.
        subject: what messages call its worker.
    """

    spelling: ClassVar[str] = ""
    """How it is spelled after ``--on``; the name of its kind where it is empty."""
    description: ClassVar[str] = "from another package"
    evidence: ClassVar[Evidence] = Evidence.MEASURED
    """What figures taken there are worth."""
    timed_by_tools: ClassVar[bool] = False
    """No worker runs there: a program of the user times a model (``bench --tool``), and nothing else is done."""
    shares_files: ClassVar[bool] = True
    """The worker sees the files of this machine under the same names; otherwise they are sent, by content."""
    runtime: ClassVar[str] = ""
    """The one runtime that it has; empty: those that are installed there."""
    start_s: ClassVar[float] = 0.0
    here: ClassVar[bool] = False
    """Its workers are processes of this machine, emulated ones as well; otherwise a worker has to say where it is."""
    advice: ClassVar[str] = "try another runtime with --runtime, or see its log with --debug"
    """What to do about a worker that crashed."""
    killed_for_memory: ClassVar[bool] = False
    """Its workers take so much memory that a kill without a limit is most likely the system's."""

    @classmethod
    def resolve(cls, spec: DeviceSpec) -> DeviceSpec:
        """The device that ``spec`` is another name of; most are themselves."""
        return spec

    @classmethod  # noqa: B027  a kind without addresses needs none
    def check_address(cls, address: str) -> None:
        """Refuses what stands behind the colon of the spelling where that makes no sense.

        Raises:
            UsageError: with what to give.
        """

    def __init__(self, spec: DeviceSpec) -> None:
        self.spec = spec
        self.archive: Callable[[], Path] = floor_archive
        self.memory_limit_bytes: int | None = None
        self.runs_on = "cpu"
        self.subject = f"the worker on {spec.name}"

    @abstractmethod
    def command(self, start: Start) -> list[str]:
        """Program and arguments, passed on as they are: no shell of this machine reads them."""

    def environment(self, start: Start) -> dict[str, str]:
        """Environment variables of the program that :meth:`command` names."""
        return {**os.environ, **start.environment}

    def greet(self, channel: Channel, start: Start, deadline: float) -> None:  # noqa: B027  most have nothing to say
        """What is said to the program before the first frame.

        Raises:
            EOFError, TimeoutError: it ended, or gave no answer by ``deadline`` (time.monotonic).
            ProtocolError: something else answered.
        """

    def ending(self, status: int | None, said: str) -> Ending:
        """What ``status`` of the program and what it ``said`` on standard error mean."""
        return Ending(status)

    def install(self, package: str) -> str:
        """The command that brings ``package`` to the worker's environment."""
        return f"python3 -m pip install {package}"
