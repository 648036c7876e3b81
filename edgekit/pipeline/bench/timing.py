"""The cells on one machine: opened one after the other, then timed in interleaved blocks, one at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from edgekit.bench.clock import now_ns
from edgekit.bench.compare import check_comparable
from edgekit.bench.environment import usable_cores
from edgekit.bench.plan import CellPlan
from edgekit.bench.schedule import BlockPlan
from edgekit.bench.session import Session, Taken, time_interleaved
from edgekit.errors import DeviceError, InputError, UsageError
from edgekit.extras.base import Taking, load_of
from edgekit.options.bench import BenchOptions
from edgekit.pipeline.bench.cell import Cell
from edgekit.pipeline.bench.extras import check_runtimes, extend
from edgekit.pipeline.bench.journal import Journal, Part
from edgekit.pipeline.bench.leases import leased
from edgekit.pipeline.bench.machine import Watch, reference_on
from edgekit.pipeline.bench.result import MachineRun
from edgekit.pipeline.compare import match
from edgekit.results.base import to_json
from edgekit.results.bench import Entry, Nothing, Others

log = logging.getLogger("edgekit")

START_LIMIT_NS = 3_500_000_000
"""How long after its beginning a run may still be starting workers, from the third for each cell on."""
Note = Callable[[str, int, int], None]
"""Takes what is being done, and how much of how much of it is done (0 of 0 where that is not known)."""


@dataclass(frozen=True)
class Order:
    """What is asked of every machine of a run.

    ``plans``: of a result that is run again, by the devices that ran together. ``alone``: there is no other machine.
    """

    options: BenchOptions
    journal: Journal | None = None
    baseline: Sequence[Entry] | None = None
    plans: Mapping[tuple[str, ...], BlockPlan] | None = None
    alone: bool = True


def time_machine(
    devices: Sequence[str], plans: Sequence[CellPlan], doors: Sequence[Any], order: Order, note: Note, here: bool
) -> MachineRun:
    """Everything on one machine, whose lease is held as long.

    Args:
        devices: their names.
        plans: the cells.
        doors: a worker on each of the devices that others may use.
        note: told what is being done.
        here: it is the machine this runs on.

    Raises:
        DeviceError: the lease cannot be had. Failures of single cells stand in the result.
        InputError, UsageError: what was asked cannot be done there; nothing was timed.
    """
    options, places = order.options, tuple(plan.number for plan in plans)
    note("loading", 0, len(plans))
    waiting = partial(note, "waiting", 0, 0)
    with leased(doors, 2 * options.seconds * len(plans), waiting) as leases, ExitStack() as stack:
        began = now_ns()
        cells: list[Cell] = []
        for plan in plans:
            cell = Cell(plan)
            stack.callback(cell.close)
            note("loading", len(cells), len(plans))
            cell.open()  # one after the other: load time and first inference are figures, too
            cells.append(cell)
        if all(cell.error is not None for cell in cells):
            return MachineRun(tuple(devices), places, tuple(cell.finish(Taken()) for cell in cells))
        check_runtimes(cells, options)
        if order.baseline is not None:
            _check_baseline(cells, order.baseline, None if order.alone else devices)
        load = load_of(options)
        if load is not None:
            note("timing", 0, 0)
            session, beside = load.time(cells, options)
            others: Others | Nothing = Nothing()
        else:
            session, others = _interleaved(cells, order, note, (began, here, devices))
            beside = [Taking({}, {})] * len(cells)
        results = [cell.finish(taken) for cell, taken in zip(cells, session.taken, strict=True)]
        results = [
            replace(one, fields={**one.fields, **more.fields}, extras=more.extras)
            for one, more in zip(results, beside, strict=True)
        ]
        results = [extend(result, cell, options) for result, cell in zip(results, cells, strict=True)]
    return MachineRun(tuple(devices), places, tuple(results), session, others, tuple(leases))


def failed(devices: Sequence[str], plans: Sequence[CellPlan], error: DeviceError) -> MachineRun:
    """A machine on which nothing ran: its cells with the reason."""
    results = [Cell(plan, error).finish(Taken()) for plan in plans]
    return MachineRun(tuple(devices), tuple(plan.number for plan in plans), tuple(results))


def _interleaved(
    cells: Sequence[Cell], order: Order, note: Note, where: tuple[int, bool, Sequence[str]]
) -> tuple[Session, Others | Nothing]:
    """The timed blocks, and who else used the processor meanwhile. ``where``: see :func:`time_machine`."""
    (began, here, devices), options = where, order.options
    with ExitStack() as stack:
        timed = [cell.plan.device for cell in cells if cell.plan.device.evidence.has_time and cell.error is None]
        starting = stack.enter_context(reference_on((timed or [cells[0].plan.device])[0], options.timeout))
        replicate(cells, None if options.workers is not None else began + START_LIMIT_NS)
        reference = starting()
        watch = Watch([reference.pid if reference else None, *(pid for cell in cells for pid in cell.pids)])
        session = time_interleaved(
            [cell.replicas for cell in cells],
            seconds=options.seconds,
            seed=options.seed,
            reference=reference,
            keeper=_part(order.journal, devices, cells),
            fixed=_fixed(order.plans, devices),
            note=lambda done, rounds: note("timing", done, rounds),
        )
        return session, watch.others() if here else Nothing()


def _part(journal: Journal | None, devices: Sequence[str], cells: Sequence[Cell]) -> Part | None:
    if journal is None:
        return None
    settings = [to_json(cell.setting()) for cell in cells]
    return journal.part("+".join(devices), [cell.plan.number for cell in cells], settings)


def _fixed(plans: Mapping[tuple[str, ...], BlockPlan] | None, devices: Sequence[str]) -> BlockPlan | None:
    """The plan of the run that is repeated.

    Raises:
        InputError: other devices are one machine now.
    """
    if plans is None:
        return None
    if tuple(devices) not in plans:
        found = "; ".join(" and ".join(names) for names in plans)
        raise InputError(
            f"the saved run had {found} on one machine each, now {' and '.join(devices)} are one; run it anew"
        )
    return plans[tuple(devices)]


def replicate(cells: Sequence[Cell], until_ns: int | None) -> None:
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
            for adding in [pool.submit(copy_context().run, cell.add_worker) for cell in cells]:
                adding.result()  # hands on what a thread raised
            took = now_ns() - started


def _check_baseline(cells: Sequence[Cell], baseline: Sequence[Entry], devices: Sequence[str] | None) -> None:
    """Refuses, before anything is timed, a baseline that the results could not be compared with.

    ``devices``: of several machines, those of this one, whose entries of the baseline alone count.
    """
    mine = [_entry(cell) for cell in cells if cell.error is None]
    theirs = [entry for entry in baseline if devices is None or entry.device.name in devices]
    pairs, unmatched = match(mine, theirs)
    if not pairs and devices is None:
        raise UsageError(f"the baseline has no result of these cells; only in one of the two: {'; '.join(unmatched)}")
    for first, second in pairs:
        check_comparable(first, second)


def _entry(cell: Cell) -> Entry:
    setting = cell.setting()
    where = setting.device, setting.threads, setting.batch, setting.scenario
    device, threads, batch, scenario = where
    return Entry(
        model=setting.model, runtime=setting.runtime, device=device, threads=threads, batch=batch, scenario=scenario
    )
