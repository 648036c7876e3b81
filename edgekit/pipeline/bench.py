"""``edgekit bench``: models, devices, threads and runtimes in interleaved blocks, each cell in its own worker.

Only one cell runs at a time; the others wait for a message. One that fails loses only itself: its error stands in the
result, and :meth:`BenchResult.failure` says what the program should end with.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from edgekit import registry
from edgekit.artifact import open_artifact
from edgekit.bench.clock import clock_cost_ns, now_ns
from edgekit.bench.compare import MARGIN, Comparison, check_comparable, compare_paired
from edgekit.bench.environment import environment, usable_cores
from edgekit.bench.result import CellResult
from edgekit.bench.session import Session, time_interleaved
from edgekit.bench.shapes import parse_shapes
from edgekit.devices import parse_device
from edgekit.errors import DeviceError, EdgekitError, UnsupportedError, UsageError
from edgekit.pipeline.cell import Cell, CellPlan
from edgekit.pipeline.compare import (
    CompareResult,
    Entry,
    compare_entries,
    gate_document,
    gate_error,
    match,
    read_results,
)
from edgekit.pipeline.profile import check_profile, profile_cell
from edgekit.types import Artifact, Format

log = logging.getLogger("edgekit")

SCENARIOS = ("single-stream", "offline")
LATER = ("multi-stream", "server")
START_LIMIT_NS = 3_000_000_000
"""What starting more workers than two for each cell may cost a whole run."""


@dataclass(frozen=True)
class BenchOptions:
    """How the bench runs; every field is a keyword of :func:`bench`.

    Attributes:
        on: devices.
        runtime: runtimes; of several, each model gets those that read its format. Empty: the first for its format.
        threads: thread counts, each a cell of its own.
        scenario: ``single-stream`` (batch 1) or ``offline`` (whole batches, see ``batch``).
        seconds: time for each cell, warm-up included.
        batch: size of the first axis, for files in which it is free; needs ``offline``.
        shape: ``INPUT=1x576`` or ``DIMENSION=576``.
        input: a file with one real sample instead of seeded values.
        seed: of the order of the blocks and of seeded input.
        workers: processes for each cell, over which its rounds are spread; None: 2 to 4, by the number of cells.
        profile: time per operator, in a pass of its own after the timed one.
        baseline: a saved result of the bench to compare with.
        fail_slower: percent; against the baseline, or without one against the first model.
    """

    on: Sequence[str] = ("cpu",)
    runtime: Sequence[str] = ()
    threads: Sequence[int] = (1,)
    scenario: str = "single-stream"
    seconds: float = 3.0
    batch: int | None = None
    shape: Sequence[str] = ()
    input: str | None = None
    seed: int = 0
    workers: int | None = None
    profile: bool = False
    baseline: str | Path | None = None
    fail_slower: float | None = None


@dataclass(frozen=True)
class BenchResult:
    """All cells, in the order model, runtime, device, threads; comparisons of each against the first of its group."""

    results: tuple[CellResult, ...]
    comparisons: tuple[Comparison, ...]
    session: Session
    options: BenchOptions
    clock_cost_ns: int
    against: CompareResult | None = None

    def ratio(self, model: str | Path, to: str | Path | None = None) -> Comparison:
        """The comparison of ``model`` (as it was given) with the first model, in the first group that has it.

        Raises:
            UsageError: there is none.
        """
        for found in self.comparisons:
            if found.a == str(model) and to in (None, found.b):
                return found
        raise UsageError(f"no comparison of {model}; there are: {', '.join(c.a for c in self.comparisons) or 'none'}")

    def failure(self) -> EdgekitError | None:
        """What the run ends with although its document stands: failed cells, then the gate; None if all is well."""
        errors = [(result.setting.model, result.error) for result in self.results if result.error is not None]
        if errors:
            kinds = {error.exit_code for _, error in errors}
            told = "; ".join(f"{model}: {error}" for model, error in errors)
            message = f"{len(errors)} of {len(self.results)} cells failed: {told}"
            return type(errors[0][1])(message) if len(kinds) == 1 else DeviceError(message)
        if self.against is not None:
            return self.against.gate()
        return gate_error(self.comparisons, self.options.fail_slower)

    def document(self) -> dict[str, Any]:
        """The body of CONTRACT's bench document, with the protocol and the order the blocks ran in."""
        plan = self.session.plan
        body: dict[str, Any] = {
            "results": [result.document() for result in self.results],
            "comparisons": [comparison.document() for comparison in self.comparisons],
            "seed": self.options.seed,
            "protocol": {
                "seconds": self.options.seconds,
                "rounds": plan.rounds,
                "block_ms": plan.block_ns / 1e6,
                "clock_cost_ns": self.clock_cost_ns,
                "margin": MARGIN,
                "order": [list(round_) for round_ in self.session.order],
            },
        }
        if self.against is None:
            return body | gate_document(self.comparisons, self.options.fail_slower)
        return body | {"baseline": {"path": str(self.options.baseline), **self.against.document()}}


