"""Devices by name: what the user types after ``--on``."""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches

from edgekit.devices.adb import parse_serial
from edgekit.devices.classes import parse_class
from edgekit.devices.cuda import parse_index
from edgekit.devices.emulator import parse_core
from edgekit.devices.inventory import address_of, saved
from edgekit.devices.ssh import parse_address
from edgekit.devices.transport import Transport
from edgekit.errors import UsageError
from edgekit.registry import lookup, names
from edgekit.types import DeviceSpec, Evidence

SPELLINGS = {
    "cpu": "cpu",
    "python": "python:/path/to/python",
    "ssh": "ssh://user@host[:port]",
    "emulator": "emulator:cortex-a72",
    "class": "class:phone-2gb",
    "cuda": "cuda[:N]",
    "adb": "adb:SERIAL",
}
"""Kind -> how it is spelled."""


def parse_device(text: str) -> DeviceSpec:
    """A device by its spelling (:data:`SPELLINGS`, or a kind another package brings), or by the name it was given.

    Raises:
        UsageError: no such device; the message lists what there is.
        InputError: the file of names, or what stands there of this one, cannot be read.
    """
    text = text.strip()
    if text.partition(":")[0] in names("devices"):  # needs no file of names
        return _spelled(text)
    address = address_of(text)
    return _spelled(text) if address is None else replace(_spelled(address), name=text)


def _spelled(text: str) -> DeviceSpec:
    kind, colon, address = text.strip().partition(":")
    if "\0" in address:
        raise UsageError(f"device {text!r}: a name with a zero byte leads nowhere")
    if kind not in names("devices"):
        near = get_close_matches(kind, [*names("devices"), *saved()], n=1)
        hint = f"did you mean {SPELLINGS.get(near[0], near[0])!r}? " if near else ""
        raise UsageError(f"no device is called {text!r}; {hint}there are: {_known()}")
    if kind == "cpu" and colon:
        raise UsageError(f"device {text!r}: cpu takes no address; give cpu")
    if kind == "ssh":
        parse_address(address)
    if kind == "cuda":
        parse_index(address)
    if kind == "adb":
        parse_serial(address)
    if kind == "class":
        parse_class(address)
        return DeviceSpec(name=f"{kind}:{address}", kind=kind, address=address, evidence=Evidence.CONSTRAINED)
    if kind == "emulator":
        parse_core(address)
        return DeviceSpec(name=f"{kind}:{address}", kind=kind, address=address, evidence=Evidence.EMULATED)
    if kind == "python" and not address:
        raise UsageError(f"device {text!r} names no interpreter; give python:/path/to/python")
    return DeviceSpec(name=f"{kind}:{address}" if address else kind, kind=kind, address=address)


def list_devices() -> tuple[str, ...]:
    """Spellings of every kind of device there is."""
    return tuple(SPELLINGS.get(kind, kind) for kind in names("devices"))


def transport_for(spec: DeviceSpec) -> Transport:
    """How workers are started on ``spec``.

    Raises:
        UsageError: no such kind, or its address leads nowhere.
        DeviceError: ``cuda`` where there is no driver or no such GPU.
    """
    transport = lookup("devices", spec.kind)(spec)
    if not isinstance(transport, Transport):
        raise UsageError(f"device {spec.name!r}: its package brings no Transport; there are: {_known()}")
    return transport


def _known() -> str:
    return ", ".join([*list_devices(), *saved()])
