from __future__ import annotations

from collections import Counter

import pytest

from edgekit.bench.schedule import CAP, FEWEST_ROUNDS, MIN_SAMPLES, MOST_ROUNDS, first_warmup, orders, plan


@pytest.mark.parametrize("cells", [1, 2, 3, 7])
def test_every_round_has_every_cell_once(cells: int) -> None:
    for order in orders(cells, 12, seed=1):
        assert sorted(order) == list(range(cells))


def test_pairs_of_rounds_mirror_each_other() -> None:
    rounds = orders(4, 20, seed=5)
    for first, second in zip(rounds[::2], rounds[1::2], strict=True):
        assert second == first[::-1]


def test_each_cell_stands_on_average_in_the_middle() -> None:
    rounds = orders(5, 40, seed=2)
    for cell in range(5):
        assert sum(order.index(cell) for order in rounds) / len(rounds) == 2.0


def test_who_goes_first_is_drawn_and_recorded_by_the_seed() -> None:
    rounds = orders(2, 60, seed=0)
    first = Counter(order[0] for order in rounds[::2])
    assert min(first.values()) >= 5  # 30 fair draws: fewer than 5 of one kind has a chance of 1 in 16,000
    assert rounds == orders(2, 60, seed=0)
    assert rounds != orders(2, 60, seed=1)
    assert orders(3, 4, seed=0) == [[0, 2, 1], [1, 2, 0], [2, 1, 0], [0, 1, 2]]  # the same on every Python


@pytest.mark.parametrize("seconds", [0.05, 0.3, 3.0, 60.0])
@pytest.mark.parametrize("typical_ns", [1e4, 1e6, 1e8, 3e9])
def test_plans_keep_time_and_count(seconds: float, typical_ns: float) -> None:
    made = plan(seconds, typical_ns, warmup_ns=0.1 * seconds * 1e9)
    assert FEWEST_ROUNDS <= made.rounds <= MOST_ROUNDS
    assert made.rounds % 2 == 0
    assert made.rounds * made.min_runs >= MIN_SAMPLES
    assert made.rounds * (made.block_ns + made.rewarm.max_ns) <= seconds * 1e9
    assert made.rounds * made.max_block_ns <= CAP * seconds * 1e9


def test_warmup_may_not_eat_the_time() -> None:
    assert first_warmup(0.3).max_ns <= 0.3e9 / 4
    assert first_warmup(100).max_ns == 10**9
    late = plan(1.0, 1e6, warmup_ns=5e9)  # a warm-up far beyond its share still leaves something to measure
    assert late.block_ns > 0
