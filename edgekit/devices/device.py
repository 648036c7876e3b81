"""Devices by name: what the user types after ``--on``."""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from edgekit.devices.inventory import address_of, saved
from edgekit.devices.transport import Transport
from edgekit.errors import UsageError
from edgekit.registry import lookup, names
from edgekit.runtime import interpreter_apart
from edgekit.types import DeviceSpec


def parse_device(text: str) -> DeviceSpec:
    """A device by its spelling (:attr:`Transport.spelling`), or by the name it was given.

    Raises:
        UsageError: no such device; the message lists what there is.
        InputError: the file of names, or what stands there of this one, cannot be read.
    """
    text = text.strip()
    if text.partition(":")[0] in names("devices"):  # needs no file of names
        return _spelled(text)
    address = address_of(text)
    return _spelled(text) if address is None else replace(_spelled(address), name=text)


def with_runtime(device: DeviceSpec, runtime: str | None, path: str | Path = "") -> DeviceSpec:
    """``device`` with the interpreter that has ``runtime``, or the only runtime of the model at ``path``: for this
    machine one of :mod:`edgekit.environments`, where the runtime is not installed here and there is one; otherwise as
    it is.

    Raises:
        UsageError: no such runtime, or the device has another one only.
        RuntimeMissingError: the variable that names the interpreter names no program.
    """
    only = transport_class(device.kind).runtime
    if only and runtime not in (None, only):
        raise UsageError(f"{device.name} runs {only} alone, not {runtime}; leave --runtime out, or --on")
    python = interpreter_apart(runtime, path) if device.kind == "cpu" else None
    return replace(device, address=python) if python else device


def _spelled(text: str) -> DeviceSpec:
    kind, _, address = text.strip().partition(":")
    if "\0" in address:
        raise UsageError(f"device {text!r}: a name with a zero byte leads nowhere")
    if kind not in names("devices"):
        near = get_close_matches(kind, [*names("devices"), *saved()], n=1)
        hint = f"did you mean {_spelling(near[0])!r}? " if near else ""
        raise UsageError(f"no device is called {text!r}; {hint}there are: {_known()}")
    transport = transport_class(kind)
    transport.check_address(address)
    name = f"{kind}:{address}" if address else kind
    return transport.resolve(DeviceSpec(name, kind, address, transport.evidence))


def transport_class(kind: str) -> type[Transport]:
    """What starts workers on devices of a kind, and what there is to know of the kind.

    Raises:
        UsageError: no such kind, or its package brings no Transport.
    """
    found = lookup("devices", kind)
    if not (isinstance(found, type) and issubclass(found, Transport)):
        raise UsageError(f"device {kind!r}: its package brings no Transport")
    return found


def list_devices() -> tuple[str, ...]:
    """Spellings of every kind of device there is."""
    return tuple(transport_class(kind).spelling or kind for kind in names("devices"))


def transport_for(spec: DeviceSpec) -> Transport:
    """How workers are started on ``spec``.

    Raises:
        UsageError: no such kind, or its address leads nowhere.
        DeviceError: ``cuda`` where there is no driver or no such GPU.
    """
    return transport_class(spec.kind)(spec)


def _spelling(name: str) -> str:
    return transport_class(name).spelling or name if name in names("devices") else name


def _known() -> str:
    return ", ".join([*list_devices(), *saved()])
