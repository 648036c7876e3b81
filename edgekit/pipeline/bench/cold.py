"""``--cold``: what the first answer costs: with the file out of the page cache, with it there, and compiled before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.artifact import onnx_external_data
from edgekit.bench.clock import WarmupRule, now_ns
from edgekit.devices import open_worker
from edgekit.errors import UnsupportedError
from edgekit.leftovers import scratch_folder
from edgekit.pipeline.bench.cell import Cell
from edgekit.types import Format

STARTS = 5
"""Processes for each way; figures are medians over them."""
PARTS = ("process", "import", "load", "first")
_ONCE = WarmupRule(0, 0, 0)
_LIMIT_S = 120.0


def cold_starts(cell: Cell) -> dict[str, Any]:
    """Medians in milliseconds of the parts of a start, each way in processes of its own, and ``total`` of them.

    ``process``: until the worker answers (the interpreter, numpy); ``import``: the runtime's package and what the
    worker does beside; ``load``: opening the file; ``first``: the first inference. ``first_process`` drops the file's
    pages from the page cache before (``resident_share`` of them was left, at the most); those of the runtime's own
    libraries stay, since others use them.

    Raises:
        DeviceError: what became of a worker.
    """
    path = cell.plan.artifact.path
    with scratch_folder() as folder:
        target, absent = folder / path.name, ""
        try:
            with cell.worker() as client:
                if not client.shares_files:
                    raise UnsupportedError(f"{cell.plan.device.name} does not share the files of this machine")
                client.measure("optimize", timeout_s=_LIMIT_S, target=str(target))
        except UnsupportedError as error:
            absent = str(error)
        ways = {"first_process": (path, True), "warm_disk": (path, False)}
        if not absent:
            ways["compiled_cache"] = (target, False)
        starts: dict[str, list[Mapping[str, Any]]] = {way: [] for way in ways}
        for _ in range(STARTS):  # taking turns, so that a busy machine weighs on all of them
            for way, (file, drop) in ways.items():
                starts[way].append(_start(cell, file, drop))
    found: dict[str, Any] = {way: _medians(rows) for way, rows in starts.items()}
    if absent:
        found["compiled_cache"] = {"absent": absent}
    return found


def _medians(starts: list[Mapping[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {part: float(np.median([start[part] for start in starts])) for part in PARTS}
    found["total"] = float(np.median([sum(start[part] for part in PARTS) for start in starts]))
    shares = [start["resident"] for start in starts if start["resident"] is not None]
    return {**found, "starts": len(starts), **({"resident_share": max(shares)} if shares else {})}


def _start(cell: Cell, path: Path, drop: bool) -> Mapping[str, Any]:
    plan = cell.plan
    started = now_ns()
    with open_worker(plan.device, timeout_s=plan.timeout_s) as client:
        ready = now_ns()
        place = client.place(path)
        resident = None
        if drop:
            files = [place, *(str(Path(place).parent / name) for name in _beside(plan.artifact.format, path))]
            dropped = [client.measure("drop_cache", timeout_s=_LIMIT_S, path=name).header for name in files]
            resident = dropped[0]["after"]
        asked = now_ns()
        loaded = client.load(path, runtime=plan.runtime, threads=plan.threads)
        answered = now_ns()
        block = client.time_block(cell.feed, warmup=_ONCE, min_runs=1, min_ns=0, max_ns=1)
    return {
        "process": (ready - started) / 1e6,
        "import": max(answered - asked - loaded.load_ns, 0) / 1e6,
        "load": loaded.load_ns / 1e6,
        "first": int(block.samples_ns[0]) / 1e6,
        "resident": resident,
    }


def _beside(format_: Format, path: Path) -> list[str]:
    """Files that hold the weights of this one."""
    return list(onnx_external_data(path)) if format_ is Format.ONNX else []
