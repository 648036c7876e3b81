"""Verdicts on synthetic samples, where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.bench.compare import check_comparable, compare_paired, compare_sessions
from edgekit.bench.session import InProcess, time_interleaved
from edgekit.documents import typed
from edgekit.errors import UnsupportedError
from edgekit.results.base import to_json
from edgekit.results.bench import Entry
from edgekit.results.compare import MARGIN, Comparison, gate_slower, overall
from edgekit.types import Verdict


def series(
    scale: float, seed: int, *, phases: np.ndarray | None = None, rounds: int = 20, each: int = 60, jitter: float = 0.01
) -> list[np.ndarray]:
    """``rounds`` blocks around ``scale`` ms with outliers; ``phases`` is what the machine did to all."""
    generator = np.random.default_rng(seed)
    machine = np.ones(rounds) if phases is None else phases
    made = []
    for level in machine:
        block = 1e6 * scale * level * (1 + jitter * generator.standard_normal()) * generator.lognormal(0, 0.03, each)
        block[generator.random(each) < 0.02] *= 5
        made.append(block.astype(np.int64))
    return made


WORKERS = 4


def paired(a: list[np.ndarray], b: list[np.ndarray]) -> Comparison:
    return compare_paired("a", "b", a, b, WORKERS)


def sessions(a: list[np.ndarray], b: list[np.ndarray]) -> Comparison:
    return compare_sessions("a", "b", a, b, (WORKERS, WORKERS))


def verdicts(scale: float, compare=paired, **how: object) -> list[Verdict]:
    return [compare(series(scale, 2 * k, **how), series(1.0, 2 * k + 1, **how)).verdict for k in range(40)]


def test_five_percent_more_work_is_slower() -> None:
    assert verdicts(1.05).count(Verdict.SLOWER) >= 38


def test_five_percent_less_work_is_faster_and_the_ratio_is_right() -> None:
    found = paired(series(0.5, 1), series(1.0, 2))
    assert found.verdict is Verdict.FASTER
    assert found.ratio == pytest.approx(0.5, rel=0.02)  # 20 blocks with 1% jitter each: standard error 0.3%
    assert found.low < 0.5 < found.high
    assert verdicts(0.95).count(Verdict.FASTER) >= 38


def test_a_file_against_its_copy_is_never_called_different() -> None:
    found = verdicts(1.0)
    assert Verdict.SLOWER not in found
    assert Verdict.FASTER not in found
    assert found.count(Verdict.SAME) >= 30


def test_a_machine_that_slows_down_cancels() -> None:
    drift = np.linspace(1.0, 1.5, 20)
    found = paired(series(1.05, 1, phases=drift), series(1.0, 2, phases=drift))
    assert found.verdict is Verdict.SLOWER
    assert found.ratio == pytest.approx(1.05, abs=0.02)
    same = paired(series(1.0, 3, phases=drift), series(1.0, 4, phases=drift))
    assert same.verdict is Verdict.SAME


def test_slow_phases_cancel_in_pairs_and_not_between_sessions() -> None:
    phases = np.where(np.arange(20) % 7 < 3, 1.4, 1.0)
    assert verdicts(1.05, phases=phases).count(Verdict.SLOWER) >= 38
    between = verdicts(1.05, compare=sessions, phases=phases)
    assert between.count(Verdict.INCONCLUSIVE) >= 30


def test_much_noise_is_inconclusive() -> None:
    assert verdicts(1.05, jitter=0.2).count(Verdict.INCONCLUSIVE) >= 30


def test_same_needs_the_whole_interval_inside_the_margin() -> None:
    found = paired(series(1.015, 1, jitter=0.001), series(1.0, 2, jitter=0.001))
    assert found.low > 1
    assert found.high <= 1 + MARGIN
    assert found.verdict is Verdict.SAME


def test_too_few_samples_give_no_ratio() -> None:
    found = compare_paired("a", "b", series(1, 0, rounds=2, each=5), series(1, 1))
    assert found.ratio is None
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "10 samples" in found.reason
    assert to_json(found)["ci95"] is None


def test_one_pair_of_rounds_gives_no_interval() -> None:
    found = compare_paired("a", "b", series(1, 0, rounds=2), series(1, 1, rounds=2))
    assert (found.low, found.verdict) == (None, Verdict.INCONCLUSIVE)


def entry(**device: str) -> Entry:
    where = {"name": "cpu", "evidence": "measured", "cpu": "X", "cpu_id": "1", **device}
    row = {"model": "m.onnx", "runtime": "onnxruntime", "device": where, "threads": 1, "batch": 1, "scenario": ""}
    return typed(Entry, row, "it")


@pytest.mark.parametrize("changed", [{"evidence": "constrained"}, {"cpu": "Y"}, {"cpu_id": "2"}])
def test_other_evidence_or_cpu_is_refused(changed: dict[str, str]) -> None:
    check_comparable(entry(), entry())
    with pytest.raises(UnsupportedError, match="not compared"):
        check_comparable(entry(), entry(**changed))


def test_emulated_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="hold no times"):
        check_comparable(entry(evidence="emulated"), entry(evidence="emulated"))


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [(1.04, 1.06, Verdict.SLOWER), (0.99, 1.02, Verdict.SAME), (1.0, 1.05, Verdict.INCONCLUSIVE),
     (None, None, Verdict.INCONCLUSIVE)],
)  # fmt: skip
def test_the_gate_at_three_percent(low: float | None, high: float | None, outcome: Verdict) -> None:
    ci95 = None if low is None or high is None else (low, high)
    found = Comparison(a="a", b="b", ratio_p50=1.0, ci95=ci95, verdict=Verdict.SAME, method="paired")
    assert gate_slower(found, 3.0) is outcome


def test_overall() -> None:
    assert overall([Verdict.SAME, Verdict.SAME]) is Verdict.SAME
    assert overall([Verdict.SAME, Verdict.FASTER]) is Verdict.FASTER
    assert overall([Verdict.FASTER, Verdict.INCONCLUSIVE]) is Verdict.INCONCLUSIVE
    assert overall([Verdict.SLOWER, Verdict.INCONCLUSIVE]) is Verdict.SLOWER


def with_processes(scale: float, seed: int, spread: float, replicas: int) -> list[np.ndarray]:
    """Like :func:`series`, taken by ``replicas`` processes in turn, each off by its own draw of ``spread``."""
    offsets = np.random.default_rng(1000 + seed).normal(0, spread, replicas)
    owner = np.arange(20) // 2 % replicas
    return series(scale, seed, phases=1 + offsets[owner], jitter=0.003)


def called(scale: float, spread: float, replicas: int) -> list[Verdict]:
    return [
        compare_paired(
            "a",
            "b",
            with_processes(scale, 2 * k, spread, replicas),
            with_processes(1.0, 2 * k + 1, spread, replicas),
            replicas,
        ).verdict
        for k in range(60)
    ]


def different(found: list[Verdict]) -> int:
    return found.count(Verdict.SLOWER) + found.count(Verdict.FASTER)


@pytest.mark.parametrize("spread", [0.005, 0.01, 0.03])
def test_what_differs_between_processes_is_in_the_interval(spread: float) -> None:
    assert different(called(1.0, spread, replicas=4)) <= 6  # 3 of 60 at 95%; above 6 has a chance of 3%


def test_with_one_process_each_chance_is_called_a_difference() -> None:
    assert different(called(1.0, 0.03, replicas=1)) > 20  # shows what the replicas are for


def test_five_percent_stands_out_of_usual_processes() -> None:
    assert called(1.05, 0.008, replicas=4).count(Verdict.SLOWER) >= 55


def test_calls_of_this_process() -> None:
    calls = [[InProcess(lambda: sum(range(100)))], [InProcess(lambda: sum(range(5000)))]]
    short, long = time_interleaved(calls, seconds=0.1, seed=0).taken
    found = compare_paired("short", "long", short.blocks, long.blocks)
    assert found.verdict is Verdict.FASTER  # fifty times less work
    assert found.ratio is not None
