"""``--roofline``: how much a model computes and moves, what this machine can do, and how far apart the two are.

Williams, Waterman and Patterson, Roofline (2009), 10.1145/1498765.1498785.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from edgekit.bench.result import CellResult
from edgekit.devices.functions import Value, on_device
from edgekit.devices.protocol import Message
from edgekit.devices.rules import number, record, rows, text, whole
from edgekit.devices.schema import LONG, OF_A_FEED, Reply
from edgekit.documents import typed
from edgekit.errors import DeviceError, UnsupportedError
from edgekit.extras.base import BenchExtra, TimedCell, short
from edgekit.extras.roofline.peaks import measure
from edgekit.extras.roofline.work import Call, total
from edgekit.results.bench import Entry
from edgekit.runtime import Runner
from edgekit.types import SUPPORTED_SAMPLES, Feed, percentile_ns

if TYPE_CHECKING:
    from edgekit.options.bench import BenchOptions

COUNTERS: Mapping[str, str] = {
    "onnxruntime": "edgekit.extras.roofline.ort",
    "litert": "edgekit.extras.roofline.tflite",
    "tflite-runtime": "edgekit.extras.roofline.tflite",
    "torch": "edgekit.extras.roofline.aten",
}
"""Runtime -> module with a function ``calls(runner, feed)``: every operator of one run with its shapes."""
Counter = Callable[[Runner, Feed], list[Call]]


@dataclass(frozen=True, slots=True)
class Uncounted:
    """Operators whose work is not known."""

    type: str
    calls: int


@dataclass(frozen=True, kw_only=True)
class Work:
    """Multiply-accumulates and bytes moved of one inference.

    Attributes:
        narrow_macs: those on numbers of less than 32 bits, which the measured peak of float32 does not bound.
    """

    macs: int
    bytes: int
    narrow_macs: int = 0
    types: tuple[Mapping[str, Any], ...] = ()
    uncounted: tuple[Uncounted, ...] = ()


@dataclass(frozen=True, slots=True)
class Peaks:
    """What the machine was measured to do."""

    flops_per_s: float
    bytes_per_s: float
    memory_bytes_per_s: float


@dataclass(frozen=True, kw_only=True)
class Roofline(Work):
    """What a model computes and moves, and how near it comes to what the machine can do.

    Attributes:
        intensity: operations a byte.
        roof_flops_per_s: the lower of the two roofs there; ``bound``: which one that is. Of a model that computes in
            less than 32 bits only the roof of the memory is known.
        share_of_roof, share_of_compute_peak: what the model reaches of it; null where it is not known.
    """

    peaks: Peaks
    flops: float
    intensity: float
    attained_flops_per_s: float
    roof_flops_per_s: float
    bound: str
    share_of_roof: float | None
    share_of_compute_peak: float | None


def work(runner: Runner, feed: Feed) -> dict[str, Any]:
    """Multiply-accumulates and bytes of one inference on ``feed``; see :func:`edgekit.extras.roofline.work.total`.

    Raises:
        UnsupportedError: a runtime whose operators edgekit cannot count.
    """
    if runner.name not in COUNTERS:
        raise UnsupportedError(f"--roofline: operators of {runner.name} cannot be counted; leave it out")
    counter: Counter = import_module(COUNTERS[runner.name]).calls
    return total(counter(runner, feed))


def position(work: Work, peaks: Peaks, p50_ms: float) -> Roofline:
    """Where a model that takes ``p50_ms`` stands under the roof of ``peaks``.

    ``intensity`` is operations a byte, ``roof_flops_per_s`` the lower of the two roofs there, ``bound`` which one that
    is, ``share_of_roof`` what the model reaches of it. The peak of the compute is that of float32: integers and halves
    have none here, so that a file that computes in them has no share.
    """
    flops = 2.0 * work.macs
    intensity = flops / work.bytes if work.bytes else 0.0
    roofs = {"memory": intensity * peaks.bytes_per_s}
    if not work.narrow_macs:
        roofs["compute"] = peaks.flops_per_s
    bound = min(roofs, key=lambda name: roofs[name])
    attained = flops / (p50_ms / 1e3)
    return Roofline(
        macs=work.macs,
        narrow_macs=work.narrow_macs,
        bytes=work.bytes,
        types=work.types,
        uncounted=work.uncounted,
        peaks=peaks,
        flops=flops,
        intensity=intensity,
        attained_flops_per_s=attained,
        roof_flops_per_s=roofs[bound],
        bound=bound,
        share_of_roof=attained / roofs[bound] if roofs[bound] and not work.narrow_macs else None,
        share_of_compute_peak=None if work.narrow_macs else attained / peaks.flops_per_s,
    )


_NAME, _RATE = text(LONG), number(1e-30)
_LIMIT_S = 120.0
_measured: dict[tuple[str, int, int], Peaks] = {}
"""Peaks that this process has measured: device, threads, working set as a power of two."""


@on_device(
    Reply(
        record(
            macs=whole(),
            narrow_macs=whole(),
            bytes=whole(1),
            types=rows(record(type=_NAME, macs=whole())),
            uncounted=rows(record(type=_NAME, calls=whole())),
        ),
        raises=OF_A_FEED,
    )
)
def work_here(runner: Runner, message: Message) -> Value:
    """Operations and bytes of one inference on the feed."""
    return work(runner, message.arrays)


@on_device(Reply(record(flops_per_s=_RATE, bytes_per_s=_RATE, memory_bytes_per_s=_RATE)), alone=True)
def peaks_here(message: Message) -> Value:
    """``threads``, ``working_set_bytes``. See :func:`edgekit.extras.roofline.peaks.measure`."""
    return measure(int(message.header["threads"]), int(message.header["working_set_bytes"]))


class RooflineExtra(BenchExtra):
    """How much is computed and moved, and how near the model comes to what the machine can do."""

    name: ClassVar[str] = "roofline"
    result: ClassVar[Any] = Roofline

    def measure(self, cell: TimedCell, result: CellResult, options: BenchOptions) -> Roofline:
        samples = result.samples_ns
        if samples.size < SUPPORTED_SAMPLES[50]:
            raise DeviceError(f"--roofline needs a p50: {samples.size} runs, {SUPPORTED_SAMPLES[50]} are needed")
        plan = cell.plan
        with cell.worker() as client:
            one = typed(Work, client.measure(work_here, cell.feed, timeout_s=_LIMIT_S).header, "the work")
            size = 1 << (one.bytes - 1).bit_length()
            key = (plan.device.name, plan.threads, size)
            if key not in _measured:
                asked: dict[str, Any] = {"threads": plan.threads, "working_set_bytes": size}
                told = client.measure(peaks_here, timeout_s=_LIMIT_S, **asked)
                _measured[key] = typed(Peaks, told.header, "the peaks")
        # the calls of one sample are as many as its runs: what multi-stream does several times counts several times
        many = cell.runs
        whole_work = replace(one, macs=many * one.macs, narrow_macs=many * one.narrow_macs, bytes=many * one.bytes)
        return position(whole_work, _measured[key], percentile_ns(samples, 50) / 1e6)

    def report(self, entry: Entry, found: Roofline) -> list[Any]:
        said = f"{short(entry.model)}: {found.macs / 1e6:.4g} M multiply-accumulates, "
        said += f"{found.bytes / 1e6:.4g} MB moved, {found.attained_flops_per_s / 1e9:.3g} GFLOP/s"
        if found.share_of_roof is not None:
            roof = f"{found.roof_flops_per_s / 1e9:.3g} that the {found.bound} allows"
            said += f", {100 * found.share_of_roof:.0f}% of the {roof} at {found.intensity:.3g} operations a byte"
        elif found.narrow_macs:
            said += "; what the machine can do in less than 32 bits was not measured"
        if found.uncounted:
            said += f"; not counted: {', '.join(row.type for row in found.uncounted)}"
        return [said]

    def columns(self, found: Roofline | None) -> dict[str, object]:
        return {"macs": found and found.macs, "share_of_roof": found and found.share_of_roof}


EXTRA = RooflineExtra()
