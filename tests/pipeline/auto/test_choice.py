"""Which one it is, from figures written down here."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.pipeline.auto.candidates import Candidate, CandidateFile
from edgekit.pipeline.auto.choice import drop_slower, far_off, pick, undecided
from edgekit.pipeline.auto.trial import Trial
from edgekit.pipeline.auto.ways import Way
from edgekit.results.compare import Comparison
from edgekit.types import Artifact, DeviceSpec, Format, Verdict

PARENT = Artifact(Path("float.onnx"), Format.ONNX)
WAY = Way(DeviceSpec("cpu", "cpu"), "onnxruntime", 1)


def trial(scheme: str, verdict: Verdict | None = None, ratio: float = 1.0, *, size: int = 100) -> Trial:
    candidate = Candidate(PARENT, scheme)
    made = Trial(candidate, CandidateFile(candidate, PARENT, "0", size), WAY)
    if verdict is not None:
        interval = 0.9 * ratio, 1.1 * ratio
        made.comparison = Comparison(
            a=scheme, b="float", ratio_p50=ratio, ci95=interval, verdict=verdict, method="paired"
        )
    return made


def test_the_fastest_of_those_that_are_faster() -> None:
    best = trial("float")
    others = [trial("int8", Verdict.FASTER, 0.5), trial("fp16", Verdict.FASTER, 0.4), trial("a", Verdict.SAME, 0.99)]
    assert pick([best, *others], best) is others[1]
    assert [row.why for row in others] == [
        "faster than onnx float, onnxruntime, but onnx fp16, onnxruntime is faster still",
        "",
        "takes the same time as onnx float, onnxruntime",
    ]


@pytest.mark.parametrize("verdict", [Verdict.SAME, Verdict.SLOWER, Verdict.INCONCLUSIVE])
def test_no_other_verdict_is_a_reason_to_give_up_precision(verdict: Verdict) -> None:
    best, other = trial("float"), trial("int8", verdict, 0.2)
    assert pick([best, other], best) is best
    assert other.out


def test_one_that_is_out_is_not_picked() -> None:
    best, other = trial("float"), trial("int8", Verdict.FASTER, 0.5)
    other.why = "loses too much"
    assert pick([best, other], best) is best
    assert other.why == "loses too much"


def test_a_smaller_file_in_the_same_time_is_told() -> None:
    best, other = trial("float"), trial("int8-weights", Verdict.SAME, 1.0, size=30)
    pick([best, other], best)
    assert other.why == "takes the same time as onnx float, onnxruntime and 30% of its bytes"


def test_the_smallest_in_the_same_time_where_that_is_asked_for() -> None:
    best, large = trial("float"), trial("fp16", Verdict.SAME, 0.99, size=50)
    small, unsure = trial("int8-weights", Verdict.SAME, 1.01, size=30), trial("int4", Verdict.INCONCLUSIVE, 1.0, size=9)
    assert pick([best, large, small, unsure], best, smaller=True) is small
    best, larger = trial("float"), trial("fp16", Verdict.SAME, 1.0, size=200)
    assert pick([best, larger], best, smaller=True) is best
    best, small, fast = trial("float"), trial("a", Verdict.SAME, 1.0, size=3), trial("b", Verdict.FASTER, 0.5, size=90)
    assert pick([best, small, fast], best, smaller=True) is fast


def test_a_longer_match_only_where_nothing_is_decided() -> None:
    best, seems = trial("float"), trial("int8", Verdict.INCONCLUSIVE, 0.9)
    slower = trial("fp16", Verdict.INCONCLUSIVE, 1.1)
    assert undecided([best, seems, slower], best) == [seems]
    assert undecided([best, seems, trial("a", Verdict.FASTER, 0.5)], best) == []
    small, large = (trial("int8", Verdict.INCONCLUSIVE, 1.02, size=size) for size in (30, 200))
    assert undecided([best, small, large], best) == []
    assert undecided([best, small, large, slower], best, smaller=True) == [small]


def test_slower_ones_leave_the_race() -> None:
    best, slow, even = trial("float"), trial("int8", Verdict.SLOWER, 2.0), trial("fp16", Verdict.INCONCLUSIVE, 1.2)
    drop_slower([best, slow, even], best)
    assert [row.out for row in (best, slow, even)] == [False, True, False]


def test_far_off() -> None:
    best, near, far, failed = trial("float"), trial("a"), trial("b"), trial("c")
    best.shortest_ms, near.shortest_ms, far.shortest_ms = 1.0, 2.9, 3.1
    assert far_off([best, near, far, failed], 3.0) == [far]
    assert far_off([far, failed], 3.0) == []  # no float file was called: nothing to be far from
