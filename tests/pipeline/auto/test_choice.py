"""Which one it is, from figures written down here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.pipeline.auto.candidates import Candidate, CandidateFile
from edgekit.pipeline.auto.trial import Trial, drop_slower, far_off, pick, undecided, with_why
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
        found = Comparison(a=scheme, b="float", ratio_p50=ratio, ci95=interval, verdict=verdict, method="paired")
        made = replace(made, comparison=found)
    return made


def test_the_fastest_of_those_that_are_faster() -> None:
    best = trial("float")
    others = [trial("int8", Verdict.FASTER, 0.5), trial("fp16", Verdict.FASTER, 0.4), trial("a", Verdict.SAME, 0.99)]
    fastest, reasons = pick([best, *others], best)
    assert fastest is others[1]
    assert [row.why for row in with_why(reasons, others)] == [
        "faster than onnx float, onnxruntime, but onnx fp16, onnxruntime is faster still",
        "",
        "takes the same time as onnx float, onnxruntime",
    ]


@pytest.mark.parametrize("verdict", [Verdict.SAME, Verdict.SLOWER, Verdict.INCONCLUSIVE])
def test_no_other_verdict_is_a_reason_to_give_up_precision(verdict: Verdict) -> None:
    best, other = trial("float"), trial("int8", verdict, 0.2)
    fastest, reasons = pick([best, other], best)
    assert fastest is best
    assert reasons[other.name]


def test_one_that_is_out_is_not_picked() -> None:
    best, other = trial("float"), trial("int8", Verdict.FASTER, 0.5)
    (other,) = with_why({other.name: "loses too much"}, [other])
    assert pick([best, other], best) == (best, {})


def test_a_smaller_file_in_the_same_time_is_told() -> None:
    best, other = trial("float"), trial("int8-weights", Verdict.SAME, 1.0, size=30)
    _, reasons = pick([best, other], best)
    assert reasons[other.name] == "takes the same time as onnx float, onnxruntime and 30% of its bytes"


def test_the_smallest_in_the_same_time_where_that_is_asked_for() -> None:
    best, large = trial("float"), trial("fp16", Verdict.SAME, 0.99, size=50)
    small, unsure = trial("int8-weights", Verdict.SAME, 1.01, size=30), trial("int4", Verdict.INCONCLUSIVE, 1.0, size=9)
    assert pick([best, large, small, unsure], best, smaller=True)[0] is small
    best, larger = trial("float"), trial("fp16", Verdict.SAME, 1.0, size=200)
    assert pick([best, larger], best, smaller=True)[0] is best
    best, small, fast = trial("float"), trial("a", Verdict.SAME, 1.0, size=3), trial("b", Verdict.FASTER, 0.5, size=90)
    assert pick([best, small, fast], best, smaller=True)[0] is fast


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
    assert [row.out for row in drop_slower([best, slow, even], best)] == [False, True, False]


def test_far_off() -> None:
    best, near, far = (
        replace(trial(scheme), shortest_ms=ms) for scheme, ms in (("float", 1.0), ("a", 2.9), ("b", 3.1))
    )
    failed = trial("c")
    assert far_off([best, near, far, failed], 3.0) == [far]
    assert far_off([far, failed], 3.0) == []  # no float file was called: nothing to be far from


def test_a_float_file_in_fewer_bits_is_a_candidate_and_not_what_others_are_compared_with() -> None:
    exact = trial("float")
    fewer = replace(exact, way=replace(WAY, runtime="openvino:bf16"))
    assert exact.is_float and not fewer.is_float and fewer.name == "onnx float, openvino:bf16"
    called = [replace(exact, shortest_ms=9.0), replace(fewer, shortest_ms=1.0)]
    assert far_off(called, 3.0) == [], "the fastest float file is the one in float32"
