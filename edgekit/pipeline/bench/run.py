"""``edgekit bench``: models, devices, threads and runtimes in interleaved blocks, each cell in its own worker.

On a machine only one cell runs at a time; the others wait for a message. Machines run at the same time. A cell that
fails loses only itself: its error stands in the result, and :meth:`BenchResult.failure` says what the program should
end with.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from edgekit.artifact import sha256_file, sha256_model
from edgekit.bench.clock import clock_cost_ns
from edgekit.bench.plan import CellPlan
from edgekit.bench.result import CellResult
from edgekit.bench.variance import BUILT_IN, variance_of, wider
from edgekit.errors import DeviceError, EdgekitError, UsageError, interruption
from edgekit.extras.base import load_of
from edgekit.options.base import with_options
from edgekit.options.bench import NOT_TIMED, BenchOptions
from edgekit.pipeline.bench.checks import check
from edgekit.pipeline.bench.files import check_files, write_files
from edgekit.pipeline.bench.fleet import run_fleet, shown
from edgekit.pipeline.bench.journal import Journal, journal_in_state
from edgekit.pipeline.bench.plan import make_plans
from edgekit.pipeline.bench.replay import Replay, read_replay
from edgekit.pipeline.bench.result import BenchResult, MachineRun, compare_cells
from edgekit.pipeline.bench.timing import Order
from edgekit.pipeline.bench.tools import check_tools
from edgekit.pipeline.compare import compare_entries, read_record
from edgekit.registry import names
from edgekit.results.bench import BenchRecord
from edgekit.version import __version__

log = logging.getLogger("edgekit")


@with_options(BenchOptions)
def bench(options: BenchOptions) -> BenchResult:
    """Times model files against each other; the first is what the others are compared with.

    Raises:
        ModelError: a file is missing or not valid; nothing was timed then.
        UsageError, UnsupportedError: an option makes no sense, or is not there yet.
        DeviceError: no device can be used. Failures of single devices and cells, and of files beside the result,
            stand in the result: see its ``failure()``.
    """
    options, replay = _replayed(options)
    check(options)
    suffix = check_files(options)
    earlier = options.replay if replay is not None else options.baseline
    baseline = None if earlier is None else read_record(earlier)
    plans = make_plans(options.paths, options)
    check_tools(plans, options)
    with ExitStack() as stack:
        journal = _journal(options, plans)
        if journal is not None:
            stack.callback(journal.close)
            stack.enter_context(_told_when_interrupted(journal))
        order = Order(
            options,
            journal,
            None if baseline is None else baseline.results,
            None if replay is None else replay.plans,
        )
        report = options.progress or stack.enter_context(shown({plan.device.name for plan in plans}))
        runs = run_fleet(plans, lambda alone: replace(order, alone=alone), report)
    _raise_if_nothing_ran(runs)
    results = _in_order(runs)
    compared = () if load_of(options) is not None else compare_cells(results)
    result = BenchResult(results, compared, tuple(runs), options, clock_cost_ns(), None, journal)
    result = result if baseline is None else _against(result, baseline, str(earlier))
    try:
        write_files(result, options, suffix)
    except EdgekitError as error:  # the times are there, and must not be lost with a table of them
        return replace(result, unwritten=error)
    return result


def _replayed(options: BenchOptions) -> tuple[BenchOptions, Replay | None]:
    """The options, those of the saved result where one is to be run again."""
    if options.replay is None:
        return options, None
    if options.paths:
        raise UsageError("--replay runs the models of the saved result; leave the models out")
    replay = read_replay(options)
    anew = {name: getattr(options, name) for name in (*NOT_TIMED, "replay")}
    return BenchOptions(**{**replay.keywords, **anew}), replay


def _journal(options: BenchOptions, plans: Sequence[CellPlan]) -> Journal | None:
    """Where finished blocks are kept, if anywhere; with those of the same run that was interrupted."""
    if options.journal is False or load_of(options) is not None:
        return None
    own = ("models", "baseline", "fail_slower", "require_full_delegation", *names("extras"))
    rows = {name: str(value) for name, value in options.protocol().items() if name not in own}
    cells = [
        [
            plan.model,
            sha256_model(plan.artifact.path),
            plan.runtime,
            plan.device.name,
            plan.device.address,
            plan.threads,
        ]
        for plan in plans
    ]
    tools = [sha256_file(file) for file in options.tool]
    what = {"edgekit": __version__, "options": rows, "cells": cells, "tools": tools}
    path = journal_in_state(what) if options.journal is True else Path(options.journal)
    return Journal(path, what, options.resume)


@contextmanager
def _told_when_interrupted(journal: Journal) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        if journal.begun and (interruption(error) or isinstance(error, SystemExit)):
            log.warning("finished blocks are kept in %s; the same command goes on with them", journal.path)
        raise


def _against(result: BenchResult, baseline: BenchRecord, name: str) -> BenchResult:
    mine = [cell.entry() for cell in result.results if cell.timed]
    if not mine:
        return result
    variance = wider(BUILT_IN, variance_of(baseline))
    against = compare_entries(mine, baseline.results, ("this run", name), result.options.fail_slower, variance)
    return replace(result, against=against)


def _in_order(runs: Sequence[MachineRun]) -> tuple[CellResult, ...]:
    placed = {place: result for run in runs for place, result in zip(run.cells, run.results, strict=True)}
    return tuple(placed[place] for place in sorted(placed))


def _raise_if_nothing_ran(runs: Sequence[MachineRun]) -> None:
    """Raises what stood in the way of the first cell where none could be opened anywhere; what the others say, too."""
    if any(run.session is not None for run in runs):
        return
    errors = [result.error for run in runs for result in run.results if result.error is not None]
    told = list(dict.fromkeys(map(str, errors)))
    if len(told) == 1 or len(runs) == 1:
        raise errors[0]
    kind = type(errors[0]) if len({error.exit_code for error in errors}) == 1 else DeviceError
    raise kind("; ".join(told))
