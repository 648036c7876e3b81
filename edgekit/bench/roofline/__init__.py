"""How much a model computes and moves, what this machine can do, and how far apart the two are.

Williams, Waterman and Patterson, Roofline (2009), 10.1145/1498765.1498785.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from edgekit.bench.roofline.work import Call, total
from edgekit.errors import UnsupportedError
from edgekit.results.measures import Peaks, Roofline, Work
from edgekit.runtime import Runner
from edgekit.types import Feed

COUNTERS: Mapping[str, str] = {
    "onnxruntime": "edgekit.bench.roofline.ort",
    "litert": "edgekit.bench.roofline.tflite",
    "tflite-runtime": "edgekit.bench.roofline.tflite",
    "torch": "edgekit.bench.roofline.aten",
}
"""Runtime -> module with a function ``calls(runner, feed)``: every operator of one run with its shapes."""
Counter = Callable[[Runner, Feed], list[Call]]


def work(runner: Runner, feed: Feed) -> dict[str, Any]:
    """Multiply-accumulates and bytes of one inference on ``feed``; see :func:`edgekit.bench.roofline.work.total`.

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