def bench(models: str | Path | Sequence[str | Path], **keywords: Any) -> BenchResult:
    """Times model files against each other; the first is what the others are compared with.

    Args:
        models: ``.onnx``, ``.tflite`` or ``.pt2`` files.
        keywords: fields of :class:`BenchOptions`; ``on``, ``runtime`` and ``threads`` may be one value.

    Raises:
        ModelError: a file is missing or not valid; nothing was timed then.
        UsageError, UnsupportedError: an option makes no sense, or is not there yet.
        DeviceError: a device cannot be used. Failures of single cells stand in the result.
    """
    options = _options(keywords)
    given = [str(model) for model in ([models] if isinstance(models, str | Path) else models)]
    baseline = None if options.baseline is None else read_results(options.baseline)
    plans = _plans(given, options)
    with ExitStack() as stack:
        cells = []
        for plan in plans:
            cell = Cell(plan)
            stack.callback(cell.close)
            cell.open()  # one after the other: load time and first inference are figures, too
            cells.append(cell)
        _raise_if_all_failed(cells)
        if baseline is not None:
            _check_baseline(cells, baseline)
        _replicate(cells, None if options.workers is not None else START_LIMIT_NS)
        session = time_interleaved([cell.replicas for cell in cells], seconds=options.seconds, seed=options.seed)
        results = [cell.finish(taken) for cell, taken in zip(cells, session.taken, strict=True)]
    if options.profile:
        results = [_profiled(result, cell) for result, cell in zip(results, cells, strict=True)]
    result = BenchResult(tuple(results), _comparisons(results), session, options, clock_cost_ns())
    if baseline is None:
        return result
    mine = [entry.document() for entry in results if entry.timed]
    if not mine:
        return result
    against = compare_entries(mine, baseline, ("this run", str(options.baseline)), options.fail_slower)
    return replace(result, against=against)


def _options(keywords: dict[str, Any]) -> BenchOptions:
    known = {field_.name for field_ in fields(BenchOptions)}
    unknown = sorted(keywords.keys() - known)
    if unknown:
        raise UsageError(f"bench has no option {', '.join(unknown)}; there are: {', '.join(sorted(known))}")
    for name in ("on", "runtime", "threads", "shape"):
        value = keywords.get(name)
        if value is None:
            keywords.pop(name, None)
        elif isinstance(value, str | int):
            keywords[name] = (value,)
    options = BenchOptions(**keywords)
    if options.scenario in LATER:
        raise UnsupportedError(f"--scenario {options.scenario} is not there yet; there are: {', '.join(SCENARIOS)}")
    if options.scenario not in SCENARIOS:
        raise UsageError(f"no scenario is called {options.scenario!r}; there are: {', '.join(SCENARIOS)}")
    if not 0 < options.seconds <= 86_400:
        raise UsageError(f"--seconds {options.seconds:g}: give more than 0 and at most 86400")
    if options.workers is not None and not 1 <= options.workers <= 16:
        raise UsageError(f"--workers {options.workers}: give 1 to 16")
    if any(threads < 1 for threads in options.threads):
        raise UsageError(f"--threads {min(options.threads)}: give 1 or more")
    if options.batch is not None and options.scenario != "offline":
        raise UsageError(f"--batch {options.batch} needs --scenario offline; single-stream is one sample at a time")
    if options.batch is not None and options.batch < 1:
        raise UsageError(f"--batch {options.batch}: give 1 or more")
    if options.fail_slower is not None and not options.fail_slower >= 0:
        raise UsageError(f"--fail-slower {options.fail_slower:g}: give 0 or more, in percent")
    return options


def _plans(models: Sequence[str], options: BenchOptions) -> list[CellPlan]:
    if not models:
        raise UsageError("no model was given; name at least one .onnx, .tflite or .pt2 file")
    if options.fail_slower is not None and options.baseline is None and len(models) < 2 and len(options.runtime) < 2:
        raise UsageError("--fail-slower has nothing to compare with; give --baseline FILE or a second model")
    shapes = parse_shapes(options.shape)
    devices = [parse_device(text) for text in dict.fromkeys(options.on)]
    plans: list[CellPlan] = []
    for model in models:
        artifact = open_artifact(model)
        for runtime in _runtimes(artifact, options.runtime):
            for device in devices:
                if options.profile:
                    check_profile(artifact.format, device)
                for threads in dict.fromkeys(options.threads):
                    rest = (options.batch, shapes, options.input, options.seed, options.workers or 1, len(plans))
                    plans.append(CellPlan(model, artifact, device, runtime, threads, options.scenario, *rest))
    if options.workers is not None:
        return plans
    workers = _default_workers(plans)
    return [replace(plan, workers=workers) for plan in plans]


