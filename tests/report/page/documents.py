"""Saved results to make pages of."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.report.document import envelope
from edgekit.results.base import Result, to_json
from edgekit.results.bench import BenchRecord, Entry, LatencyFigures
from edgekit.results.compressed import Device
from edgekit.results.saved import SavedDocument, from_json
from edgekit.types import Evidence

HOSTILE = "</script><script>window.hacked=1</script><!--<img src=x onerror=window.hacked=1>\u2028\u202e\x1b[31m"
"""A name that tries every way out of a text."""


def saved(verb: str, result: Result) -> SavedDocument:
    """As it is read from the file that ``--json`` writes."""
    return from_json(to_json(envelope(verb, result.document(), ("edgekit", verb, "a b.onnx"))), f"{verb}.json")


def timed(model: str, *, samples: int = 2000, seed: int = 0, device: str = "cpu", **more: Any) -> Entry:
    """A cell with as many samples around a millisecond."""
    ns = np.random.default_rng(seed).lognormal(13.8, 0.1, samples).astype(int)
    p50 = float(np.median(ns)) / 1e6
    place = Device(name=device, kind="cpu", evidence=Evidence.MEASURED, cpu="a processor")
    return Entry(**{
        "model": model, "sha256": f"{seed:064d}", "format": "onnx", "bytes": 1000 * (seed + 1), "device": place,
        "runtime": "onnxruntime", "threads": 1, "batch": 1, "scenario": "single-stream", "samples": samples,
        "latency_ms": LatencyFigures(p50=p50), "samples_ns": tuple(ns.tolist()), **more,
    })  # fmt: skip


def bench(*entries: Entry) -> SavedDocument:
    return saved("bench", BenchRecord(results=entries))
