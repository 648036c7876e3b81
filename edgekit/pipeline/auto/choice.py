"""Which trial it is: pure functions over what was measured."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.pipeline.auto.trial import Trial
from edgekit.results.compare import MARGIN
from edgekit.types import Verdict

FINALISTS = 3
"""Candidates in the last match, and float files at most."""


def far_off(trials: Sequence[Trial], times: float) -> list[Trial]:
    """Trials whose shortest call takes more than ``times`` that of the float file with the shortest."""
    limit = times * shortest_float(trials)
    return [trial for trial in trials if trial.shortest_ms is not None and trial.shortest_ms > limit]


def shortest_float(trials: Sequence[Trial]) -> float:
    """Milliseconds of the shortest call of any float file; infinite where none was called."""
    shortest = [t.shortest_ms for t in trials if t.candidate.is_float and t.shortest_ms is not None]
    return min(shortest, default=float("inf"))


def drop_slower(trials: Sequence[Trial], best: Trial) -> None:
    """Takes those out that are slower than the fastest float file."""
    for trial in trials:
        if trial.verdict is Verdict.SLOWER:
            trial.why = f"slower than {best.name}"


def pick(trials: Sequence[Trial], best: Trial, *, smaller: bool = False) -> Trial:
    """The fastest of those that are faster than ``best``, the fastest float file; ``best`` where none is.

    Only the verdict ``faster`` counts: neither ``same`` nor ``inconclusive`` is a reason to give up precision. With
    ``smaller``, and where none is faster, the smallest file with the verdict ``same``, if it is smaller than ``best``.
    All others get the reason why not.
    """
    faster = [trial for trial in trials if trial.verdict is Verdict.FASTER and not trial.out]
    fastest = min(faster, key=lambda trial: trial.ratio, default=best)
    if fastest is best and smaller:
        same = [trial for trial in trials if trial.verdict is Verdict.SAME and not trial.out]
        fastest = min([best, *same], key=_bytes)
    for trial in trials:
        if trial is fastest or trial.out or trial is best:
            continue
        if trial.verdict is Verdict.FASTER:
            trial.why = f"faster than {best.name}, but {fastest.name} is faster still"
        elif trial.verdict is Verdict.SAME:
            trial.why = f"takes the same time as {best.name}{_share(trial, best)}"
        elif trial.verdict is Verdict.SLOWER:
            trial.why = f"slower than {best.name}"
        else:
            trial.why = f"not shown to be faster than {best.name}"
    return fastest


def undecided(trials: Sequence[Trial], best: Trial, *, smaller: bool = False) -> list[Trial]:
    """Candidates that seem faster than ``best`` without a verdict, where none has one; with ``smaller`` also smaller
    ones that seem to take the same time."""
    if any(trial.verdict is Verdict.FASTER for trial in trials if not trial.out):
        return []
    open_ = [t for t in trials if not t.out and t is not best and t.verdict is Verdict.INCONCLUSIVE]
    return [t for t in open_ if t.ratio < 1 or (smaller and t.ratio < 1 + MARGIN and _bytes(t) < _bytes(best))]


def _bytes(trial: Trial) -> int:
    assert trial.made is not None
    return trial.made.bytes


def _share(trial: Trial, best: Trial) -> str:
    share = _bytes(trial) / _bytes(best)
    return f" and {100 * share:.0f}% of its bytes" if share < 1 else ""
