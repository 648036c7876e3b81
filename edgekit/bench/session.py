"""Times several cells in interleaved blocks, one at a time; a cell that fails loses only itself.

Between blocks the reference workload is read. A block with a slow reading before or after it, or in which the machine
stood still, is disturbed: it is taken again after a pause, as long as the time set aside for that lasts; what could
not be taken again is kept and marked.

On a machine so loaded that the rounds take longer than planned, the last pairs of rounds are left out.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from edgekit.bench.clock import Samples, TimedBlock, WarmupRule, now_ns, time_calls
from edgekit.bench.reference_workload import ReferenceReadings
from edgekit.bench.schedule import (
    FEWEST_ROUNDS,
    MIN_SAMPLES,
    MOST_EXTRA_NS,
    BlockPlan,
    first_warmup,
    orders,
    plan,
    spare_ns,
)
from edgekit.errors import EdgekitError
from edgekit.results.bench import Nothing, ReferenceFigures

log = logging.getLogger("edgekit")

MOST_REPEATS = 2
"""How often one block is taken again."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.01, 0.32


class Timed(Protocol):
    """One cell ready to be timed: a model loaded on a device, with its feed (a worker, or a call in this process)."""

    def time_block(self, *, warmup: WarmupRule, min_runs: int, min_ns: int, max_ns: int) -> TimedBlock:
        """See :func:`edgekit.bench.clock.time_calls`, which does the work where the model is."""


@dataclass(frozen=True, slots=True)
class TakenBlock:
    """One finished block: int64 nanoseconds, the worker process that took it, whether the machine was disturbed."""

    samples_ns: Samples
    owner: str
    disturbed: bool = False


@dataclass
class Taken:
    """What was taken of one cell: nanoseconds of its warm-up (of its first replica), then one block a round.

    ``error`` ended the cell; the blocks before it are kept.
    """

    warmup_ns: Samples = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    finished: list[TakenBlock] = field(default_factory=list)
    error: EdgekitError | None = None

    @property
    def blocks(self) -> list[Samples]:
        return [block.samples_ns for block in self.finished]

    @property
    def owners(self) -> list[str]:
        return [block.owner for block in self.finished]


@dataclass(frozen=True, slots=True)
class Session:
    """All cells of one run, in the order they were given, and how they were timed.

    Attributes:
        order: per round, the cells (their index) in the order they ran.
        reference: how often the machine was slow; nothing without a reference workload.
        kept: blocks that an interrupted run had taken before.
        parent_share: share of a core that this process took from the first block to the last.
    """

    taken: tuple[Taken, ...]
    plan: BlockPlan
    order: tuple[tuple[int, ...], ...]
    reference: ReferenceFigures | Nothing = field(default_factory=Nothing)
    kept: int = 0
    parent_share: float = 0.0


class Keeper(Protocol):
    """Where finished blocks go as they finish, and where those of an interrupted run come from."""

    def begin(self, chosen: BlockPlan) -> BlockPlan:
        """The plan of the interrupted run if there is one, else ``chosen``, which is written down."""

    def find(self, cell: int, place: int) -> TakenBlock | None:
        """The block of a round (``place``) that an interrupted run has taken."""

    def keep(self, cell: int, place: int, block: TakenBlock) -> None:
        """Writes a finished block down."""

    @property
    def generation(self) -> int:
        """How often the run was interrupted: workers of different generations are different processes."""


