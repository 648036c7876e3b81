"""``--end-to-end``: from a raw sample to an answer, beside the bare run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgekit.errors import UsageError
from edgekit.pipeline.bench.cell import Cell
from edgekit.results.measures import EndToEnd, Percentiles, Stage
from edgekit.types import Latency

SECONDS = 1.0
_LIMIT_S = 120.0


def end_to_end(cell: Cell) -> EndToEnd:
    """Medians of each stage in milliseconds, of all of them together, and the bare run they are to be read beside.

    Raises:
        UsageError: no raw sample was given.
        DeviceError: what became of the worker.
    """
    given = cell.plan.input
    if given is None:
        raise UsageError("--end-to-end needs a raw sample: give --input FILE")
    with cell.worker() as client:
        place = client.place(given) if Path(given).is_file() else given
        stages = client.measure("stages", timeout_s=_LIMIT_S, input=place, seconds=SECONDS).arrays
    whole = np.sum(list(stages.values()), axis=0)
    latency = Latency(whole)
    return EndToEnd(
        runs=int(whole.size),
        stages=tuple(Stage(name, float(np.median(ns)) / 1e6) for name, ns in stages.items()),
        total_ms=Percentiles(p50=latency.p50_ms, p90=latency.p90_ms, p99=latency.p99_ms),
    )
