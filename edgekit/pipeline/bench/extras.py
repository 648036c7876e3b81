"""What the bench measures in passes of their own, after the timed one, each in a worker of its own."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from edgekit.bench.result import CellResult
from edgekit.errors import EdgekitError
from edgekit.extras.base import asked_for
from edgekit.options.bench import BenchOptions
from edgekit.pipeline.bench.cell import Cell
from edgekit.results.bench import Compressed, CompressedCoverage
from edgekit.results.compressed import Parent, of_card
from edgekit.results.measures import Failed, Failure

log = logging.getLogger("edgekit")


def check_runtimes(cells: Sequence[Cell], options: BenchOptions) -> None:
    """Refuses, before anything is timed, what a cell's runtime cannot tell.

    Raises:
        UnsupportedError: with the reason.
    """
    for cell in cells:
        runtime = cell.setting().runtime
        for extra in asked_for(options) if cell.error is None and runtime is not None else ():
            extra.check_runtime(str(runtime))


def extend(result: CellResult, cell: Cell, options: BenchOptions) -> CellResult:
    """``result`` with what the card says of a compressed file, and the extras that ``options`` ask for.

    A pass that fails stands as its error, no more.
    """
    fields, extras = {**result.fields, **_compressed(cell)}, dict(result.extras)
    for extra in asked_for(options):
        if not (result.timed or (extra.emulated and result.error is None)):
            continue
        try:
            found = extra.measure(cell, result, options)
            fields |= extra.fields(result, found)
        except EdgekitError as error:
            log.warning("%s: %s: %s", cell.plan.model, extra.name, error)
            found = Failed(Failure(type(error).__name__, str(error)))
        extras[extra.name] = found
    return replace(result, fields=fields, extras=extras)


def _compressed(cell: Cell) -> dict[str, Any]:
    card = cell.plan.artifact.card
    if card is None or card.account is None:
        return {}
    account = {**card.account, "left_float": len(card.account.get("left_float", ()))}
    parent = None if card.parent is None else of_card(Parent, card.parent, "parent")
    return {"compressed": Compressed(account=of_card(CompressedCoverage, account, "account"), parent=parent)}
