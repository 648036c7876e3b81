from __future__ import annotations

import numpy as np
import pytest

from edgekit.bench.clock import TimedBlock, WarmupRule
from edgekit.bench.schedule import orders
from edgekit.bench.session import time_interleaved
from edgekit.errors import DeviceError, WorkerCrashError


class Fake:
    """A cell that counts; it fails at its ``fails_at``-th block."""

    def __init__(self, name: str, log: list[str], fails_at: int | None = None) -> None:
        self.name, self.log, self.fails_at, self.calls = name, log, fails_at, 0

    def time_block(self, *, warmup: WarmupRule, min_runs: int, min_ns: int, max_ns: int) -> TimedBlock:
        if self.calls == self.fails_at:
            raise WorkerCrashError("killed by signal 9")
        self.calls += 1
        self.log.append(self.name)
        return TimedBlock(np.full(min_runs, 1_000_000, np.int64), np.full(3, 1_000_000, np.int64))


def test_order_is_the_recorded_one() -> None:
    log: list[str] = []
    session = time_interleaved([[Fake("a", log)], [Fake("b", log)], [Fake("c", log)]], seconds=0.6, seed=7)
    assert log[:3] == ["a", "b", "c"]  # the warm-up
    wanted = ["abc"[index] for order in orders(3, session.plan.rounds, 7) for index in order]
    assert log[3:] == wanted
    assert [len(taken.blocks) for taken in session.taken] == [session.plan.rounds] * 3


@pytest.mark.parametrize("fails_at", [0, 1, 4])
def test_a_cell_that_fails_loses_only_itself(fails_at: int) -> None:
    log: list[str] = []
    session = time_interleaved([[Fake("a", log)], [Fake("b", log, fails_at)]], seconds=0.6, seed=0)
    good, bad = session.taken
    assert len(good.blocks) == session.plan.rounds
    assert good.error is None
    assert isinstance(bad.error, WorkerCrashError)
    assert len(bad.blocks) == max(fails_at - 1, 0)  # what was taken before is kept
    assert log.count("b") == fails_at


def test_a_cell_that_failed_before_keeps_its_place() -> None:
    session = time_interleaved([[], [Fake("b", [])]], seconds=0.6, seed=0)
    assert session.taken[0].blocks == []
    assert len(session.taken[1].blocks) == session.plan.rounds


def test_all_failing_is_not_a_crash() -> None:
    session = time_interleaved([[Fake("a", [], 0)]], seconds=0.6, seed=0)
    assert isinstance(session.taken[0].error, DeviceError)


def test_replicas_take_turns_pair_by_pair() -> None:
    log: list[str] = []
    session = time_interleaved([[Fake("a0", log), Fake("a1", log)]], seconds=0.8, seed=0)
    assert log[:2] == ["a0", "a1"]
    assert log[2:8] == ["a0", "a0", "a1", "a1", "a0", "a0"]
    assert session.taken[0].owners[:6] == ["0.0", "0.0", "0.1", "0.1", "0.0", "0.0"]
