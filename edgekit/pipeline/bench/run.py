"""``edgekit bench``: models, devices, threads and runtimes in interleaved blocks, each cell in its own worker.

Only one cell runs at a time; the others wait for a message. One that fails loses only itself: its error stands in the
result, and :meth:`BenchResult.failure` says what the program should end with.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit.bench.clock import clock_cost_ns, now_ns
from edgekit.bench.compare import check_comparable
from edgekit.bench.environment import usable_cores
from edgekit.bench.session import time_interleaved
from edgekit.errors import UsageError
from edgekit.pipeline.bench.cell import Cell
from edgekit.pipeline.bench.extras import check_extras, extend
from edgekit.pipeline.bench.loads import under_load
from edgekit.pipeline.bench.options import LOADS, read_options
from edgekit.pipeline.bench.plan import make_plans
from edgekit.pipeline.bench.result import BenchResult, compare_cells
from edgekit.pipeline.compare import Entry, compare_entries, match, read_results

log = logging.getLogger("edgekit")

START_LIMIT_NS = 3_000_000_000
"""What starting more workers than two for each cell may cost a whole run."""


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
    options = read_options(keywords)
    given = [str(model) for model in ([models] if isinstance(models, str | Path) else models)]
    baseline = None if options.baseline is None else read_results(options.baseline)
    plans = make_plans(given, options)
    with ExitStack() as stack:
        cells = []
        for plan in plans:
            cell = Cell(plan)
            stack.callback(cell.close)
            cell.open()  # one after the other: load time and first inference are figures, too
            cells.append(cell)
        _raise_if_all_failed(cells)
        check_extras(cells, options)
        if baseline is not None:
            _check_baseline(cells, baseline)
        found: Sequence[Mapping[str, Any]] = [{} for _ in cells]
        if options.scenario in LOADS:
            session, found = under_load(cells, options)
        else:
            _replicate(cells, None if options.workers is not None else START_LIMIT_NS)
            session = time_interleaved([cell.replicas for cell in cells], seconds=options.seconds, seed=options.seed)
        results = [cell.finish(taken) for cell, taken in zip(cells, session.taken, strict=True)]
        results = [
            replace(result, extras={**result.extras, **extra}) for result, extra in zip(results, found, strict=True)
        ]
    results = [extend(result, cell, options) for result, cell in zip(results, cells, strict=True)]
    compared = () if options.scenario in LOADS else compare_cells(results)
    result = BenchResult(tuple(results), compared, session, options, clock_cost_ns())
    if baseline is None:
        return result
    mine = [entry.document() for entry in results if entry.timed]
    if not mine:
        return result
    against = compare_entries(mine, baseline, ("this run", str(options.baseline)), options.fail_slower)
    return replace(result, against=against)


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
