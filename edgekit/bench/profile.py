"""Time per operator of an ONNX file, from onnxruntime's own profiler. A program of its own:

    python -m edgekit.bench.profile MODEL.onnx FEED.npz OUT.json THREADS SECONDS

It runs apart from the timed pass, since the profiler slows every operator down: shares are meant, not totals.
LiteRT's Python package has no operator profiler.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.bench.clock import now_ns
from edgekit.types import Feed

WARMUP_RUNS = 3
MOST_RUNS = 200
"""The profiler keeps every event in memory; more runs than this say nothing new about shares."""


def operators(events: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Sums of a profile: ``{"runs", "total_ms", "types": [...], "nodes": [...]}``, milliseconds a run, largest first.

    The first :data:`WARMUP_RUNS` runs are left out. ``events``: onnxruntime's trace, durations in microseconds.
    """
    runs = sorted((e["ts"], e["dur"]) for e in events if e.get("cat") == "Session" and e.get("name") == "model_run")
    kept = runs[WARMUP_RUNS:] or runs
    count = max(len(kept), 1)
    start = kept[0][0] if kept else 0
    nodes: dict[tuple[str, str, str], list[float]] = {}
    for event in events:
        args = event.get("args") or {}
        if event.get("cat") != "Node" or "op_name" not in args or event["ts"] < start:
            continue
        name = str(event["name"]).removesuffix("_kernel_time")
        key = (name, str(args["op_name"]), str(args.get("provider", "")))
        nodes.setdefault(key, []).append(float(event["dur"]))
    total = sum(sum(times) for times in nodes.values()) / 1000 / count
    share = 1 / total if total > 0 else 0.0
    rows: list[dict[str, Any]] = []
    for (name, kind, provider), times in nodes.items():
        each = sum(times) / 1000 / count
        rows.append({"name": name, "type": kind, "by": provider, "ms": each, "share": each * share})
    types: dict[str, dict[str, Any]] = {}
    for row in rows:
        found = types.setdefault(row["type"], {"type": row["type"], "calls": 0, "ms": 0.0, "share": 0.0})
        found["calls"] += 1
        found["ms"] += row["ms"]
        found["share"] += row["share"]

    def longest(table: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        return sorted(table, key=lambda row: -row["ms"])

    return {"runs": len(kept), "total_ms": total, "types": longest(types.values()), "nodes": longest(rows)}


def profile_onnx(model: str, feed: Feed, threads: int, seconds: float) -> dict[str, Any]:
    """Runs ``model`` under the profiler for ``seconds``, at most :data:`MOST_RUNS` times; see :func:`operators`."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        started = now_ns()
        for count in range(WARMUP_RUNS + MOST_RUNS):
            session.run(None, dict(feed))
            if count >= WARMUP_RUNS and now_ns() - started > seconds * 1e9:
                break
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return operators(events)


def main(arguments: list[str]) -> int:
    """The program of the module's docstring."""
    model, feed_path, out, threads, seconds = arguments
    with np.load(feed_path, allow_pickle=False) as arrays:
        feed = {name: arrays[name] for name in arrays.files}
    Path(out).write_text(json.dumps(profile_onnx(model, feed, int(threads), float(seconds))), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
