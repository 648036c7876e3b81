"""How long the candidates take: a few calls, then the bench's interleaved blocks, every file in workers of its own.

Clock, order, reference workload, noise records and journal are the bench's (:mod:`edgekit.pipeline.bench`);
here files of different formats, runtimes and interpreters of one device stand in one comparison.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from edgekit.bench.clock import WarmupRule
from edgekit.bench.compare import compare_paired
from edgekit.bench.environment import environment
from edgekit.bench.plan import CellPlan
from edgekit.bench.result import CellResult
from edgekit.documents import typed
from edgekit.errors import DeviceError, EdgekitError
from edgekit.options.bench import BenchOptions
from edgekit.pipeline.auto.candidates import ENDS_THE_RUN
from edgekit.pipeline.auto.trial import Trial
from edgekit.pipeline.auto.trial_store import Value
from edgekit.pipeline.bench.cell import Cell
from edgekit.pipeline.bench.fleet import run_fleet
from edgekit.pipeline.bench.journal import Journal
from edgekit.pipeline.bench.timing import Order
from edgekit.results.base import to_json
from edgekit.results.compare import Comparison
from edgekit.types import Format

log = logging.getLogger("edgekit")
FAR_OFF = 3.0
"""A file whose shortest call takes this many times the float file's is not raced: no noise makes a shortest call of
many that much longer, twice."""
_FEW = 5
_FEW_NS = 50_000_000
_MOST_NS = 2_000_000_000
_WARM = WarmupRule(2, 10_000_000, 200_000_000)
_MEMORY_SHARE = 4
"""The workers of a match may take this part of the memory: a quarter."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the files are fed while they are timed. ``files``: one real sample a format, for files with free axes."""

    seed: int
    files: Mapping[Format, str]


def shortest_ms(trial: Trial, inputs: Inputs) -> float:
    """Milliseconds of the shortest of a few calls in a worker of its own.

    Raises:
        EdgekitError: it cannot be loaded or run.
    """
    with ExitStack() as stack:
        cell = Cell(_plan(trial, inputs, 1, 0))
        stack.callback(cell.close)
        cell.open()
        if cell.error is not None:
            raise cell.error
        (replica,) = cell.replicas
        block = replica.time_block(warmup=_WARM, min_runs=_FEW, min_ns=_FEW_NS, max_ns=_MOST_NS)
        return float(block.samples_ns.min()) / 1e6


def match(trials: Sequence[Trial], inputs: Inputs, seconds: float, workers: int, journal: Path) -> Sequence[CellResult]:
    """The trials against each other in interleaved blocks, ``seconds`` each; finished blocks are kept in ``journal``.

    A trial that fails has its error in its result.

    Raises:
        StorageError, UnreachableError: not of one candidate.
        DeviceError: what was to be one device is several.
    """
    count = min(workers, _room(trials))
    plans = [_plan(trial, inputs, count, number) for number, trial in enumerate(trials)]
    what = {
        "seconds": seconds,
        "workers": count,
        "seed": inputs.seed,
        "cells": [[trial.name, trial.made.sha256] for trial in trials if trial.made is not None],
    }
    kept = Journal(journal, what)
    options = BenchOptions(seconds=seconds, seed=inputs.seed, workers=count)
    try:
        runs = run_fleet(plans, lambda alone: Order(options, kept, alone=alone), _silent)
    finally:
        kept.close()
    if len(runs) > 1:
        found = "; ".join(", ".join(run.devices) for run in runs)
        raise DeviceError(f"these are different machines, whose times are not compared: {found}")
    for result in runs[0].results:
        if isinstance(result.error, ENDS_THE_RUN):
            raise result.error
    return runs[0].results


def compared(trials: Sequence[Trial], results: Sequence[CellResult]) -> Value:
    """The times of ``trials`` relative to the fastest float file among them, as the trial store keeps them.

    ``best`` is that float file's name, None where no float file was timed; ``rows`` are by name.
    """
    rows: dict[str, Value] = {}
    timed: list[tuple[Trial, CellResult, float]] = []
    for trial, result in zip(trials, results, strict=True):
        p50 = result.latency().p50 if result.timed else None
        if result.error is not None or p50 is None:
            rows[trial.name] = {"why": "too few calls for a median" if result.error is None else failed(result.error)}
            continue
        rows[trial.name] = {"p50_ms": p50}
        timed.append((trial, result, p50))
    floats = [row for row in timed if row[0].candidate.is_float]
    if not floats:
        return {"best": None, "rows": rows}
    best, reference, _ = min(floats, key=lambda row: row[2])
    for trial, result, _ in timed:
        if trial is not best:
            blocks, owners = (result.blocks, reference.blocks), (result.owners, reference.owners)
            rows[trial.name] |= to_json(compare_paired(trial.name, best.name, *blocks, owners))
    return {"best": best.name, "rows": rows, "device": to_json(reference.setting.device)}


def fill_in(trials: Sequence[Trial], found: Value, stage: str) -> Trial | None:
    """Puts what :func:`compared` gave into ``trials``; the fastest float file, if one was timed."""
    for trial in trials:
        row = found["rows"][trial.name]
        trial.stage, trial.p50_ms = stage, row.get("p50_ms")
        trial.why = row.get("why", trial.why)
        trial.comparison = None
        if "ratio_p50" in row:
            trial.comparison = typed(Comparison, row, trial.name)
    return next((trial for trial in trials if trial.name == found["best"]), None)


def _silent(devices: str, what: str, done: int, total: int) -> None:
    """The table is what is shown."""


def failed(error: EdgekitError) -> str:
    """How a row says that the candidate could not be run."""
    return f"it does not run: {type(error).__name__}: {error}"


def _plan(trial: Trial, inputs: Inputs, workers: int, number: int) -> CellPlan:
    made, way = trial.made, trial.way
    assert made is not None and way is not None
    return CellPlan(
        trial.name,
        made.artifact,
        way.device,
        way.runtime,
        way.threads,
        scenario="single-stream",
        batch=None,
        shapes={},
        input=inputs.files.get(made.artifact.format),
        seed=inputs.seed,
        workers=workers,
        number=number,
    )


def _room(trials: Sequence[Trial]) -> int:
    """Workers of each trial for which there is memory: three times its file each (weights, packed weights, arena)."""
    memory = environment()["memory_bytes"]
    each = sum(3 * trial.made.bytes for trial in trials if trial.made is not None)
    return max(1, memory // _MEMORY_SHARE // max(each, 1)) if isinstance(memory, int) else 1
