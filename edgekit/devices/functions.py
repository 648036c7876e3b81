"""Functions that a worker runs beside its own commands: written anywhere, called by the place where they stand.

    @on_device(Reply(record(celsius=number())))
    def temperature(runner: Runner, message: Message) -> Value:
        return {"celsius": …}

    client.measure(temperature, feed, timeout_s=5)

They run where the model is, with the one clock, on what the device layer needs: numpy and one runtime.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from edgekit.devices.protocol import Message
from edgekit.devices.schema import Reply
from edgekit.errors import DeviceError, RuntimeMissingError
from edgekit.runtime import Runner

Value = Message | Mapping[str, Any] | None
"""What a function gives: values, arrays with them, or nothing."""
COMMAND: Final = "call"
"""The command by which a worker is asked for one of them."""


@dataclass(frozen=True)
class DeviceFunction:
    """A function of the loaded model and a message, whose header holds the values it is called with.

    Attributes:
        function: takes the runner and the message; where ``alone``, the message only, and no model has to be loaded.
        reply: what may answer it.
    """

    function: Callable[..., Value]
    reply: Reply
    alone: bool

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def place(self) -> str:
        """``module:name``, by which a worker finds it."""
        return f"{self.function.__module__}:{self.name}"

    def __call__(self, runner: Callable[[], Runner], message: Message) -> Value:
        """Runs it here; ``runner`` gives the loaded model."""
        return self.function(message) if self.alone else self.function(runner(), message)


def on_device(reply: Reply, *, alone: bool = False) -> Callable[[Callable[..., Value]], DeviceFunction]:
    """Makes a :class:`DeviceFunction` of a function at the top of a module."""
    return lambda function: DeviceFunction(function, reply, alone)


def find(place: str) -> DeviceFunction:
    """The function at ``module:name``.

    Raises:
        RuntimeMissingError: the package is not installed here.
        DeviceError: there is no such function.
    """
    module, _, name = place.partition(":")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise RuntimeMissingError(f"{module} cannot be imported on the device ({error}); install it there") from error
    if not isinstance(found, DeviceFunction):
        raise DeviceError(f"{place} is not a function that a worker runs")
    return found
