"""``--energy``: joules of a run, where the platform has a meter: Intel and AMD RAPL, the INA sensors of boards, NVML.

Sources: Documentation/power/powercap/powercap.rst and Documentation/hwmon/{sysfs-interface,ina3221}.rst of Linux, the
``in_power`` files of NVIDIA's older Jetson kernels, NVML's ``nvmlDeviceGetTotalEnergyConsumption``.

A meter counts all that it supplies, other processes included; what it shows at rest is measured before.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from edgekit.bench.clock import now_ns
from edgekit.bench.result import CellResult
from edgekit.devices.functions import Value, on_device
from edgekit.devices.protocol import Message
from edgekit.devices.rules import either, number, record, rows, text, whole
from edgekit.devices.schema import OF_A_FEED, Reply
from edgekit.documents import typed
from edgekit.extras.base import BenchExtra, TimedCell, short
from edgekit.results.bench import Entry
from edgekit.results.measures import Absent
from edgekit.runtime import Runner

if TYPE_CHECKING:
    from edgekit.options.bench import BenchOptions

POLL_S = 0.02
"""How often a sensor of power is read."""
IDLE_SHARE = 0.25
"""Part of the time for the power at rest."""
_NVML = "libnvidia-ml.so.1"
SECONDS = 4.0
"""Meters are coarse: RAPL counts in milliseconds, board sensors in tens of them."""
_LIMIT_S = 300.0


class AnyMeter(Protocol):
    """Something that knows how much energy went through it. ``name`` is what it supplies, ``source`` the interface."""

    name: str
    source: str

    def start(self) -> None:
        """Begins to count."""

    def stop(self) -> float:
        """Joules since :meth:`start`."""


@dataclass
class Counter:
    """A meter that counts by itself: ``read`` gives joules since some time, and starts anew at ``range_j``."""

    name: str
    source: str
    read: Callable[[], float]
    range_j: float = float("inf")
    _before: float = 0.0

    def start(self) -> None:
        self._before = self.read()

    def stop(self) -> float:
        spent = self.read() - self._before
        return spent if spent >= 0 else spent + self.range_j


@dataclass
class Power:
    """A meter that shows watts: read by a thread of its own, added up by the trapezoidal rule."""

    name: str
    source: str
    read: Callable[[], float]
    _points: list[tuple[int, float]] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._points, self._stop = [], threading.Event()
        self._note()
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._note()
        return joules(self._points)

    def _poll(self) -> None:
        while not self._stop.wait(POLL_S):
            self._note()

    def _note(self) -> None:
        self._points.append((now_ns(), self.read()))


def joules(points: Sequence[tuple[int, float]]) -> float:
    """Energy under watts over nanoseconds, by the trapezoidal rule."""
    return sum((b - a) / 1e9 * (p + q) / 2 for (a, p), (b, q) in pairwise(points))


def find_meters(root: Path = Path("/"), nvml: str = _NVML) -> tuple[list[AnyMeter], list[str]]:
    """The meters of this machine, and what was seen but cannot be read. ``root``: where ``sys`` lies."""
    refused: list[str] = []
    found: list[AnyMeter] = [*_rapl(root, refused), *_hwmon(root), *_jetson(root), *_nvidia(nvml, refused)]
    return found, refused


def measure(call: Callable[[], object], seconds: float, meters: Sequence[AnyMeter]) -> dict[str, Any]:
    """Runs ``call`` again and again for ``seconds``, after a rest of :data:`IDLE_SHARE` of that.

    Returns:
        ``runs``, ``seconds``, and in ``meters`` for each its joules, watts, joules a run, watts at rest and joules a
        run beyond rest.
    """
    idle_s, idle_j, _ = _metered(lambda: None, IDLE_SHARE * seconds, meters, rest=True)
    spent_s, spent_j, runs = _metered(call, seconds, meters, rest=False)
    rows = []
    for meter, idle, spent in zip(meters, idle_j, spent_j, strict=True):
        at_rest = idle / idle_s
        rows.append({
            "name": meter.name, "source": meter.source, "joules": spent, "watts": spent / spent_s,
            "joules_per_run": spent / runs, "idle_watts": at_rest,
            "joules_per_run_beyond_idle": (spent - at_rest * spent_s) / runs,
        })  # fmt: skip
    return {"runs": runs, "seconds": spent_s, "meters": rows}


def _metered(
    call: Callable[[], object], seconds: float, meters: Sequence[AnyMeter], *, rest: bool
) -> tuple[float, list[float], int]:
    """Seconds, joules of each meter, and calls."""
    for meter in meters:
        meter.start()
    started, runs = now_ns(), 0
    if rest:
        time.sleep(seconds)
    while not rest and (runs == 0 or now_ns() - started < seconds * 1e9):
        call()
        runs += 1
    elapsed = (now_ns() - started) / 1e9
    return elapsed, [meter.stop() for meter in meters], runs


def _rapl(root: Path, refused: list[str]) -> Iterator[AnyMeter]:
    """Whole packages; the domains inside one (cores, memory) are parts of it or stand beside it as ``dram``."""
    for folder in sorted((root / "sys/class/powercap").glob("*-rapl:*")):
        name = _text(folder / "name")
        if not name.startswith(("package", "psys", "dram")):
            continue
        energy = folder / "energy_uj"
        try:
            float(energy.read_text())
        except OSError as error:
            refused.append(f"{energy}: {error.strerror}; let it be read with: chmod a+r {energy}")
            continue
        wraps = _number(folder / "max_energy_range_uj")
        yield Counter(name, "RAPL", _reader(energy, 1e-6), float("inf") if wraps is None else wraps * 1e-6)


def _hwmon(root: Path) -> Iterator[AnyMeter]:
    """``power*_input`` in microwatts; for an INA3221 without it, volts and amperes of each rail."""
    for folder in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        chip = _text(folder / "name") or folder.name
        powers = sorted(folder.glob("power*_input"))
        for file in powers:
            label = _text(folder / file.name.replace("_input", "_label")) or file.name.removesuffix("_input")
            if _number(file) is not None:
                yield Power(f"{chip} {label}", "hwmon", _reader(file, 1e-6))
        for file in [] if powers else sorted(folder.glob("curr*_input")):
            volts = folder / file.name.replace("curr", "in")
            label = _text(folder / volts.name.replace("_input", "_label")) or volts.name.removesuffix("_input")
            if "ina" in chip and _number(file) is not None and _number(volts) is not None:
                yield Power(f"{chip} {label}", "hwmon", _product(_reader(file, 1e-3), _reader(volts, 1e-3)))


def _jetson(root: Path) -> Iterator[AnyMeter]:
    """Older Jetson kernels: ``in_power0_input`` in milliwatts beside ``rail_name_0``."""
    for file in sorted((root / "sys/bus/i2c/drivers").glob("ina3221x/*/iio:device*/in_power*_input")):
        rail = file.name.removeprefix("in_power").removesuffix("_input")
        if _number(file) is not None:
            yield Power(_text(file.parent / f"rail_name_{rail}") or f"rail {rail}", "INA3221", _reader(file, 1e-3))


def _nvidia(library: str, refused: list[str]) -> Iterator[AnyMeter]:
    """One meter a GPU, millijoules since the driver was loaded."""
    try:
        nvml = ctypes.CDLL(library)
    except OSError:
        return
    count = ctypes.c_uint()
    if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)):
        refused.append(f"{library}: it does not start; see nvidia-smi")
        return
    for index in range(count.value):
        device, spent = ctypes.c_void_p(), ctypes.c_ulonglong()
        status = nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device))
        status = status or nvml.nvmlDeviceGetTotalEnergyConsumption(device, ctypes.byref(spent))
        if status:
            refused.append(f"GPU {index}: NVML status {status}: it does not count energy")
            continue
        yield Counter(f"GPU {index}", "NVML", _gpu_reader(nvml, device))


def _gpu_reader(nvml: ctypes.CDLL, device: ctypes.c_void_p) -> Callable[[], float]:
    def read() -> float:
        spent = ctypes.c_ulonglong()
        nvml.nvmlDeviceGetTotalEnergyConsumption(device, ctypes.byref(spent))
        return spent.value / 1e3

    return read


def _reader(file: Path, scale: float) -> Callable[[], float]:
    return lambda: float(file.read_text()) * scale


def _product(a: Callable[[], float], b: Callable[[], float]) -> Callable[[], float]:
    return lambda: a() * b()


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _number(file: Path) -> float | None:
    try:
        return float(file.read_text())
    except (OSError, ValueError):
        return None


@dataclass(frozen=True, kw_only=True)
class Meter:
    """One meter of energy."""

    name: str
    source: str
    joules: float
    watts: float
    joules_per_run: float
    idle_watts: float
    joules_per_run_beyond_idle: float


@dataclass(frozen=True, kw_only=True)
class Energy:
    """Joules by every meter there is; ``refused``: meters that cannot be read."""

    runs: int
    seconds: float
    meters: tuple[Meter, ...]
    refused: tuple[str, ...]


_METER = record(
    name=text(),
    source=text(),
    joules=number(),
    watts=number(),
    joules_per_run=number(),
    idle_watts=number(),
    joules_per_run_beyond_idle=number(),
)
_RUNS = record(runs=whole(1), seconds=number(1e-30), meters=rows(_METER), refused=rows(text()))


@on_device(Reply(either(record(absent=text()), _RUNS), raises=OF_A_FEED))
def energy_here(runner: Runner, message: Message) -> Value:
    """``seconds``; the feed as arrays. Energy by every meter there is."""
    meters, refused = find_meters()
    if not meters:
        reason = "; ".join(refused) or "this machine shows no meter (no RAPL, no INA or other power sensor, no NVML)"
        return {"absent": reason}
    found = measure(runner.bare(message.arrays), float(message.header["seconds"]), meters)
    return {**found, "refused": refused}


class EnergyExtra(BenchExtra):
    """Joules of a run by each meter, or why there are none."""

    name: ClassVar[str] = "energy"
    result: ClassVar[Any] = Absent | Energy

    def measure(self, cell: TimedCell, result: CellResult, options: BenchOptions) -> Absent | Energy:
        with cell.worker() as client:
            found = client.measure(energy_here, cell.feed, timeout_s=_LIMIT_S, seconds=SECONDS).header
        return typed(Absent, found, "the energy") if "absent" in found else typed(Energy, found, "the energy")

    def report(self, entry: Entry, found: Absent | Energy) -> list[Any]:
        name = short(entry.model)
        if isinstance(found, Absent):
            return [f"{name}: energy: none: {found.absent}"]
        return [
            f"{name}: {row.name} ({row.source}): {1e3 * row.joules_per_run:.4g} mJ a run, "
            f"{1e3 * row.joules_per_run_beyond_idle:.4g} mJ of it beyond rest; {row.watts:.3g} W, at rest "
            f"{row.idle_watts:.3g} W"
            for row in found.meters
        ]


EXTRA = EnergyExtra()
