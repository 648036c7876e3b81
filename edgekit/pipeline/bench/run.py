"""``edgekit bench``: models, devices, threads and runtimes in interleaved blocks, each cell in its own worker.

Only one cell runs at a time; the others wait for a message. One that fails loses only itself: its error stands in the
result, and :meth:`BenchResult.failure` says what the program should end with.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from edgekit.bench.clock import clock_cost_ns, now_ns
from edgekit.bench.compare import check_comparable
from edgekit.bench.environment import usable_cores
from edgekit.bench.noisefloor import floor_of, wider
from edgekit.bench.session import time_interleaved
from edgekit.errors import UsageError
from edgekit.pipeline.bench.cell import Cell
from edgekit.pipeline.bench.extras import check_extras, extend
from edgekit.pipeline.bench.journal import Journal, journal_in_state
from edgekit.pipeline.bench.leases import leased
from edgekit.pipeline.bench.loads import under_load
from edgekit.pipeline.bench.machine import Watch, learn, machine_ledger, thermometer_on
from edgekit.pipeline.bench.options import EXTRAS, LOADS, BenchOptions, read_options
from edgekit.pipeline.bench.plan import make_plans
from edgekit.pipeline.bench.replay import Replay, read_replay
from edgekit.pipeline.bench.result import BenchResult, compare_cells
from edgekit.pipeline.compare import Entry, compare_entries, match, read_document
from edgekit.version import __version__

log = logging.getLogger("edgekit")

START_LIMIT_NS = 3_500_000_000
"""How long after its beginning a run may still be starting workers, from the third for each cell on."""


def bench(models: str | Path | Sequence[str | Path] = (), **keywords: Any) -> BenchResult:
    """Times model files against each other; the first is what the others are compared with.

    Args:
        models: ``.onnx``, ``.tflite`` or ``.pt2`` files; none with ``replay``.
        keywords: fields of :class:`BenchOptions`; ``on``, ``runtime`` and ``threads`` may be one value.

    Raises:
        ModelError: a file is missing or not valid; nothing was timed then.
        UsageError, UnsupportedError: an option makes no sense, or is not there yet.
        DeviceError: a device cannot be used. Failures of single cells stand in the result.
    """
    began = now_ns()
    given, options, replay = _asked(models, keywords)
    earlier = options.replay if replay is not None else options.baseline
    baseline = None if earlier is None else read_document(earlier)
    plans = make_plans(given, options)
    ledger = machine_ledger()
    floor = ledger.floor()
    with ExitStack() as stack:
        leases = stack.enter_context(leased([plan.device for plan in plans], 2 * options.seconds * len(plans)))
        cells = []
        for plan in plans:
            cell = Cell(plan)
            stack.callback(cell.close)
            cell.open()  # one after the other: load time and first inference are figures, too
            cells.append(cell)
        _raise_if_all_failed(cells)
        check_extras(cells, options)
        if baseline is not None:
            _check_baseline(cells, baseline["results"])
        if options.scenario in LOADS:
            return _loaded(given, cells, options)
        journal = _journal(options, cells)
        if journal is not None:
            stack.callback(journal.close)
            stack.enter_context(_told_when_interrupted(journal))
        starting = stack.enter_context(thermometer_on(plans[0].device))
        _replicate(cells, None if options.workers is not None else began + START_LIMIT_NS)
        thermometer = starting()
        watch = Watch([thermometer.pid if thermometer else None, *(pid for cell in cells for pid in cell.pids)])
        session = time_interleaved(
            [cell.replicas for cell in cells],
            seconds=options.seconds,
            seed=options.seed,
            thermometer=thermometer,
            keeper=journal,
            fixed=None if replay is None else replay.plan,
        )
        others = watch.document()
        results = [replace(cell.finish(taken), floor=floor) for cell, taken in zip(cells, session.taken, strict=True)]
    learn(ledger, results, floor)
    results = [extend(result, cell, options) for result, cell in zip(results, cells, strict=True)]
    result = BenchResult(tuple(results), compare_cells(results), session, options, clock_cost_ns())
    result = replace(result, floor=floor, others=others, models=tuple(given), journal=journal, leases=tuple(leases))
    return result if baseline is None else _against(result, baseline, str(earlier))


def _asked(
    models: str | Path | Sequence[str | Path], keywords: dict[str, Any]
) -> tuple[list[str], BenchOptions, Replay | None]:
    """Models and options, those of the saved result where one is to be run again."""
    given = [str(model) for model in ([models] if isinstance(models, str | Path) else models)]
    path = keywords.get("replay")
    if path is None:
        return given, read_options(keywords), None
    if given:
        raise UsageError("--replay runs the models of the saved result; leave the models out")
    replay = read_replay(path, keywords)
    return list(replay.models), read_options({**replay.keywords, "replay": path}), replay


def _loaded(models: Sequence[str], cells: Sequence[Cell], options: BenchOptions) -> BenchResult:
    """The result of a scenario with arrivals: one cell after the other, nothing compared."""
    session, extras = under_load(cells, options)
    finished = [cell.finish(taken) for cell, taken in zip(cells, session.taken, strict=True)]
    results = [replace(result, extras=extra) for result, extra in zip(finished, extras, strict=True)]
    results = [extend(result, cell, options) for result, cell in zip(results, cells, strict=True)]
    return BenchResult(tuple(results), (), session, options, clock_cost_ns(), models=tuple(models))


def _journal(options: BenchOptions, cells: Sequence[Cell]) -> Journal | None:
    """Where finished blocks are kept, if anywhere; with those of the same run that was interrupted."""
    if options.journal is False:
        return None
    own = ("journal", "resume", "baseline", "fail_slower", "require_full_delegation", *EXTRAS)
    rows = {name: value for name, value in asdict(options).items() if name not in own}
    settings = [asdict(cell.setting()) for cell in cells]
    what = {"edgekit": __version__, "options": {name: str(value) for name, value in rows.items()}, "cells": settings}
    path = journal_in_state(what) if options.journal is True else Path(options.journal)
    return Journal(path, what, options.resume)


@contextmanager
def _told_when_interrupted(journal: Journal) -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        log.warning("finished blocks are kept in %s; the same command goes on with them", journal.path)
        raise


def _against(result: BenchResult, baseline: Mapping[str, Any], name: str) -> BenchResult:
    mine = [entry.document() for entry in result.results if entry.timed]
    if not mine:
        return result
    floor = wider(result.floor, floor_of(baseline))
    against = compare_entries(mine, baseline["results"], ("this run", name), result.options.fail_slower, floor)
    return replace(result, against=against)


def _replicate(cells: Sequence[Cell], until_ns: int | None) -> None:
    """Gives every cell the rest of its workers, one each at a time, so that all cells have the same number.

    From the third on they are left out where they would not be there before ``until_ns``: a loaded machine, or a slow
    start.
    """
    took = 0
    with ThreadPoolExecutor(usable_cores()) as pool:
        for count in range(1, max(cell.plan.workers for cell in cells)):
            started = now_ns()
            if count >= 2 and until_ns is not None and started + took > until_ns:
                log.debug("starting workers takes long: %d for each cell", count)
                return
            for _ in pool.map(Cell.add_worker, cells):
                pass  # map hands on what a thread raised
            took = now_ns() - started


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
