"""What the bench measures in passes of their own, after the timed one, each in a worker of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from edgekit.bench.profile import check_profile
from edgekit.bench.result import CellResult
from edgekit.devices.instructions import emulator_with_plugins, plugin
from edgekit.errors import EdgekitError
from edgekit.options.bench import BenchOptions
from edgekit.pipeline.bench.cell import Cell
from edgekit.pipeline.bench.checks import duration_s
from edgekit.pipeline.bench.cold import cold_starts
from edgekit.pipeline.bench.endtoend import end_to_end
from edgekit.pipeline.bench.fit import would_fit
from edgekit.pipeline.bench.instructions import count_instructions
from edgekit.pipeline.bench.probes import probe
from edgekit.pipeline.bench.roofline import roofline
from edgekit.pipeline.bench.sustain import sustain

log = logging.getLogger("edgekit")
Pass = Callable[[CellResult, Cell, BenchOptions], Mapping[str, Any]]
PROFILE_SECONDS = 1.0
ENERGY_SECONDS = 4.0
"""Meters are coarse: RAPL counts in milliseconds, board sensors in tens of them."""
_PASS_LIMIT_S = 300.0


def check_extras(cells: Sequence[Cell], options: BenchOptions) -> None:
    """Refuses, before anything is timed, what a cell's runtime cannot tell.

    Raises:
        UnsupportedError: with the reason.
        RuntimeMissingError: what counts instructions is not there.
    """
    if options.instructions:
        emulator_with_plugins()
        plugin()
    for cell in cells:
        runtime = cell.setting().runtime
        if options.profile and cell.error is None and runtime is not None:
            check_profile(runtime)


def extend(result: CellResult, cell: Cell, options: BenchOptions) -> CellResult:
    """``result`` with what the card says of a compressed file, and the passes that ``options`` ask for.

    A pass that fails stands as its error, no more.
    """
    extras = {**result.extras, **_compressed(cell)}
    for name, run in PASSES.items():
        if not getattr(options, name) or not (result.timed or (name == "instructions" and result.error is None)):
            continue
        try:
            extras[name] = run(result, cell, options)
        except EdgekitError as error:
            log.warning("%s: %s: %s", cell.plan.model, name, error)
            extras[name] = {"error": {"type": type(error).__name__, "message": str(error)}}
    return replace(result, extras=extras)


def _compressed(cell: Cell) -> dict[str, Any]:
    card = cell.plan.artifact.card
    if card is None or card.account is None:
        return {}
    account = {name: value for name, value in card.account.items() if name != "left_float"}
    account["left_float"] = len(card.account.get("left_float", ()))
    return {"compressed": {"account": account, "parent": card.parent}}


def _profile(result: CellResult, cell: Cell, options: BenchOptions) -> Mapping[str, Any]:
    with cell.worker() as client:
        found = client.measure("profile", cell.feed, timeout_s=_PASS_LIMIT_S, seconds=PROFILE_SECONDS)
    return dict(found.header)


def _sustain(result: CellResult, cell: Cell, options: BenchOptions) -> Mapping[str, Any]:
    assert options.sustain is not None
    return sustain(cell, duration_s(options.sustain))


def _energy(result: CellResult, cell: Cell, options: BenchOptions) -> Mapping[str, Any]:
    with cell.worker() as client:
        return dict(client.measure("energy", cell.feed, timeout_s=_PASS_LIMIT_S, seconds=ENERGY_SECONDS).header)


PASSES: Mapping[str, Pass] = {
    "profile": _profile,
    "sustain": _sustain,
    "roofline": lambda result, cell, options: roofline(result, cell),
    "cold": lambda result, cell, options: cold_starts(cell),
    "fit": lambda result, cell, options: would_fit(cell),
    "end_to_end": lambda result, cell, options: end_to_end(cell),
    "energy": _energy,
    "probe": lambda result, cell, options: probe(cell),
    "instructions": lambda result, cell, options: count_instructions(cell),
}
"""Option (see :data:`edgekit.pipeline.bench.checks.EXTRAS`) -> pass; also its name in the document."""
