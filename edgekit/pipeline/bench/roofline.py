"""``--roofline``: what a model computes and moves, beside what this machine was measured to do."""

from __future__ import annotations

from dataclasses import replace

from edgekit.bench.result import CellResult
from edgekit.bench.roofline import position
from edgekit.documents import typed
from edgekit.errors import DeviceError
from edgekit.pipeline.bench.cell import Cell
from edgekit.results.measures import Peaks, Roofline, Work
from edgekit.types import SUPPORTED_SAMPLES, percentile_ns

_LIMIT_S = 120.0
_measured: dict[tuple[str, int, int], Peaks] = {}
"""Peaks that this process has measured: device, threads, working set as a power of two."""


def roofline(result: CellResult, cell: Cell) -> Roofline:
    """Work, peaks and position of a cell; see :mod:`edgekit.bench.roofline`.

    Raises:
        DeviceError: too few runs for a p50, or what became of the worker.
        UnsupportedError: the runtime's operators cannot be counted.
    """
    samples = result.samples_ns
    if samples.size < SUPPORTED_SAMPLES[50]:
        raise DeviceError(f"--roofline needs a p50: {samples.size} runs, {SUPPORTED_SAMPLES[50]} are needed")
    plan = cell.plan
    with cell.worker() as client:
        work = typed(Work, client.measure("work", cell.feed, timeout_s=_LIMIT_S).header, "the work")
        size = 1 << (work.bytes - 1).bit_length()
        key = (plan.device.name, plan.threads, size)
        if key not in _measured:
            told = client.measure("peaks", timeout_s=_LIMIT_S, threads=plan.threads, working_set_bytes=size)
            _measured[key] = typed(Peaks, told.header, "the peaks")
    peaks = _measured[key]
    # the calls of one sample are as many as its runs: what multi-stream does several times counts several times
    many = cell.runs
    work = replace(work, macs=many * work.macs, narrow_macs=many * work.narrow_macs, bytes=many * work.bytes)
    return position(work, peaks, percentile_ns(samples, 50) / 1e6)