def _default_workers(plans: Sequence[CellPlan]) -> int:
    """Workers for each cell: 4, but at most 18 in all and a quarter of the memory; 2 where a start takes seconds."""
    if any(plan.artifact.format is Format.PT2 for plan in plans):
        return 2
    bytes_each = sum(3 * plan.artifact.path.stat().st_size for plan in plans)  # the file, its weights packed, its arena
    memory = environment()["memory_bytes"]
    room = memory // 4 // max(bytes_each, 1) if isinstance(memory, int) else 4
    return int(max(1, min(4, max(2, 18 // len(plans)), room)))


def _runtimes(artifact: Artifact, wanted: Sequence[str]) -> list[str | None]:
    """Those of ``wanted`` that read this file; ``[None]`` when none is wanted.

    Raises:
        UsageError: none of them does, or a name is no runtime.
    """
    if not wanted:
        return [None]
    fitting: list[str | None] = [
        name for name in dict.fromkeys(wanted) if artifact.format in registry.lookup("runtimes", name).formats
    ]
    if not fitting:
        raise UsageError(
            f"{artifact.path} is {artifact.format.value}, which {', '.join(wanted)} cannot run; leave --runtime out to "
            "take the first runtime for the format"
        )
    return fitting


def _replicate(cells: Sequence[Cell], limit_ns: int | None) -> None:
    """Gives every cell the rest of its workers, one each at a time, so that all cells have the same number.

    From the third on they are left out where starting has taken ``limit_ns``: a loaded machine, or a slow start.
    """
    started = now_ns()
    with ThreadPoolExecutor(usable_cores()) as pool:
        for count in range(1, max(cell.plan.workers for cell in cells)):
            if count >= 2 and limit_ns is not None and now_ns() - started > limit_ns * count / (count + 1):
                log.debug("starting workers takes long: %d for each cell", count)
                return
            for _ in pool.map(Cell.add_worker, cells):
                pass  # map hands on what a thread raised


def _raise_if_all_failed(cells: Sequence[Cell]) -> None:
    errors = [cell.error for cell in cells if cell.error is not None]
    if errors and len(errors) == len(cells):
        raise errors[0]


def _check_baseline(cells: Sequence[Cell], baseline: Sequence[Entry]) -> None:
    """Refuses, before anything is timed, a baseline that the results could not be compared with."""
    mine = [_entry(cell) for cell in cells if cell.error is None]
    pairs, unmatched = match(mine, baseline)
    if not pairs:
        raise UsageError(f"the baseline has no result of these cells; only in one of the two: {'; '.join(unmatched)}")
    for first, second in pairs:
        check_comparable(first, second)


def _entry(cell: Cell) -> Entry:
    setting = cell.setting()
    return {key: getattr(setting, key) for key in ("model", "runtime", "device", "threads", "batch", "scenario")}


def _comparisons(results: Sequence[CellResult]) -> tuple[Comparison, ...]:
    """Each timed cell against the first cell of its group (device, threads): the first model on its first runtime.

    Where that first cell failed nothing of the group is compared: another baseline would be a silent change.
    """
    groups: dict[tuple[str, int], list[CellResult]] = {}
    for result in results:
        groups.setdefault((result.setting.device["name"], result.setting.threads), []).append(result)
    comparisons = []
    for (device, threads), group in groups.items():
        first = group[0]
        if not first.timed:
            if len(group) > 1:
                log.info("%s was not timed on %s, so nothing is compared there", first.setting.model, device)
            continue
        for other in group[1:]:
            if other.timed:
                names = other.setting.model, first.setting.model
                found = compare_paired(*names, other.blocks, first.blocks, other.replicas)
                setting = {
                    "device": device,
                    "threads": threads,
                    "runtimes": [other.setting.runtime, first.setting.runtime],
                }
                comparisons.append(replace(found, setting=setting))
    return tuple(comparisons)


def _profiled(result: CellResult, cell: Cell) -> CellResult:
    """``result`` with the time per operator; a pass that failed costs nothing but itself and stands as its error."""
    if not result.timed:
        return result
    try:
        found = profile_cell(cell.plan.artifact.path, cell.feed, result.setting.threads)
    except DeviceError as error:
        log.warning("%s", error)
        found = {"error": {"type": type(error).__name__, "message": str(error)}}
    return replace(result, profile=found)
