"""Time per operator of a TFLite file, from the profiler inside LiteRT's library (:mod:`.litert_c`).

What XNNPACK runs stands in its words (``Convolution (NHWC, F32) IGEMM``): it is one operator of XNNPACK, into which
operators of the file may be fused. Which layer it comes from is found by going through both graphs in step.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edgekit.bench.clock import WarmupRule, now_ns, time_calls
from edgekit.errors import DeviceError
from edgekit.extras.profile.alone import operator_rows
from edgekit.extras.profile.litert_c import (
    DEFAULT,
    DELEGATE_OPERATOR,
    DELEGATE_PROFILED,
    OPERATOR,
    CompiledModel,
    Event,
)
from edgekit.extras.profile.rows import Row, document, quiet_half
from edgekit.graph import ops
from edgekit.graph.layers import tflite_layer
from edgekit.runtime import Runner
from edgekit.runtime.litert import TFLITE_KERNELS, XNNPACK, FileOperator, LiteRtRunner
from edgekit.runtime.native_stderr import filter_stderr
from edgekit.types import Array, Feed, Format

MOST_RUNS, MOST_EVENTS = 1000, 400_000
WARMUP_RUNS = 3
RESOLUTION_US = 1.0
"""The profiler's clock counts whole microseconds."""
MOST_OVERHEAD = 1.5
"""The profiler notes the memory in use at every event; with thousands of short operators that is most of the time."""
LEAST_SEEN = 0.4
"""Short operators are rounded down to nothing; below this share of the time the rest says little."""


def profile(runner: Runner, feed: Feed, seconds: float) -> dict[str, Any]:
    """See :func:`edgekit.extras.profile.profile`. Where LiteRT's profiler does not serve, :mod:`.alone` does, and
    ``tool`` and ``reason`` say so."""
    assert isinstance(runner, LiteRtRunner)
    arrays = [(int(port.key), array) for port, array in runner.bound(feed)]
    block = time_calls(
        runner.bare(feed), warmup=WarmupRule(3, 0, int(1e9)), min_runs=3, min_ns=int(0.1e9), max_ns=int(2e9)
    )
    bare_ms = float(np.median(block.samples_ns)) / 1e6
    runtime = f"ai-edge-litert {runner.version}"
    try:
        rows, runs, run_ms = library_rows(runner, arrays, seconds)
    except DeviceError as error:
        reason = str(error)
    else:
        reason = _unfit(sum(row.ms for row in rows), run_ms, bare_ms)
        if not reason:
            tool = f"{runtime}, profiler of the compiled model"
            found = document(rows, tool=tool, runs=runs, run_ms=run_ms, resolution_us=RESOLUTION_US)
            return {**found, "bare_ms": bare_ms}
    rows = operator_rows(runner, arrays)
    tool = f"{runtime}, each operator in a file of its own"
    found = document(rows, tool=tool, runs=int(block.samples_ns.size), run_ms=bare_ms, resolution_us=0.1)
    return {**found, "bare_ms": bare_ms, "reason": reason}


def _unfit(total_ms: float, run_ms: float, bare_ms: float) -> str:
    """Why what LiteRT's profiler told is of no use, empty if it is."""
    if run_ms > MOST_OVERHEAD * bare_ms:
        return f"under LiteRT's profiler a run takes {run_ms:.3g} ms instead of {bare_ms:.3g} ms"
    if total_ms < LEAST_SEEN * bare_ms:
        return f"of {bare_ms:.3g} ms LiteRT's profiler, which counts whole microseconds, sees {total_ms:.3g} ms"
    return ""


def library_rows(runner: LiteRtRunner, arrays: list[tuple[int, Array]], seconds: float) -> tuple[list[Row], int, float]:
    """Rows, runs and milliseconds a run, by the profiler in LiteRT's library."""
    with filter_stderr():
        model = CompiledModel(runner.artifact.path, runner.threads)
    try:
        model.bind(arrays)
        started = now_ns()
        for _ in range(WARMUP_RUNS):
            model.run()
        each_s = max((now_ns() - started) / WARMUP_RUNS / 1e9, 1e-6)
        events_a_run = max(len(model.profiled(1)), 1)
        runs = int(max(1, min(seconds / each_s, MOST_RUNS, MOST_EVENTS / events_a_run)))
        events = model.profiled(runs)
    finally:
        with filter_stderr():
            model.close()
    rows, run_ms = read_rows(events, runs)
    return place(rows, runner.operators()), runs, run_ms


