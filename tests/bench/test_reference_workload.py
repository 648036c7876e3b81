"""The reference workload and what the session does with it: readings are made up here, the repeats are real."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from edgekit.bench.clock import STALL_NS, TimedBlock, WarmupRule
from edgekit.bench.reference_workload import LIMIT, ReferenceReadings, ReferenceWorkload
from edgekit.bench.session import MOST_REPEATS, TakenBlock, time_interleaved
from edgekit.errors import WorkerCrashError
from edgekit.results.base import to_json

MS = 1_000_000


class Cell:
    """Blocks of one millisecond a call; the ones named in ``stalls`` (by number) hold a call of a second."""

    def __init__(self, stalls: Sequence[int] = (), suspended_ns: int = 0) -> None:
        self.count, self.stalls, self.suspended_ns = 0, stalls, suspended_ns

    def time_block(self, *, warmup: WarmupRule, min_runs: int, min_ns: int, max_ns: int) -> TimedBlock:
        samples = np.full(max(min_runs, 20), MS, np.int64)
        if self.count in self.stalls:
            samples[3] = 1000 * MS
        self.count += 1
        return TimedBlock(samples, np.full(3, MS, np.int64), self.suspended_ns if self.count > 1 else 0)


def reference(slow: Sequence[int]) -> ReferenceReadings:
    """Reads 1 ms, and twice that for the readings whose numbers are in ``slow``."""
    numbers: Iterator[int] = iter(range(100_000))
    return ReferenceReadings(lambda: 2 * MS if next(numbers) in slow else MS)


def take(cell: Cell, reference: ReferenceReadings | None, seconds: float = 60.0) -> list[TakenBlock]:
    session = time_interleaved([[cell]], seconds=seconds, seed=0, reference=reference)
    assert session.taken[0].error is None
    return session.taken[0].finished


def test_quiet_readings_repeat_nothing() -> None:
    quiet = reference([])
    cell = Cell()
    found = take(cell, quiet)
    assert not any(block.disturbed for block in found)
    assert cell.count == 1 + len(found)  # the warm-up and each round once
    assert to_json(quiet.figures()) == {
        "readings": 3 + 1 + len(found), "quiet_ms": 1.0, "slow": 0, "limit": LIMIT, "paused_ms": 0.0,
        "repeated_blocks": 0,
    }  # fmt: skip


def test_a_block_with_a_slow_reading_is_taken_again_after_a_pause() -> None:
    one = reference([6])  # 3 for the plan, one before the first block, one after each: after the third block
    cell = Cell()
    found = take(cell, one)
    assert not any(block.disturbed for block in found)
    assert one.repeated == 1
    assert one.paused_ns > 0
    assert cell.count == 1 + len(found) + 1


def test_what_cannot_be_saved_is_kept_and_marked() -> None:
    always = reference(range(8, 10_000))
    found = take(Cell(), always, seconds=0.5)
    marked = [block.disturbed for block in found]
    assert not marked[0]
    assert marked[-1]
    assert len(found) == 8  # as many rounds as without


def test_repeats_end_with_the_time_set_aside() -> None:
    cell = Cell(stalls=range(1, 10_000))
    found = take(cell, reference([]), seconds=60)
    assert all(block.disturbed for block in found)
    assert cell.count <= 1 + len(found) * (1 + MOST_REPEATS)


def test_a_call_in_which_all_stood_still_is_taken_again() -> None:
    cell = Cell(stalls=[2])
    found = take(cell, None)
    assert max(int(block.samples_ns.max()) for block in found) == MS
    assert not any(block.disturbed for block in found)


def test_a_system_that_slept_is_seen() -> None:
    assert all(block.disturbed for block in take(Cell(suspended_ns=5 * MS), None))


@pytest.mark.parametrize(
    ("longest", "each", "still"),
    [(STALL_NS + 1, MS, True), (STALL_NS + 1, STALL_NS // 10, False), (STALL_NS - 1, MS, False)],
)
def test_a_slow_model_is_not_a_stall(longest: int, each: int, still: bool) -> None:
    assert TimedBlock(np.array([each] * 9 + [longest]), np.empty(0, np.int64)).stood_still is still


def test_a_lost_reference_workload_costs_only_itself(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "edgekit")
    left = iter([MS] * 6)

    def read() -> int:
        for value in left:
            return value
        raise WorkerCrashError("killed by signal 9")

    lost = ReferenceReadings(read)
    found = take(Cell(), lost)
    assert not any(block.disturbed for block in found)
    assert lost.figures().lost == "killed by signal 9"
    assert caplog.text.count("reference workload is lost") == 1


def test_the_reference_work_takes_time_and_allocates_nothing() -> None:
    import tracemalloc

    reference = ReferenceWorkload()
    reference.read_ns()
    tracemalloc.start()
    try:
        assert reference.read_ns() > 0
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4096  # integers and the loop; its arrays are 16 KiB and 8 MiB


def test_rounds_that_take_longer_than_planned_are_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine so loaded that blocks take far longer than their time: the run ends with its time all the same."""
    from edgekit.bench import session as room
    from edgekit.bench.schedule import FEWEST_ROUNDS

    clock = iter(range(0, 10**15, 500 * MS))  # each look at the clock, one or two a pair of rounds, is 0.5 s later
    monkeypatch.setattr(room, "now_ns", lambda: next(clock))
    found = time_interleaved([[Cell()], [Cell()]], seconds=3.0, seed=0)
    assert FEWEST_ROUNDS <= len(found.order) < found.plan.rounds
    assert [len(taken.blocks) for taken in found.taken] == [len(found.order)] * 2
    again = time_interleaved([[Cell()], [Cell()]], seconds=3.0, seed=0, fixed=found.plan)
    assert len(again.order) == found.plan.rounds  # a replay is the same to the last round