def time_interleaved(
    cells: Sequence[Sequence[Timed]],
    *,
    seconds: float,
    seed: int,
    reference: ReferenceReadings | None = None,
    keeper: Keeper | None = None,
    fixed: BlockPlan | None = None,
    note: Callable[[int, int], None] | None = None,
) -> Session:
    """Warms every cell up, then times them in rounds, each round every cell once (ABBA, see :mod:`.schedule`).

    Args:
        cells: each a sequence of replicas (the same model in several processes), which take turns from one pair of
            rounds to the next. Empty for a cell that failed before; its place in the result stays empty.
        seconds: time for each cell, its warm-up included.
        seed: of the order.
        reference: read between blocks; None: no block is repeated for a slow machine.
        keeper: where blocks are kept as they finish; None: nowhere.
        fixed: the plan of another run that is to be repeated to the last round; None: it follows from ``seconds``.
        note: called after each round, with the number of rounds that are done and of those that are planned.
    """
    began = now_ns()
    taken = tuple(Taken() for _ in cells)
    spent = [_warm_up(replicas, record, seconds) for replicas, record in zip(cells, taken, strict=True)]
    reading = min(reference.take() for _ in range(3)) if reference is not None else 0
    typical = [float(np.median(record.warmup_ns[-16:])) for record in taken if record.warmup_ns.size]
    most = max((len(c) for c in cells), default=1)
    chosen = fixed or plan(seconds, max(typical, default=0.0), max(spent, default=0.0), most, 3.0 * reading)
    if keeper is not None:
        chosen = keeper.begin(chosen)
    order = orders(len(cells), chosen.rounds, seed)
    run = _Run(chosen, reference, spare_ns(seconds, len(cells)), keeper)
    kept, started, busy = 0, now_ns(), time.process_time_ns()
    allowed_ns = seconds * len(cells) * 1e9 + MOST_EXTRA_NS
    for place, round_ in enumerate(order):
        if fixed is None and place % 2 == 0 and place >= max(FEWEST_ROUNDS, 2 * most):
            pair_ns = (now_ns() - started) / (place // 2)
            if now_ns() - began + pair_ns > allowed_ns and _enough(taken):
                log.debug("time is over after %d of %d rounds", place, len(order))
                order = order[:place]
                break
        for index in round_:
            if cells[index] and taken[index].error is None:
                kept += run.one(index, place, cells[index], taken[index])
        log.debug("round %d of %d", place + 1, chosen.rounds)
        if note is not None:
            note(place + 1, chosen.rounds)
    share = (time.process_time_ns() - busy) / max(now_ns() - started, 1)
    told = reference.figures() if reference is not None else Nothing()
    return Session(taken, chosen, tuple(tuple(round_) for round_ in order), told, kept, share)


def _enough(taken: Sequence[Taken]) -> bool:
    """Whether each cell has the samples of a p50, or never will."""
    return all(t.error is not None or sum(b.size for b in t.blocks) >= MIN_SAMPLES for t in taken if t.finished)


class _Run:
    """Takes blocks, with what is left of the time for repeating them."""

    def __init__(
        self, chosen: BlockPlan, reference: ReferenceReadings | None, spare: float, keeper: Keeper | None = None
    ) -> None:
        self._plan = chosen
        self._keeper = keeper
        self._reference = reference
        self._spare_ns = spare
        self._before = reference.take() if reference is not None else 0

    def one(self, index: int, place: int, replicas: Sequence[Timed], record: Taken) -> bool:
        """The block of one cell in one round into ``record``; True if an interrupted run had taken it before."""
        keeper = self._keeper
        block = None if keeper is None else keeper.find(index, place)
        if block is not None:
            record.finished.append(block)
            return True
        turn = place // 2 % len(replicas)
        block, record.error = self.take(replicas[turn], f"{keeper.generation if keeper else 0}.{turn}")
        if block is not None:
            record.finished.append(block)
            if keeper is not None:
                keeper.keep(index, place, block)
        return False

    def take(self, cell: Timed, owner: str) -> tuple[TakenBlock | None, EdgekitError | None]:
        """One block, taken again while it is disturbed and time allows; the last one that finished counts.

        None if none finished, and the error that ended the cell.
        """
        block = None
        try:
            block = self._once(cell, owner)
            for _ in range(MOST_REPEATS):
                if not block.disturbed or self._spare_ns < 2 * self._plan.block_ns:
                    break
                started = now_ns()
                self._wait_for_quiet()
                block = self._once(cell, owner)
                self._spare_ns -= now_ns() - started
                if self._reference is not None:
                    self._reference.repeated += 1
        except EdgekitError as error:
            return block, error
        return block, None

    def _once(self, cell: Timed, owner: str) -> TakenBlock:
        chosen = self._plan
        block = cell.time_block(
            warmup=chosen.rewarm, min_runs=chosen.min_runs, min_ns=chosen.block_ns, max_ns=chosen.max_block_ns
        )
        disturbed = block.stood_still
        if self._reference is not None:
            after = self._reference.take()
            disturbed = disturbed or self._reference.slow(max(self._before, after))
            self._before = after
        return TakenBlock(block.samples_ns, owner, disturbed)

    def _wait_for_quiet(self) -> None:
        """Pauses, longer each time, until a reading is quiet again or half of the spare time is gone."""
        if self._reference is None:
            return
        started, pause = now_ns(), _FIRST_PAUSE_S
        while self._reference.slow(self._before) and now_ns() - started < self._spare_ns / 2:
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
            self._before = self._reference.take()
        self._reference.paused_ns += now_ns() - started


def _warm_up(replicas: Sequence[Timed], record: Taken, seconds: float) -> float:
    """Warms all replicas up; nanoseconds that took."""
    spent = 0.0
    for replica in replicas:
        try:
            block = replica.time_block(warmup=first_warmup(seconds, len(replicas)), min_runs=1, min_ns=0, max_ns=1)
        except EdgekitError as error:
            record.error = error
            return spent
        samples = np.concatenate([block.warmup_ns, block.samples_ns])
        spent += float(samples.sum())
        if not record.warmup_ns.size:
            record.warmup_ns = samples
    return spent


@dataclass(frozen=True, slots=True)
class InProcess:
    """A bare call of this process as a cell: for scripts and tests. A crash of native code is not caught here."""

    call: Callable[[], object]

    def time_block(self, *, warmup: WarmupRule, min_runs: int, min_ns: int, max_ns: int) -> TimedBlock:
        return time_calls(self.call, warmup=warmup, min_runs=min_runs, min_ns=min_ns, max_ns=max_ns)
