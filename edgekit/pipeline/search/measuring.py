"""What is measured of candidates: their quality where they will run, and how long they take.

Their time: a few calls, then the bench's interleaved blocks, every file in workers of its own.

Clock, order, reference workload, noise records and journal are the bench's (:mod:`edgekit.pipeline.bench`);
here files of different formats, runtimes and interpreters of one device stand in one comparison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from edgekit.artifact import contract_of
from edgekit.bench.clock import WarmupRule
from edgekit.bench.compare import compare_paired
from edgekit.bench.environment import environment
from edgekit.bench.plan import CellPlan
from edgekit.bench.result import CellResult
from edgekit.data.dataset import Dataset
from edgekit.data.preprocess import feeds
from edgekit.devices import open_runner
from edgekit.errors import DeviceError, EdgekitError, StorageError, UnreachableError
from edgekit.options.bench import BenchOptions
from edgekit.pipeline.bench.cell import Cell
from edgekit.pipeline.bench.fleet import run_fleet
from edgekit.pipeline.bench.journal import Journal
from edgekit.pipeline.bench.timing import Order
from edgekit.pipeline.quantize.samples import HELD_MOST
from edgekit.pipeline.search.steps import MadeFile
from edgekit.pipeline.search.ways import Way
from edgekit.quality.evaluate import Metric, evaluate
from edgekit.quality.fidelity import FidelityMeter, Floor
from edgekit.quantization.schemes import scheme
from edgekit.results.compare import Comparison
from edgekit.results.compressed import Device, FidelityFigures, FidelityGate
from edgekit.results.eval import Evaluation
from edgekit.runtime.precision import in_float32
from edgekit.runtime.stream import sequences
from edgekit.types import Artifact, Format, Verdict

ENDS_THE_RUN = (StorageError, UnreachableError)
"""Errors that are not of one candidate: a full disk, a device that is gone. What was finished is kept."""
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


@dataclass(frozen=True, slots=True)
class TimedFile:
    """A file in one way to run it. ``exported``: it is a float file as it was exported."""

    name: str
    file: MadeFile
    way: Way
    exported: bool = False

    @property
    def baseline(self) -> bool:
        """Whether nothing was given up: a float file in float32. The others are compared with the fastest of these."""
        return self.exported and not self.way.in_fewer_bits


@dataclass(frozen=True, slots=True)
class MatchTime:
    """What a match gave of one file: its median and how that compares with the fastest float file's; or ``why`` not."""

    p50_ms: float | None = None
    comparison: Comparison | None = None
    peak_memory_bytes: int | None = None
    why: str = ""

    @property
    def verdict(self) -> Verdict | None:
        """Of its time beside the fastest float file's; None of that file itself."""
        return None if self.comparison is None else self.comparison.verdict


@dataclass(frozen=True, slots=True)
class Match:
    """Files against each other on a device. ``best``: the fastest float file; ``times``: by the names of the files."""

    best: TimedFile
    device: Device
    times: Mapping[str, MatchTime]


def shortest_ms(timed: TimedFile, inputs: Inputs) -> float:
    """Milliseconds of the shortest of a few calls in a worker of its own.

    Raises:
        EdgekitError: it cannot be loaded or run.
    """
    with ExitStack() as stack:
        cell = Cell(_plan(timed, inputs, 1, 0))
        stack.callback(cell.close)
        cell.open()
        if cell.error is not None:
            raise cell.error
        (replica,) = cell.replicas
        block = replica.time_block(warmup=_WARM, min_runs=_FEW, min_ns=_FEW_NS, max_ns=_MOST_NS)
        return float(block.samples_ns.min()) / 1e6


