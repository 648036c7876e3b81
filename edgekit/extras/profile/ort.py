"""Time per operator of an ONNX file, from onnxruntime's own profiler."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from edgekit.bench.clock import now_ns
from edgekit.extras.profile.rows import Row, document, quiet_half, with_layers
from edgekit.graph import ops
from edgekit.graph.layers import onnx_layers
from edgekit.graph.ops import Family
from edgekit.leftovers import scratch_folder
from edgekit.runtime import Runner
from edgekit.runtime.onnxruntime import OnnxRuntimeRunner
from edgekit.types import Array, Feed, Format

WARMUP_RUNS = 3
MOST_RUNS = 200
"""The profiler keeps every event in memory; more runs than this say nothing new about shares."""
RESOLUTION_US = 1.0
"""Durations in the trace are whole microseconds."""


def profile(runner: Runner, feed: Feed, seconds: float) -> dict[str, Any]:
    """See :func:`edgekit.extras.profile.profile`. A session of its own: profiling is set when one is made."""
    import onnxruntime

    assert isinstance(runner, OnnxRuntimeRunner)
    path = runner.artifact.path
    arrays = {str(port.key): array for port, array in runner.bound(feed)}
    with scratch_folder() as folder:
        options = runner.options()
        options.enable_profiling = True
        options.profile_file_prefix = str(folder / "profile")
        session = runner.session(options)
        _run(session, arrays, seconds)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    rows, runs, run_ms = read_events(events)
    rows = with_layers(rows, onnx_layers(path.read_bytes()))
    tool = f"onnxruntime {onnxruntime.__version__} profiler"
    return document(rows, tool=tool, runs=runs, run_ms=run_ms, resolution_us=RESOLUTION_US)


def read_events(events: Iterable[Mapping[str, Any]]) -> tuple[list[Row], int, float]:
    """Rows of onnxruntime's trace, how many runs they are the mean of, and the milliseconds of such a run.

    The first :data:`WARMUP_RUNS` runs are left out, and of the others the slower half. An operator with a body
    (``Loop``, ``Scan``, ``If``) holds the times of the operators inside it, which stand in rows of their own: its row
    has only the rest.
    """
    events = list(events)
    kept = sorted((e["ts"], e["dur"]) for e in events if e.get("cat") == "Session" and e.get("name") == "model_run")
    kept = kept[WARMUP_RUNS:] or kept
    quiet = [kept[place] for place in quiet_half([duration for _, duration in kept])]
    count = max(len(quiet), 1)
    starts = [start for start, _ in quiet]

    def is_counted(event: Mapping[str, Any]) -> bool:
        place = bisect_right(starts, event["ts"]) - 1
        return not quiet or (place >= 0 and event["ts"] <= sum(quiet[place]))

    calls = [e for e in events if e.get("cat") == "Node" and "op_name" in e.get("args", {}) and is_counted(e)]
    sums: dict[tuple[str, str, str], tuple[float, int]] = {}
    for event, own_us in _own_times(calls):
        args = event["args"]
        key = (str(event["name"]).removesuffix("_kernel_time"), str(args["op_name"]), str(args.get("provider", "")))
        us, times = sums.get(key, (0.0, 0))
        sums[key] = us + own_us, times + 1
    rows = [Row(*key, us / 1000 / count, times / count) for key, (us, times) in sums.items()]
    return rows, len(kept), sum(duration for _, duration in quiet) / 1000 / count


def _own_times(calls: Iterable[Mapping[str, Any]]) -> Iterable[tuple[Mapping[str, Any], float]]:
    """Each call with the microseconds that no call inside it accounts for (one thread at a time calls operators)."""
    order = sorted(calls, key=lambda e: (e["ts"], -e["dur"]))
    own = [float(event["dur"]) for event in order]
    open_: list[int] = []
    for index, event in enumerate(order):
        while open_ and order[open_[-1]]["ts"] + order[open_[-1]]["dur"] <= event["ts"]:
            open_.pop()
        if open_ and order[open_[-1]]["args"]["op_name"] in _WITH_BODY:
            own[open_[-1]] -= event["dur"]
        if event["args"]["op_name"] in _WITH_BODY:
            open_.append(index)
    return zip(order, (max(us, 0.0) for us in own), strict=True)


_WITH_BODY = ops.names(Format.ONNX, Family.LOOP, Family.BRANCH)


def _run(session: Any, arrays: Mapping[str, Array], seconds: float) -> None:
    started = now_ns()
    for count in range(WARMUP_RUNS + MOST_RUNS):
        session.run(None, dict(arrays))
        if count >= WARMUP_RUNS and now_ns() - started > seconds * 1e9:
            return
