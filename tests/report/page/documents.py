"""Saved results to make pages of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgekit.report.document import envelope
from edgekit.results.base import Result, to_json
from edgekit.results.bench import BenchRecord, Entry, LatencyFigures
from edgekit.results.compressed import Device
from edgekit.results.optimize import Evidence as Look
from edgekit.results.optimize import FrontRow, OptimizeResult, TrialRow
from edgekit.results.saved import SavedDocument, from_json
from edgekit.types import Evidence, Verdict

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


def study(trials: int, devices: tuple[str, ...] = ("cpu", "pi")) -> OptimizeResult:
    """A study of so many trials, each with a short look on every device; eight files are on the front of each."""
    rng = np.random.default_rng(0)
    rows = tuple(
        TrialRow(
            number=k, name=f"channels 0.{k % 9} int8", parameters={"amount": k % 9 / 10}, seconds=float(k + 1),
            state="pruned" if k % 5 == 4 else "complete", why="hopeless" if k % 5 == 4 else "",
            bytes=int(rng.integers(20_000, 400_000)), on_front=k % 10 == 0,
            evidence=tuple(
                Look(device=device, runtime="litert" if k % 2 else "onnxruntime", threads=1, ratio=0.5,
                     shortest_ms=float(rng.lognormal()), quality=float(rng.uniform(0.8, 0.9)), drop=0.01)
                for device in devices
            ),
        )
        for k in range(trials)
    )  # fmt: skip
    front = tuple(
        FrontRow(
            path=Path(f"/front/{k}.onnx"), recipe=Path(f"/front/{k}.toml"), trial=k, name=f"file {k}", format="onnx",
            bytes=1000 * (8 - k) + 1000, sha256=f"{k:064d}", quality=0.9 - 0.01 * k, drop=0.01 * k,
            latency_ms=2.0 - 0.2 * k, ratio_p50=1 - 0.1 * k, ci95=None, verdict=Verdict.FASTER, against="float",
            peak_memory_bytes=10_000_000, device=device, evidence="measured", runtime="onnxruntime", threads=1,
            baseline=k == 0,
        )
        for device in devices
        for k in range(8)
    )  # fmt: skip
    return OptimizeResult(
        folder=Path("/front"), source="cnn", data="cifar10", metric="accuracy", judged_on="train", reported_on="test",
        sampler="nsga2", seed=0, seconds=100.0, trials=rows, front=front, recommended=front[3],
    )  # fmt: skip