def match(files: Sequence[TimedFile], inputs: Inputs, seconds: float, workers: int, journal: Path) -> Match:
    """The files against each other in interleaved blocks, ``seconds`` each; finished blocks are kept in ``journal``.

    Raises:
        StorageError, UnreachableError: not of one file.
        DeviceError: no float file was timed, or what was to be one device is several.
    """
    count = min(workers, _room(files))
    plans = [_plan(one, inputs, count, number) for number, one in enumerate(files)]
    what = {
        "seconds": seconds,
        "workers": count,
        "seed": inputs.seed,
        "cells": [[one.name, one.file.sha256] for one in files],
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
    return _compared(files, runs[0].results)


def _compared(files: Sequence[TimedFile], results: Sequence[CellResult]) -> Match:
    """The times of ``files`` relative to the fastest float file among them."""
    times: dict[str, MatchTime] = {}
    timed: list[tuple[TimedFile, CellResult, float]] = []
    for one, result in zip(files, results, strict=True):
        p50 = result.latency().p50 if result.timed else None
        if result.error is not None or p50 is None:
            times[one.name] = MatchTime(
                why="too few calls for a median" if result.error is None else failed(result.error)
            )
        else:
            timed.append((one, result, p50))
    floats = [row for row in timed if row[0].baseline]
    if not floats:
        why = next((times[one.name].why for one in files if one.baseline), "")
        raise DeviceError(f"no float file was timed on {files[0].way.device.name}: {why}")
    best, reference, _ = min(floats, key=lambda row: row[2])
    for one, result, p50 in timed:
        found = None
        if one is not best:
            blocks, owners = (result.blocks, reference.blocks), (result.owners, reference.owners)
            found = compare_paired(one.name, best.name, *blocks, owners)
        times[one.name] = MatchTime(p50, found, result.peak_memory_bytes)
    return Match(best, reference.setting.device, times)


def _silent(devices: str, what: str, done: int, total: int) -> None:
    """The table is what is shown."""


def failed(error: EdgekitError) -> str:
    """How a row says that the file could not be run."""
    return f"it does not run: {type(error).__name__}: {error}"


def _plan(timed: TimedFile, inputs: Inputs, workers: int, number: int) -> CellPlan:
    artifact, way = timed.file.artifact, timed.way
    return CellPlan(
        timed.name,
        artifact,
        way.device,
        way.runtime,
        way.threads,
        scenario="single-stream",
        batch=None,
        shapes={},
        input=inputs.files.get(artifact.format),
        seed=inputs.seed,
        workers=workers,
        number=number,
    )


def _room(files: Sequence[TimedFile]) -> int:
    """Workers of each file for which there is memory: three times its file each (weights, packed weights, arena)."""
    memory = environment()["memory_bytes"]
    each = sum(3 * one.file.bytes for one in files)
    return max(1, memory // _MEMORY_SHARE // max(each, 1)) if isinstance(memory, int) else 1


def evaluated(file: Artifact, way: Way, samples: Dataset, figure: Figure, limit: int | None = None) -> Evaluation:
    """``figure`` of a file in one way to run it.

    Raises:
        EdgekitError: it cannot be run, or gives NaN.
    """
    with open_runner(file.path, device=way.device, runtime=way.runtime, threads=way.threads) as runner:
        return evaluate(sequences(runner), samples, file.card, limit=limit, metric=figure.metric)


def fidelity_of(
    timed: TimedFile, parent: Artifact, samples: Dataset, min_snr: float | None
) -> tuple[FidelityFigures | None, tuple[str, ...]]:
    """How near the outputs of a file whose runtime computes with fewer bits are to those of its float file ``parent``
    in float32, as of every compressed file, and what misses ``min_snr`` where that was asked for; nothing of others,
    which were judged when they were made.

    Raises:
        EdgekitError: one of the two cannot be run.
    """
    way, contract = timed.way, contract_of(parent)
    if not way.in_fewer_bits:
        return None, ()
    meter = FidelityMeter(channels_last=parent.format is Format.TFLITE)
    exact = open_runner(parent.path, device=way.device, runtime=in_float32(way.runtime), threads=way.threads)
    fewer = open_runner(timed.file.artifact.path, device=way.device, runtime=way.runtime, threads=way.threads)
    with exact, fewer:
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
