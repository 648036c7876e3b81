"""One trial: a candidate's file on one way to run it, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.pipeline.auto.candidates import Candidate, CandidateFile
from edgekit.pipeline.auto.ways import Way
from edgekit.results.compare import Comparison
from edgekit.results.eval import Evaluation
from edgekit.results.quantize import ComparedTime, TrialQuality, TrialRow, TrialTime
from edgekit.types import Verdict


@dataclass
class Trial:
    """A row of the result's table, filled in as the run goes on.

    Attributes:
        shortest_ms: the shortest of a few calls, on which those that are far off are left out.
        p50_ms, comparison: of the last match or race it was in, relative to the fastest float file there.
        stage: what that was: ``calls``, ``race``, ``match``.
        quality, drop: on the samples that the choice is made on, and what was lost against the float file.
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
    why: str = ""
    chosen: bool = False

    @property
    def name(self) -> str:
        """``tflite int8 minmax, litert``."""
        return self.candidate.name if self.way is None else f"{self.candidate.name}, {self.way.name}"

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
