"""What lies beside the timed run of an accelerator: copies to it and back, and the run by its own clock."""

from __future__ import annotations

import numpy as np

from edgekit.devices import WorkerClient, measures
from edgekit.results.measures import CopyTimes, Transfer
from edgekit.types import Array, Feed

SECONDS = 0.5
_LIMIT_S = 60.0


def transfer(client: WorkerClient, feed: Feed) -> Transfer:
    """Medians in milliseconds of ``copy_in``, ``run`` and ``copy_out`` on the host's clock, of ``device`` by the
    accelerator's events (None where it has none), and the bytes that are copied."""
    told = client.measure(measures.transfer, feed, timeout_s=_LIMIT_S, seconds=SECONDS)
    parts = {name.replace(" ", "_"): _median_ms(ns) for name, ns in told.arrays.items()}
    copied = int(told.header["bytes_in"]), int(told.header["bytes_out"])
    return Transfer(p50_ms=CopyTimes(**parts), bytes_in=copied[0], bytes_out=copied[1])


def _median_ms(ns: Array) -> float | None:
    return float(np.median(ns)) / 1e6 if ns.size else None
