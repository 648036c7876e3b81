"""``--sustain 30m``: one model without a pause, latency against time, and when it became slower."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from edgekit.bench.clock import Block, WarmupRule, now_ns
from edgekit.bench.scenario.drift import FEWEST, change_point
from edgekit.pipeline.bench.cell import Cell
from edgekit.types import Latency

log = logging.getLogger("edgekit")

WINDOWS = 120
LEAST_WINDOW_S = 0.05
_TOLD = 10
"""Lines of progress in all."""
_NO_WARMUP = WarmupRule(0, 0, 0)


def sustain(cell: Cell, seconds: float) -> dict[str, Any]:
    """Runs the cell's model in a worker of its own for ``seconds``, noted in windows of equal length.

    The samples of a window are not kept: half an hour of a fast model is millions of them. ``throttled_at_s`` is the
    start of the window from which on the medians are higher (:mod:`edgekit.bench.scenario.drift`), None with a
    ``reason`` where they are not.

    Raises:
        DeviceError: what became of the worker.
    """
    window_s = max(seconds / WINDOWS, LEAST_WINDOW_S)
    windows: list[dict[str, Any]] = []
    with cell.worker() as client:
        started = now_ns()
        while (at_s := (now_ns() - started) / 1e9) < seconds:
            length_ns = int(min(window_s, max(seconds - at_s, LEAST_WINDOW_S)) * 1e9)
            block = client.time_block(cell.feed, warmup=_NO_WARMUP, min_runs=1, min_ns=length_ns, max_ns=length_ns)
            windows.append({"at_s": at_s, **_window(block), **_state(client.environment())})
            if len(windows) % (WINDOWS // _TOLD) == 0:
                log.info("%s: %.0f of %.0f s, p50 %.4g ms", cell.plan.model, at_s, seconds, windows[-1]["p50_ms"])
    return {"seconds": seconds, "window_s": window_s, "windows": windows, **_verdict(windows)}


def _window(block: Block) -> dict[str, Any]:
    samples = block.samples_ns
    latency = Latency(samples)
    return {
        "runs": int(samples.size),
        "p50_ms": float(np.median(samples)) / 1e6,
        "p90_ms": latency.p90_ms,
        "p99_ms": latency.p99_ms,
        "max_ms": int(samples.max()) / 1e6,
    }


def _state(environment: dict[str, Any]) -> dict[str, Any]:
    return {key: environment[key] for key in ("temperature_c", "frequency_mhz", "busy")}


def _verdict(windows: list[dict[str, Any]]) -> dict[str, Any]:
    medians = np.array([window["p50_ms"] for window in windows])
    quarter = max(medians.size // 4, 1)
    ends = {"first_ms": float(np.median(medians[:quarter])), "last_ms": float(np.median(medians[-quarter:]))}
    change = change_point(medians)
    if change is None:
        reason = f"too few windows to say whether it became slower: {medians.size}, {FEWEST} are needed"
        return {**ends, "throttled_at_s": None, "change": None, "reason": reason}
    found = {"at_s": windows[change.index]["at_s"], "ratio": change.ratio, "p": change.p}
    if change.real and change.ratio > 1:
        return {**ends, "throttled_at_s": found["at_s"], "change": found, "reason": None}
    reason = "it became faster on the way" if change.real else "it did not become slower"
    return {**ends, "throttled_at_s": None, "change": found, "reason": reason}
