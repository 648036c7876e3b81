"""One trial: a candidate's file on one way to run it, what became of it, and which of them it is.

Trials are values: a stage gives those that it changed anew, in their order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edgekit.pipeline.auto.candidates import Candidate, CandidateFile
from edgekit.pipeline.auto.ways import Way
from edgekit.results.compare import MARGIN, Comparison
from edgekit.results.compressed import FidelityFigures
from edgekit.results.eval import Evaluation
from edgekit.results.quantize import ComparedTime, TrialQuality, TrialRow, TrialTime
from edgekit.types import Verdict

FINALISTS = 3
"""Candidates in the last match, and float files at most."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A row of the result's table.

    Attributes:
        shortest_ms: the shortest of a few calls, on which those that are far off are left out.
        p50_ms, comparison: of the last match or race it was in, relative to the fastest float file there.
        stage: what that was: ``calls``, ``race``, ``match``.
        quality, drop: on the samples that the choice is made on, and what was lost against the float file.
        fidelity: of a runtime in fewer bits: its outputs beside those of the float file in float32.
        why: why it was not chosen, or was.
    """

    candidate: Candidate
    made: CandidateFile | None = None
    way: Way | None = None
    shortest_ms: float | None = None
    stage: str = ""
    p50_ms: float | None = None
    comparison: Comparison | None = None
    quality: Evaluation | None = None
    drop: float | None = None
    fidelity: FidelityFigures | None = None
    why: str = ""
    chosen: bool = False

    @property
    def name(self) -> str:
        """``tflite int8 minmax, litert``."""
        return self.candidate.name if self.way is None else f"{self.candidate.name}, {self.way.name}"

    @property
    def is_float(self) -> bool:
        """Whether nothing was given up: a float file in float32. The others are compared with the fastest of these."""
        return self.candidate.is_float and not (self.way is not None and self.way.in_fewer_bits)

    @property
    def out(self) -> bool:
        """Whether it is out of the running."""
        return bool(self.why)

    @property
    def verdict(self) -> Verdict | None:
        return None if self.comparison is None else self.comparison.verdict

    @property
    def ratio(self) -> float:
        """Time relative to the float file it was compared with; infinite where it was not timed."""
        found = None if self.comparison is None else self.comparison.ratio
        return float("inf") if found is None else found

    def row(self) -> TrialRow:
        """The trial as it stands in the result."""
        made, way, quality = self.made, self.way, self.quality
        judged = (
            None
            if quality is None
            else TrialQuality(
                metric=quality.metric, value=quality.value, drop=self.drop, data=quality.data, total=quality.total
            )
        )
        return TrialRow(
            name=self.name,
            format=self.candidate.parent.format,
            scheme=self.candidate.scheme,
            calibration=self.candidate.calibration or None,
            runtime=None if way is None else way.runtime,
            device=None if way is None else way.device.name,
            threads=None if way is None else way.threads,
            bytes=None if made is None else made.bytes,
            sha256=None if made is None else made.sha256,
            quality=judged,
            time=self._time(),
            chosen=self.chosen,
            why=self.why,
        )

    def _time(self) -> TrialTime | None:
        if not self.stage:
            return None
        found, times = self.comparison, {"shortest_ms": self.shortest_ms, "p50_ms": self.p50_ms}
        if found is None:
            return TrialTime(stage=self.stage, **times)
        return ComparedTime(
            stage=self.stage,
            **times,
            ratio_p50=found.ratio_p50,
            ci95=found.ci95,
            verdict=found.verdict,
            against=found.b,
        )


def changed(trials: Sequence[Trial], *others: Trial) -> tuple[Trial, ...]:
    """``trials`` with ``others`` in the place of those of the same name, and behind them what is new."""
    by_name = {trial.name: trial for trial in others}
    kept = [by_name.pop(trial.name, trial) for trial in trials]
    return (*kept, *by_name.values())


def named(trials: Sequence[Trial], name: str) -> Trial:
    """The trial called ``name``."""
    return next(trial for trial in trials if trial.name == name)


def running(trials: Sequence[Trial]) -> list[Trial]:
    """Those that are not out."""
    return [trial for trial in trials if not trial.out]


def with_why(reasons: Mapping[str, str], trials: Sequence[Trial]) -> tuple[Trial, ...]:
    """``trials``, of which those in ``reasons`` (name -> why) are out."""
    return tuple(replace(trial, why=reasons.get(trial.name, trial.why)) for trial in trials)


def far_off(trials: Sequence[Trial], times: float) -> list[Trial]:
    """Trials whose shortest call takes more than ``times`` that of the float file with the shortest."""
    limit = times * shortest_float(trials)
    return [trial for trial in trials if trial.shortest_ms is not None and trial.shortest_ms > limit]


def shortest_float(trials: Sequence[Trial]) -> float:
    """Milliseconds of the shortest call of any float file; infinite where none was called."""
    shortest = [t.shortest_ms for t in trials if t.is_float and t.shortest_ms is not None]
    return min(shortest, default=float("inf"))


def drop_slower(trials: Sequence[Trial], best: Trial) -> tuple[Trial, ...]:
    """``trials``, of which those that are slower than the fastest float file are out."""
    slower = [trial.name for trial in trials if trial.verdict is Verdict.SLOWER]
    return with_why(dict.fromkeys(slower, f"slower than {best.name}"), trials)


def pick(trials: Sequence[Trial], best: Trial, *, smaller: bool = False) -> tuple[Trial, dict[str, str]]:
    """The fastest of those that are faster than ``best``, the fastest float file; ``best`` where none is.

    Only the verdict ``faster`` counts: neither ``same`` nor ``inconclusive`` is a reason to give up precision. With
    ``smaller``, and where none is faster, the smallest file with the verdict ``same``, if it is smaller than ``best``.
    Beside it name -> why not, for all others.
    """
    faster = [trial for trial in trials if trial.verdict is Verdict.FASTER and not trial.out]
    fastest = min(faster, key=lambda trial: trial.ratio, default=best)
    if fastest is best and smaller:
        same = [trial for trial in trials if trial.verdict is Verdict.SAME and not trial.out]
        fastest = min([best, *same], key=_bytes)
    others = [trial for trial in trials if trial not in (fastest, best) and not trial.out]
    return fastest, {trial.name: _why_not(trial, fastest, best) for trial in others}


def _why_not(trial: Trial, fastest: Trial, best: Trial) -> str:
    if trial.verdict is Verdict.FASTER:
        return f"faster than {best.name}, but {fastest.name} is faster still"
    if trial.verdict is Verdict.SAME:
        return f"takes the same time as {best.name}{_share(trial, best)}"
    if trial.verdict is Verdict.SLOWER:
        return f"slower than {best.name}"
    return f"not shown to be faster than {best.name}"


def undecided(trials: Sequence[Trial], best: Trial, *, smaller: bool = False) -> list[Trial]:
    """Candidates that seem faster than ``best`` without a verdict, where none has one; with ``smaller`` also smaller
    ones that seem to take the same time."""
    if any(trial.verdict is Verdict.FASTER for trial in trials if not trial.out):
        return []
    open_ = [t for t in trials if not t.out and t != best and t.verdict is Verdict.INCONCLUSIVE]
    return [t for t in open_ if t.ratio < 1 or (smaller and t.ratio < 1 + MARGIN and _bytes(t) < _bytes(best))]


def _bytes(trial: Trial) -> int:
    assert trial.made is not None
    return trial.made.bytes


def _share(trial: Trial, best: Trial) -> str:
    share = _bytes(trial) / _bytes(best)
    return f" and {100 * share:.0f}% of its bytes" if share < 1 else ""
