"""What lies beside the timed run of an accelerator: copies to it and back, and the run by its own clock."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.devices import WorkerClient
from edgekit.types import Array, Feed

SECONDS = 0.5
_LIMIT_S = 60.0


def transfer(client: WorkerClient, feed: Feed) -> dict[str, Any]:
    """Medians in milliseconds of ``copy_in``, ``run`` and ``copy_out`` on the host's clock, of ``device`` by the
    accelerator's events (None where it has none), and the bytes that are copied."""
    told = client.measure("transfer", feed, timeout_s=_LIMIT_S, seconds=SECONDS)
    parts = {name.replace(" ", "_"): _median_ms(ns) for name, ns in told.arrays.items()}
    return {"p50_ms": parts, "bytes_in": int(told.header["bytes_in"]), "bytes_out": int(told.header["bytes_out"])}


def _median_ms(ns: Array) -> float | None:
    return float(np.median(ns)) / 1e6 if ns.size else None
