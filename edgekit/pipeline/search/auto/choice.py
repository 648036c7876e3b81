"""Which file is chosen, and why the others are not."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.documents import typed
from edgekit.pipeline.search.candidate import FLOAT, Candidate
from edgekit.pipeline.search.final import Entrant, Finisher
from edgekit.results.optimize import TrialRow
from edgekit.types import Verdict


def drop_on(one: Entrant, device: str) -> float:
    """What it lost on ``device``; infinite where it was not judged."""
    found = one.on(device)
    return float("inf") if found is None or found.drop is None else found.drop


def candidate_of(one: Entrant, rows: Sequence[TrialRow]) -> Candidate:
    """How it was made. ``rows``: of the study."""
    if one.number < 0:
        return Candidate(str(one.file.artifact.format), FLOAT)
    return typed(Candidate, next(row for row in rows if row.number == one.number).parameters, "a candidate")


def least_of_ranges(
    entrants: Sequence[Entrant], rows: Sequence[TrialRow], device: str, allowed: float
) -> tuple[list[Entrant], dict[int, str]]:
    """The files that lose no more than is allowed, of those that differ in their ranges only the one that loses least;
    and number -> why not, of the others of these."""
    best: dict[tuple[object, ...], Entrant] = {}
    twins: dict[int, str] = {}
    names = {row.number: row.name for row in rows}
    for one in sorted(entrants, key=lambda one: drop_on(one, device)):
        if drop_on(one, device) <= allowed:
            made = candidate_of(one, rows)
            first = best.setdefault((made.format, made.scheme, made.keep_float, made.mixed), one)
            if first is not one:
                twins[one.number] = f"{names[first.number]} loses no more and differs in its ranges only"
    return sorted(best.values(), key=lambda one: one.number), twins


def pick(files: Sequence[Finisher], best: Finisher, *, smaller: bool = False) -> tuple[Finisher, dict[str, str]]:
    """The fastest of those that are faster than ``best``, the fastest float file; ``best`` where none is.

    Only the verdict ``faster`` counts: neither ``same`` nor ``inconclusive`` is a reason to give up precision. With
    ``smaller``, and where none is faster, the smallest file with the verdict ``same``, if it is smaller than ``best``.
    Beside it name -> why not, for all others.
    """
    faster = [one for one in files if one.time.verdict is Verdict.FASTER]
    chosen = min(faster, key=_ratio, default=best)
    if chosen is best and smaller:
        same = [one for one in files if one.time.verdict is Verdict.SAME]
        chosen = min([best, *same], key=lambda one: one.timed.file.bytes)
    others = [one for one in files if one not in (chosen, best)]
    return chosen, {one.timed.name: _why_not(one, chosen, best) for one in others}


def _ratio(one: Finisher) -> float:
    found = one.time.comparison
    return float("inf") if found is None or found.ratio is None else found.ratio


def _why_not(one: Finisher, chosen: Finisher, best: Finisher) -> str:
    name, verdict = best.timed.name, one.time.verdict
    if one.timed.baseline:
        return f"the float file {name} is faster or takes the same time"
    if verdict is Verdict.FASTER:
        return f"faster than {name}, but {chosen.timed.name} is faster still"
    if verdict is Verdict.SAME:
        share = one.timed.file.bytes / best.timed.file.bytes
        return f"takes the same time as {name}{f' and {100 * share:.0f}% of its bytes' if share < 1 else ''}"
    return f"slower than {name}" if verdict is Verdict.SLOWER else f"not shown to be faster than {name}"
