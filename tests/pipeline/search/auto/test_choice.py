"""Which one it is, from figures written down here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekit.pipeline.search.auto.choice import least_of_ranges, pick
from edgekit.pipeline.search.candidate import Candidate
from edgekit.pipeline.search.final import Entrant, Finisher, finalists, undecided
from edgekit.pipeline.search.measuring import Match, MatchTime, TimedFile
from edgekit.pipeline.search.steps import MadeFile
from edgekit.pipeline.search.ways import Way
from edgekit.results.base import to_json
from edgekit.results.compare import Comparison
from edgekit.results.compressed import Device
from edgekit.results.optimize import Evidence, TrialRow
from edgekit.types import DeviceSpec, Verdict
from edgekit.types import Evidence as Evidence_

WAY = Way(DeviceSpec("cpu", "cpu"), "onnxruntime", 1)


def finisher(
    scheme: str, verdict: Verdict | None = None, ratio: float = 1.0, *, size: int = 100, way: Way = WAY
) -> Finisher:
    """A file of the last run; the float file without a verdict."""
    file = MadeFile(Path("a.onnx"), "0", size)
    timed = TimedFile(f"onnx {scheme}, {way.name}", file, way, exported=scheme == "float")
    found = None
    if verdict is not None:
        interval = 0.9 * ratio, 1.1 * ratio
        found = Comparison(a=scheme, b="float", ratio_p50=ratio, ci95=interval, verdict=verdict, method="paired")
    return Finisher(Entrant(0, f"onnx {scheme}", file, ()), timed, MatchTime(ratio, found))


def test_the_fastest_of_those_that_are_faster() -> None:
    best = finisher("float")
    others = [
        finisher("int8", Verdict.FASTER, 0.5),
        finisher("fp16", Verdict.FASTER, 0.4),
        finisher("a", Verdict.SAME, 0.99),
    ]
    fastest, reasons = pick([best, *others], best)
    assert fastest is others[1]
    assert reasons == {
        "onnx int8, onnxruntime": "faster than onnx float, onnxruntime, but onnx fp16, onnxruntime is faster still",
        "onnx a, onnxruntime": "takes the same time as onnx float, onnxruntime",
    }


@pytest.mark.parametrize("verdict", [Verdict.SAME, Verdict.SLOWER, Verdict.INCONCLUSIVE])
def test_no_other_verdict_is_a_reason_to_give_up_precision(verdict: Verdict) -> None:
    best, other = finisher("float"), finisher("int8", verdict, 0.2)
    fastest, reasons = pick([best, other], best)
    assert fastest is best
    assert reasons[other.timed.name]


def test_a_smaller_file_in_the_same_time_is_told() -> None:
    best, other = finisher("float"), finisher("int8-weights", Verdict.SAME, 1.0, size=30)
    _, reasons = pick([best, other], best)
    assert reasons[other.timed.name] == "takes the same time as onnx float, onnxruntime and 30% of its bytes"


def test_the_smallest_in_the_same_time_where_that_is_asked_for() -> None:
    best, large = finisher("float"), finisher("fp16", Verdict.SAME, 0.99, size=50)
    small, unsure = (
        finisher("int8-weights", Verdict.SAME, 1.01, size=30),
        finisher("int4", Verdict.INCONCLUSIVE, 1.0, size=9),
    )
    assert pick([best, large, small, unsure], best, smaller=True)[0] is small
    best, larger = finisher("float"), finisher("fp16", Verdict.SAME, 1.0, size=200)
    assert pick([best, larger], best, smaller=True)[0] is best
    best, small, fast = (
        finisher("float"),
        finisher("a", Verdict.SAME, 1.0, size=3),
        finisher("b", Verdict.FASTER, 0.5, size=90),
    )
    assert pick([best, small, fast], best, smaller=True)[0] is fast


def matched(*files: Finisher) -> list[str]:
    """Names of those that run once more beside the first, the fastest float file."""
    device = Device(name="cpu", evidence=Evidence_.MEASURED, cpu=None)
    found = Match(files[0].timed, device, {one.timed.name: one.time for one in files})
    return [one.name for one in undecided([one.timed for one in files], found)]


def test_once_more_is_timed_what_is_undecided_where_nothing_is_faster() -> None:
    best, seems = finisher("float"), finisher("int8", Verdict.INCONCLUSIVE, 0.9)
    others = [finisher("fp16", Verdict.INCONCLUSIVE, 1.1), finisher("a", Verdict.SAME, 0.98)]
    assert matched(best, seems, *others) == ["onnx int8, onnxruntime"]
    assert matched(best, seems, finisher("b", Verdict.FASTER, 0.5)) == []
    small, large = (finisher(f"s{size}", Verdict.INCONCLUSIVE, 1.02, size=size) for size in (30, 200))
    assert matched(best, small, large) == ["onnx s30, onnxruntime"]


def test_another_float_file_does_not_run_once_more() -> None:
    """It could be the faster one then, and the verdicts would not be of the same file."""
    twin = finisher("float", Verdict.INCONCLUSIVE, 1.01, size=90, way=replace(WAY, runtime="litert"))
    seems = finisher("int8", Verdict.INCONCLUSIVE, 0.9)
    assert matched(finisher("float"), twin, seems) == ["onnx int8, onnxruntime"]


def test_a_float_file_in_fewer_bits_is_a_candidate_and_not_what_others_are_compared_with() -> None:
    exact, fewer = finisher("float"), finisher("float", way=Way(WAY.device, "openvino:bf16", 1))
    assert exact.timed.baseline and not fewer.timed.baseline


def judged(number: int, drop: float, ratio: float = 0.5, size: int = 100, **made: Any) -> tuple[Entrant, TrialRow]:
    """A trial that ended, as the last run takes it."""
    shown = Evidence(device="cpu", runtime="onnxruntime", threads=1, shortest_ms=ratio, ratio=ratio, drop=drop)
    candidate = Candidate("onnx", "int8", **made)
    row = TrialRow(number=number, name=candidate.name, parameters=to_json(candidate), state="complete")
    return Entrant(number, candidate.name, MadeFile(Path("a.onnx"), str(number), size), (shown,)), row


def test_of_files_that_differ_in_their_ranges_the_one_that_loses_least() -> None:
    rows = [judged(0, 0.5, calibration="minmax"), judged(1, 0.01, calibration="entropy"),
            judged(2, 0.0, calibration="mse"), judged(3, 0.01, calibration="mse", keep_float="Conv")]  # fmt: skip
    kept, twins = least_of_ranges([one for one, _ in rows], [row for _, row in rows], "cpu", 0.01)
    assert [one.number for one in kept] == [2, 3]
    assert twins == {1: "onnx int8 mse loses no more and differs in its ranges only"}


def test_where_there_is_room_the_last_run_takes_what_is_next_to_the_front() -> None:
    """What is on the front by a hair may lose too much on other samples."""
    made = [judged(k, drop, ratio, size)[0] for k, (drop, ratio, size) in enumerate(
        [(0.0, 0.9, 90), (-0.01, 0.5, 50), (0.0, 0.6, 60), (0.3, 0.4, 40), (0.0, 0.7, 70)])]  # fmt: skip
    assert [one.number for one in finalists(made, "cpu", 0.01)] == [1, 3, 2, 4, 0]
    more = [judged(k, 0.0, 0.5 + 0.1 * k, 100 + k)[0] for k in range(9)]
    assert [one.number for one in finalists(more, "cpu", 0.01)] == [0, 1, 2, 3, 4, 5]
