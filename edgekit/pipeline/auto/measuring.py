"""What is measured of candidates: their quality where they will run, and how long they take.

Their time: a few calls, then the bench's interleaved blocks, every file in workers of its own.

Clock, order, reference workload, noise records and journal are the bench's (:mod:`edgekit.pipeline.bench`);
here files of different formats, runtimes and interpreters of one device stand in one comparison.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.artifact import contract_of
from edgekit.bench.clock import WarmupRule
from edgekit.bench.compare import compare_paired
from edgekit.bench.environment import environment
from edgekit.bench.plan import CellPlan
from edgekit.bench.result import CellResult
from edgekit.data.dataset import Dataset
from edgekit.data.preprocess import feeds
from edgekit.devices import open_runner
from edgekit.documents import typed
from edgekit.errors import DeviceError, EdgekitError
from edgekit.options.bench import BenchOptions
from edgekit.pipeline.auto.candidates import ENDS_THE_RUN
from edgekit.pipeline.auto.trial import Trial
from edgekit.pipeline.auto.trial_store import TrialStore, Value
from edgekit.pipeline.auto.ways import Way
from edgekit.pipeline.bench.cell import Cell
from edgekit.pipeline.bench.fleet import run_fleet
from edgekit.pipeline.bench.journal import Journal
from edgekit.pipeline.bench.timing import Order
from edgekit.pipeline.quantize.samples import HELD_MOST
from edgekit.quality.evaluate import Metric, evaluate
from edgekit.quality.fidelity import FidelityMeter, Floor
from edgekit.quantization.schemes import scheme
from edgekit.results.base import to_json
from edgekit.results.compare import Comparison
from edgekit.results.compressed import FidelityFigures, FidelityGate
from edgekit.results.eval import Evaluation, Outcomes
from edgekit.runtime.precision import in_float32
from edgekit.runtime.stream import sequences
from edgekit.types import Artifact, Format

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


@dataclass(frozen=True, slots=True)
class Figure:
    """What candidates are judged by: the task's figure of merit, where ``metric`` is None."""

    name: str = "None"
    metric: Metric | None = None


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
    floats = [row for row in timed if row[0].is_float]
    if not floats:
        return {"best": None, "rows": rows}
    best, reference, _ = min(floats, key=lambda row: row[2])
    for trial, result, _ in timed:
        if trial is not best:
            blocks, owners = (result.blocks, reference.blocks), (result.owners, reference.owners)
            rows[trial.name] |= to_json(compare_paired(trial.name, best.name, *blocks, owners))
    return {"best": best.name, "rows": rows, "device": to_json(reference.setting.device)}


def with_times(trials: Sequence[Trial], found: Value, stage: str) -> list[Trial]:
    """``trials`` with what :func:`compared` gave."""
    timed = []
    for trial in trials:
        row = found["rows"][trial.name]
        comparison = typed(Comparison, row, trial.name) if "ratio_p50" in row else None
        why = row.get("why", trial.why)
        timed.append(replace(trial, stage=stage, p50_ms=row.get("p50_ms"), why=why, comparison=comparison))
    return timed


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


def quality_of(
    trial: Trial, samples: Dataset, store: TrialStore, figure: Figure, limit: int | None = None
) -> Evaluation:
    """``figure`` of the trial's file in its runtime on its device, measured once for all thread counts.

    Raises:
        EdgekitError: it cannot be run, or gives NaN.
    """
    made, way = trial.made, trial.way
    assert made is not None and way is not None

    def work() -> Value:
        found = evaluated(made.artifact, way, samples, figure, limit)
        return {**asdict(replace(found, outcomes=None)), "outcomes": _kept(found.outcomes)}

    key = f"quality {made.sha256} {way.runtime} {way.device.name} {samples.label} {len(samples)} {limit} {figure.name}"
    row = dict(store.once(key, work))
    kept = row.pop("outcomes", None)
    return Evaluation(**row, outcomes=None if kept is None else _read(kept))


def evaluated(file: Artifact, way: Way, samples: Dataset, figure: Figure, limit: int | None = None) -> Evaluation:
    """``figure`` of a file in one way to run it.

    Raises:
        EdgekitError: it cannot be run, or gives NaN.
    """
    with open_runner(file.path, device=way.device, runtime=way.runtime, threads=way.threads) as runner:
        return evaluate(sequences(runner), samples, file.card, limit=limit, metric=figure.metric)


def fidelity_of(
    trial: Trial, samples: Dataset, min_snr: float | None
) -> tuple[FidelityFigures | None, tuple[str, ...]]:
    """How near the outputs of a trial whose runtime computes with fewer bits are to the float file's in float32, as of
    every compressed file, and what misses ``min_snr`` where that was asked for; nothing of other trials, whose files
    were judged when they were made.

    Raises:
        EdgekitError: one of the two cannot be run.
    """
    made, way = trial.made, trial.way
    assert made is not None and way is not None
    if not way.in_fewer_bits:
        return None, ()
    parent, contract = trial.candidate.parent, contract_of(trial.candidate.parent)
    meter = FidelityMeter(channels_last=parent.format is Format.TFLITE)
    exact = open_runner(parent.path, device=way.device, runtime=in_float32(way.runtime), threads=way.threads)
    with exact, open_runner(made.artifact.path, device=way.device, runtime=way.runtime, threads=way.threads) as fewer:
        wanted, found = sequences(exact), sequences(fewer)
        for feed in feeds(samples, wanted.signature, contract, limit=HELD_MOST):
            meter.add(wanted.run(feed), found.run(feed))
    floor = Floor(scheme("int8").floor_db if min_snr is None else min_snr)
    fidelity = meter.result(samples.label)
    failures = floor.failures(fidelity.outputs)
    gate = FidelityGate(
        min_snr_db=floor.output_db,
        min_channel_db=floor.channel_db,
        passed=not failures,
        binding=min_snr is not None,
    )
    return fidelity.figures(gate), failures if gate.binding else ()


def _kept(outcomes: Outcomes | None) -> dict[str, Any] | None:
    """What each sample gave, as JSON; features of generated images, which are megabytes, are not kept."""
    if outcomes is None or outcomes.kind == "features":
        return None
    positive = None if outcomes.positive is None else outcomes.positive.tolist()
    matches = None if outcomes.matches is None else outcomes.matches.tolist()
    return {
        "kind": outcomes.kind, "values": outcomes.values.tolist(), "block": outcomes.block, "positive": positive,
        "matches": matches,
    }  # fmt: skip


def _read(row: Mapping[str, Any]) -> Outcomes:
    positive = None if row["positive"] is None else np.array(row["positive"], bool)
    matches = None if row.get("matches") is None else np.array(row["matches"], np.int64)
    return Outcomes(row["kind"], np.array(row["values"]), row["block"], positive, matches=matches)
