"""What ``doctor`` and ``device`` find: runtimes, packages, devices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.errors import DeviceError
from edgekit.results.base import Result, derived, optional
from edgekit.version import __version__


@dataclass(frozen=True)
class Package:
    """One distribution: its version (null: not installed), what it is for, how to get it."""

    name: str
    version: str | None
    used_for: str
    install: str


@dataclass(frozen=True)
class Backend:
    """One runtime, tried with a model of one operator in a worker.

    ``state``: ``works``, ``missing`` (not installed), ``broken`` (``detail`` says how it failed and what to do), or
    ``installed`` where it was not tried.
    """

    runtime: str
    format: str
    state: str
    detail: str
    install: str


@dataclass(frozen=True)
class Beside:
    """One environment beside edgekit's own, on this machine.

    ``state``: ``here`` (its package is in edgekit's own environment), ``there`` (in ``python``), ``missing``, or
    ``broken`` (``detail`` says why). ``variable``: the environment variable that names its interpreter.
    """

    name: str
    state: str
    python: str | None
    detail: str
    used_for: str
    variable: str
    install: str


@dataclass(frozen=True, kw_only=True, repr=False)
class DoctorResult(Result):
    """What is there on ``device``.

    Attributes:
        usable: at least one runtime works, or is installed where none was tried.
        trouble: why no worker starts on the device; then nothing is known of its runtimes.
        environments: those beside edgekit's own on this machine, for packages whose pins are not edgekit's.
    """

    device: str
    usable: bool = derived(lambda result: any(one.state in ("works", "installed") for one in result.backends))
    trouble: str | None = None
    python: str
    version: str = __version__
    backends: tuple[Backend, ...]
    packages: tuple[Package, ...]
    environments: tuple[Beside, ...] = ()

    def failure(self) -> DeviceError | None:
        """What the command ends with where no runtime works."""
        if self.trouble is not None:
            return DeviceError(self.trouble)
        hint = "install one, for example: pip install 'edgekit[onnx,litert]'"
        return None if self.usable else DeviceError(f"no runtime works on {self.device}; {hint}")


@dataclass(frozen=True)
class DeviceKind:
    """One kind of device: its spelling, what it is, and what its figures are worth."""

    name: str
    spelling: str
    description: str
    evidence: str


@dataclass(frozen=True)
class SavedDevice:
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


@dataclass(frozen=True, repr=False)
class DevicesResult(Result):
    """Every kind of device there is, third parties' included, and the devices that have names."""

    devices: tuple[DeviceKind, ...]
    saved: tuple[SavedDevice, ...] = ()


@dataclass(frozen=True)
class DeviceTrial:
    """One thing that was tried: what it was, whether it held, and what was seen."""

    name: str
    passed: bool
    detail: str = ""


@dataclass(frozen=True, kw_only=True, repr=False)
class CheckResult(Result):
    """A device as it was found.

    Attributes:
        usable: at least one runtime works there.
        passed: and every trial held.
        facts: Python, CPU, memory, disk.
        advice: what to do there, in order.
    """

    device: str
    address: str
    evidence: str
    usable: bool = derived(lambda result: any(backend.state == "works" for backend in result.backends))
    passed: bool = derived(lambda result: result.usable and all(trial.passed for trial in result.trials))
    facts: Mapping[str, Any]
    backends: tuple[Backend, ...]
    trials: tuple[DeviceTrial, ...]
    advice: tuple[str, ...] = ()

    def failure(self) -> DeviceError | None:
        """What the command ends with unless all of it held."""
        if not self.usable:
            return DeviceError("; ".join(self.advice))
        failed = [f"{trial.name}: {trial.detail}" for trial in self.trials if not trial.passed]
        what = f"{self.device} failed {len(failed)} of {len(self.trials)} trials: {'; '.join(failed)}"
        return DeviceError(what) if failed else None


@dataclass(frozen=True, repr=False)
class SavedResult(Result):
    """What ``add`` or ``remove`` did to the file of names; ``check`` is what was found on a device that was added."""

    name: str
    address: str
    file: Path
    check: CheckResult | None = optional()
