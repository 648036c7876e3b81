"""``device``: the places models can run, and the names the user gave to some of them."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from edgekit import registry
from edgekit.devices import open_worker, parse_device
from edgekit.devices.adb import Adb
from edgekit.devices.device import transport_class
from edgekit.devices.inventory import Named, config_file, entries, forget, require_name, save, saved
from edgekit.devices.lease import holder
from edgekit.errors import DeviceError, EdgekitError, InputError
from edgekit.options.base import with_options
from edgekit.options.manage import DeviceAddOptions, DeviceRemoveOptions, DevicesOptions
from edgekit.pipeline.bench.tools import lease_of
from edgekit.pipeline.device_check import CheckResult, Trial, check
from edgekit.pipeline.emulator_root import build_root
from edgekit.types import DeviceSpec

AT_ONCE = 32
"""Devices that are asked at the same time."""
STATE_S = 20.0
"""How long a device may take to say how it is."""


@dataclass(frozen=True)
class Kind:
    """One kind of device: its spelling, what it is, and what its figures are worth."""

    name: str
    spelling: str
    description: str
    evidence: str


@dataclass(frozen=True)
class Saved:
    """A device with a name.

    ``state``: ``ready``, ``leased`` (somebody times there), ``unreachable``, ``unknown`` (not asked) or ``invalid``
    (what is kept of it cannot be used); ``detail`` says more. ``holder``: of the lease, its ``owner``, ``held_s``,
    ``left_s`` and ``until`` (local time of this machine).
    """

    name: str
    address: str
    evidence: str
    state: str = "unknown"
    detail: str = ""
    holder: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class DevicesResult:
    """Every kind of device there is, third parties' included, and the devices that have names."""

    devices: tuple[Kind, ...]
    saved: tuple[Saved, ...] = ()

    def document(self) -> dict[str, Any]:
        return {
            "devices": [asdict(device) for device in self.devices],
            "saved": [asdict(device) for device in self.saved],
        }


@dataclass(frozen=True)
class SavedResult:
    """What ``add`` or ``remove`` did to the file of names; ``check`` is what was found on a device that was added."""

    name: str
    address: str
    file: Path
    check: CheckResult | None = None

    def document(self) -> dict[str, Any]:
        body: dict[str, Any] = {"name": self.name, "address": self.address, "file": str(self.file)}
        return body if self.check is None else {**body, "check": self.check.document()}


@with_options(DevicesOptions)
def devices(options: DevicesOptions) -> DevicesResult:
    """The kinds of device this installation knows, and the saved devices."""
    rows = []
    for name in registry.names("devices"):
        kind = transport_class(name)
        rows.append(Kind(name, kind.spelling or name, kind.description, kind.evidence.value))
    named = _named()
    if options.state and named:
        with ThreadPoolExecutor(min(len(named), AT_ONCE)) as pool:
            named = list(pool.map(_asked, named))
    return DevicesResult(tuple(rows), tuple(named))


def _named() -> list[Saved]:
    """The saved devices; what cannot be used is one of them, with the reason."""
    try:
        return [_looked_at(one) for one in entries()]
    except InputError as error:
        return [Saved(config_file().name, "", "", "invalid", str(error))]


def _looked_at(one: Named) -> Saved:
    if one.fault:
        return Saved(one.name, one.address, "", "invalid", one.fault)
    try:
        return Saved(one.name, one.address, parse_device(one.name).evidence.value)
    except EdgekitError as error:
        return Saved(one.name, one.address, "", "invalid", str(error))


@with_options(DeviceAddOptions)
def add(options: DeviceAddOptions) -> SavedResult:
    """Looks at the device at ``address`` and, where a model can run on it, gives it a name.

    The emulator's ARM system is built first, once. Where an ssh address names no Python, the one that was found there
    is kept with it.

    Raises:
        UsageError: the address or the name makes no sense.
        DeviceError: it cannot be reached, or no runtime works there; it has no name then.
    """
    require_name(options.name)
    spec = parse_device(options.address)
    save_as = f"{spec.kind}:{spec.address}" if spec.address else spec.kind
    if spec.kind == "emulator":
        build_root()
    by_tools = transport_class(spec.kind).timed_by_tools
    checked = _android(spec) if by_tools else check(options.address)
    if not checked.usable and not by_tools:
        raise DeviceError(f"{options.address} was not added: {'; '.join(checked.advice)}")
    if spec.kind == "ssh" and "?" not in save_as:
        save_as = f"{save_as}?python={checked.facts['executable']}"
    return SavedResult(options.name, save_as, save(options.name, save_as), replace(checked, device=options.name))


@with_options(DeviceRemoveOptions)
def remove(options: DeviceRemoveOptions) -> SavedResult:
    """Takes a device's name away. Nothing is done to the device.

    Raises:
        UsageError: no saved device has it.
    """
    address = saved().get(options.name, "")
    return SavedResult(options.name, address, forget(options.name))


def _android(spec: DeviceSpec) -> CheckResult:
    """What adb tells of a device: no runtime can be tried there."""
    with Adb(spec) as device:
        facts = device.properties()
    reached = Trial("adb reaches it", True, facts["model"])
    advice = f"bench it with a timing program built for {facts['abi']}: --tool benchmark_model"
    return CheckResult(spec.name, f"adb:{spec.address}", spec.evidence.value, facts, (), (reached,), (advice,))


def _asked_adb(device: Saved) -> Saved:
    spec = parse_device(device.name)
    try:
        with Adb(spec, STATE_S) as there:
            facts = there.properties()
    except EdgekitError as error:
        return replace(device, state="unreachable", detail=str(error))
    told = f"{facts['model']}, Android {facts['release']} (SDK {facts['sdk']}), {facts['abi']}"
    held = holder(lease_of(spec))
    return replace(device, state="ready", detail=told) if held is None else _held(device, held, told)


def _held(device: Saved, held: Mapping[str, Any], told: str) -> Saved:
    until = (datetime.now().astimezone() + timedelta(seconds=held["left_s"])).isoformat(timespec="seconds")
    told = f"by {held['owner']} until {until[11:19]} at the latest, for {held['held_s']:.0f} s now; {told}"
    return replace(device, state="leased", detail=told, holder={**held, "until": until})


def _asked(device: Saved) -> Saved:
    if device.state == "invalid":
        return device
    if transport_class(parse_device(device.name).kind).timed_by_tools:
        return _asked_adb(device)
    try:
        with open_worker(device.name, timeout_s=STATE_S) as client:
            there, held = client.environment(), client.holder()
    except EdgekitError as error:
        return replace(device, state="unreachable", detail=str(error))
    load = there.get("load")
    told = f"{there.get('cpu')}, {there.get('cores')} cores"
    if held is not None:
        return _held(device, held, told)
    return replace(device, state="ready", detail=f"{told}, load {load[0]}" if isinstance(load, list) else told)
