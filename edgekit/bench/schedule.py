"""In which order cells are timed: interleaved blocks, ABBA, from a recorded seed.

In each pair of rounds every cell runs twice, the second round in the reverse order of the first, so that a machine
that slows down steadily weighs on all cells alike. Which cell goes first is drawn anew for each pair.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from edgekit.bench.clock import WarmupRule
from edgekit.types import SUPPORTED_SAMPLES

BLOCK_NS = 100_000_000
"""Aimed-at length of one block: short against the phases of a shared machine, long against a cold cache."""
FEWEST_ROUNDS, MOST_ROUNDS = 8, 60
MIN_SAMPLES = SUPPORTED_SAMPLES[50]
"""Timed calls a cell gets, whatever its time says, up to :data:`CAP` times its time."""
CAP = 5
"""A cell that cannot reach :data:`MIN_SAMPLES` in its time may take this many times as long, and no more."""
REWARM_SHARE = 0.05
_SLOW_CALL_NS = 20_000_000
RESERVE = 0.05
"""Share of the time that is kept for repeating disturbed blocks (see :mod:`edgekit.bench.session`)."""
MOST_EXTRA_NS = 1_000_000_000
"""What a run may take beyond its time: repeated blocks (at most as much again as the reserve), a loaded machine."""


@dataclass(frozen=True, slots=True)
class BlockPlan:
    """How often each cell is timed, and for how long each time."""

    rounds: int
    block_ns: int
    max_block_ns: int
    min_runs: int
    rewarm: WarmupRule


def orders(cells: int, rounds: int, seed: int) -> list[list[int]]:
    """``rounds`` orders of ``range(cells)``; of each pair the second is the reverse of the first.

    The same seed gives the same orders on every machine and every Python (``random.Random`` shuffles are stable).
    """
    generator = random.Random(seed)
    result: list[list[int]] = []
    while len(result) < rounds:
        order = list(range(cells))
        generator.shuffle(order)
        result += [order, order[::-1]]
    return result[:rounds]


def first_warmup(seconds: float, replicas: int = 1) -> WarmupRule:
    """Warm-up of a new worker: 3 calls, a tenth of the cell's time (0.3 s at most), until steady, a quarter at most.

    The replicas of a cell share this time.
    """
    share_ns = int(min(0.1 * seconds, 0.3) * 1e9) // replicas
    return WarmupRule(min_runs=3, min_ns=share_ns, max_ns=int(min(0.25 * seconds, 1.0) * 1e9) // replicas)


def spare_ns(seconds: float, cells: int) -> float:
    """Time of a run that may go into pauses and repeated blocks."""
    reserve = RESERVE * seconds * cells * 1e9
    return reserve + min(reserve, MOST_EXTRA_NS)


def plan(seconds: float, typical_ns: float, warmup_ns: float, replicas: int = 1, between_ns: float = 0.0) -> BlockPlan:
    """Rounds and block length for cells of ``seconds`` each, of which ``warmup_ns`` are already spent.

    ``typical_ns`` is one call of the slowest cell, ``between_ns`` what is done between two blocks.
    Blocks hold at least four such calls where the time allows it; each of the cell's ``replicas`` gets at least one
    pair of rounds.
    """
    left_ns = max((1 - RESERVE) * seconds * 1e9 - warmup_ns, 0.3 * seconds * 1e9)
    wanted = int(left_ns / max(BLOCK_NS, 4 * typical_ns))
    rounds = min(max(wanted - wanted % 2, FEWEST_ROUNDS, 2 * replicas), MOST_ROUNDS)
    each_ns = left_ns / rounds
    rewarm_ns = 0 if typical_ns > _SLOW_CALL_NS else int(REWARM_SHARE * each_ns)
    return BlockPlan(
        rounds=rounds,
        block_ns=max(int(each_ns - between_ns) - rewarm_ns, int(each_ns / 2)),
        max_block_ns=CAP * int(each_ns),
        min_runs=-(-MIN_SAMPLES // rounds),
        rewarm=WarmupRule(1, rewarm_ns, rewarm_ns),
    )
