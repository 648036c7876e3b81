"""Times several cells in interleaved blocks, one at a time; a cell that fails loses only itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from edgekit.bench.clock import Block, Samples, WarmupRule, time_calls
from edgekit.bench.compare import Comparison, compare_paired
from edgekit.bench.schedule import Plan, first_warmup, orders, plan
from edgekit.errors import EdgekitError

log = logging.getLogger("edgekit")


class Timed(Protocol):
    """One cell ready to be timed: a model loaded on a device, with its feed (a worker, or a call in this process)."""

    def time_block(self, *, warmup: WarmupRule, min_runs: int, min_ns: int, max_ns: int) -> Block:
        """See :func:`edgekit.bench.clock.time_calls`, which does the work where the model is."""


@dataclass
class Taken:
    """What was taken of one cell: nanoseconds of its warm-up (of its first replica), then one array of samples a round.

    ``replicas``: processes the rounds are spread over. ``error`` ended the cell; the blocks before it are kept.
    """

    replicas: int = 1
    warmup_ns: Samples = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    blocks: list[Samples] = field(default_factory=list)
    error: EdgekitError | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """All cells of one run, in the order they were given, and how they were timed.

    ``order``: per round, the cells (their index) in the order they ran.
    """

    taken: tuple[Taken, ...]
    plan: Plan
    order: tuple[tuple[int, ...], ...]


def time_interleaved(cells: Sequence[Sequence[Timed]], *, seconds: float, seed: int) -> Session:
    """Warms every cell up, then times them in rounds, each round every cell once (ABBA, see :mod:`.schedule`).

    Args:
        cells: each a sequence of replicas (the same model in several processes), which take turns from one pair of
            rounds to the next. Empty for a cell that failed before; its place in the result stays empty.
        seconds: time for each cell, its warm-up included.
        seed: of the order.
    """
    taken = tuple(Taken(replicas=max(len(replicas), 1)) for replicas in cells)
    spent = [_warm_up(replicas, record, seconds) for replicas, record in zip(cells, taken, strict=True)]
    typical = [float(np.median(record.warmup_ns[-16:])) for record in taken if record.warmup_ns.size]
    chosen = plan(seconds, max(typical, default=0.0), max(spent, default=0.0), max((len(c) for c in cells), default=1))
    order = orders(len(cells), chosen.rounds, seed)
    for place, round_ in enumerate(order):
        for index in round_:
            replicas = cells[index]
            if replicas and taken[index].error is None:
                _take(replicas[place // 2 % len(replicas)], taken[index], chosen)
        log.debug("round %d of %d", place + 1, chosen.rounds)
    return Session(taken, chosen, tuple(tuple(round_) for round_ in order))


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


def _take(cell: Timed, record: Taken, chosen: Plan) -> None:
    try:
        block = cell.time_block(
            warmup=chosen.rewarm, min_runs=chosen.min_runs, min_ns=chosen.block_ns, max_ns=chosen.max_block_ns
        )
    except EdgekitError as error:
        record.error = error
        return
    record.blocks.append(block.samples_ns)


@dataclass(frozen=True, slots=True)
class InProcess:
    """A bare call of this process as a cell: for scripts and tests. A crash of native code is not caught here."""

    call: Callable[[], object]

    def time_block(self, *, warmup: WarmupRule, min_runs: int, min_ns: int, max_ns: int) -> Block:
        return time_calls(self.call, warmup=warmup, min_runs=min_runs, min_ns=min_ns, max_ns=max_ns)


def time_pair(a: Callable[[], object], b: Callable[[], object], *, seconds: float = 3.0, seed: int = 0) -> Comparison:
    """Compares two calls of this process, ``a`` relative to ``b``, each timed for ``seconds`` in interleaved blocks."""
    session = time_interleaved([[InProcess(a)], [InProcess(b)]], seconds=seconds, seed=seed)
    return compare_paired("a", "b", session.taken[0].blocks, session.taken[1].blocks)