def read_rows(events: Sequence[Event], runs: int) -> tuple[list[Row], float]:
    """One row an operator in the order they run, and the milliseconds of a run: means over the quieter half of the
    runs, so that operators and run are of the same ones, and none that somebody else held up.

    An operator that runs another graph (``WHILE``) holds the times of what is in it: that stands in rows of its own.
    """
    whole_us, parts = _runs(events)
    quiet = quiet_half(whole_us)
    count = len(quiet) or runs
    sums: dict[_Key, list[float]] = {}
    for part in [parts[index] for index in quiet] or [list(events)]:
        order, outer = 0, None
        for event in part:
            if event.type not in (OPERATOR, DELEGATE_OPERATOR, DELEGATE_PROFILED):
                continue
            # XNNPACK counts anew in every part of the graph that it took: the place in the run tells them apart
            key = (event.tag, event.type, event.index, event.graph, -1 if event.graph else order)
            order += event.graph == 0
            found = sums.setdefault(key, [0.0, 0.0])
            found[0] += event.elapsed_us
            found[1] += 1
            if event.type == OPERATOR and event.graph == 0:
                outer = key
            elif event.graph != 0 and outer is not None:
                sums[outer][0] -= event.elapsed_us
    run_ms = float(np.mean([whole_us[index] for index in quiet])) / 1000 if quiet else 0.0
    return [_row(key, us, calls, count) for key, (us, calls) in sums.items()], run_ms


def _runs(events: Sequence[Event]) -> tuple[list[int], list[list[Event]]]:
    """Microseconds of each run, and its events."""
    until_us = 0
    whole_us: list[int] = []
    parts: list[list[Event]] = []
    for event in events:
        if event.type == DEFAULT and event.tag == "Invoke" and event.start_us >= until_us:  # not a body's
            whole_us.append(event.elapsed_us)
            parts.append([])
            until_us = event.start_us + event.elapsed_us
        elif parts:
            parts[-1].append(event)
    return whole_us, parts


_Key = tuple[str, int, int, int, int]


def _row(key: _Key, us: float, calls: float, runs: int) -> Row:
    tag, kind, index, graph, order = key
    by = TFLITE_KERNELS if kind == OPERATOR else XNNPACK
    name = f"{index} {tag}" if kind == OPERATOR else f"{XNNPACK} {index if graph else order}"
    where = f" in graph {graph}" if graph else ""
    return Row(name + where, tag, by, max(us, 0.0) / 1000 / runs, calls / runs)


def place(rows: Iterable[Row], operators: Sequence[FileOperator]) -> list[Row]:
    """The rows with their layers.

    A row of TFLite's own kernels has the index of its operator. XNNPACK's operators stand in the order of those of the
    file that it took: each is given the next one of a fitting type; what fits none (a clamp that an ``ADD`` had fused)
    belongs to the operator before.
    """
    taken = [op for op in operators if op.by == XNNPACK]
    by_index = {op.index: op for op in operators}
    at, layer, placed = 0, None, []
    for row in rows:
        if "in graph" in row.name:
            placed.append(row)
            continue
        if row.by != XNNPACK:
            op = by_index.get(int(row.name.partition(" ")[0]))
            placed.append(replace(row, layer=None if op is None else tflite_layer(op.output)))
            continue
        words, bracket, _ = row.type.partition(" (")
        fitting = {op.name for op in ops.of(Format.TFLITE) if bracket and words in op.xnnpack}
        step = next((k for k in range(at, len(taken)) if taken[k].type in fitting), None)
        if step is not None:
            at, layer = step + 1, tflite_layer(taken[step].output)
        placed.append(replace(row, layer=layer))
    return placed
