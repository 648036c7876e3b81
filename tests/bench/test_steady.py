"""The end of a warm-up, on synthetic series where it is known."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.bench.clock import WarmupRule, time_calls
from edgekit.bench.steady import FEWEST, MATTERS, is_steady, pettitt

COUNT = 4000


def series(shape: np.ndarray | float, seed: int, jitter: float = 0.03, outliers: float = 0.03) -> np.ndarray:
    """Around 1 ms times ``shape``, with log-normal jitter and calls that took six times as long."""
    generator = np.random.default_rng(seed)
    values = 1e6 * shape * generator.lognormal(0, jitter, COUNT)
    values[generator.random(COUNT) < outliers] *= 6
    return values.astype(np.int64)


def ends_at(values: np.ndarray, first: int = 64) -> int:
    """Where a warm-up would end: asked first after ``first`` calls, then after each quarter more, as the clock does."""
    count = first
    while count < values.size and not is_steady(values[:count]):
        count += max(count // 4, 1)
    return count


PLACE = np.arange(COUNT)


@pytest.mark.parametrize("jitter", [0.005, 0.03, 0.1])
def test_noise_and_outliers_alone_are_steady_soon(jitter: float) -> None:
    ends = [ends_at(series(1.0, seed, jitter)) for seed in range(40)]
    assert np.median(ends) <= 100  # of 4000; asked at 64, 80, 100
    assert max(ends) <= 1000  # 10% of jitter makes halves of 40 calls differ by more than 2% now and then


@pytest.mark.parametrize("place", [24, 40])
def test_a_step_is_waited_out(place: int) -> None:
    """Before the test may say steady, most calls must lie behind the step: 30% is more than noise."""
    ends = [ends_at(series(np.where(place > PLACE, 1.3, 1.0), seed)) for seed in range(40)]
    assert min(ends) > place + 20


@pytest.mark.parametrize("tau", [50, 100])
def test_a_decay_is_waited_out(tau: int) -> None:
    """50% slower at first, falling with ``tau`` calls: what is left of it when the warm-up ends does not matter."""
    left = [0.5 * np.exp(-ends_at(series(1 + 0.5 * np.exp(-PLACE / tau), seed)) / tau) for seed in range(40)]
    assert np.median(left) < MATTERS
    assert np.mean(np.array(left) > 2.5 * MATTERS) <= 0.1  # few are let through by chance while it still falls


def test_what_keeps_falling_is_never_steady() -> None:
    assert ends_at(series(np.exp(-PLACE / 1000.0), 0, jitter=0.01, outliers=0.0)) >= COUNT


def test_a_small_shift_does_not_matter() -> None:
    assert is_steady(series(np.where(PLACE < 100, 1 + MATTERS / 2, 1.0), 0, jitter=0.001)[:200])


def test_a_shift_late_in_the_series_is_seen_though_the_halves_agree() -> None:
    values = np.full(160, 1e6)
    values[-24:] = 0.8e6  # a fifth of what is looked at; the median of the last half is the level before the shift
    assert abs(np.median(values[40:100]) - np.median(values[100:])) == 0
    assert not is_steady(values)


def test_too_few_calls_say_nothing() -> None:
    assert not is_steady([1_000_000] * (FEWEST - 1))
    assert is_steady([1_000_000] * FEWEST)


def test_pettitt_by_hand() -> None:
    place, chance = pettitt([2.0] * 8 + [1.0] * 8)
    assert place == 8
    assert chance == pytest.approx(2 * np.exp(-6 * 64**2 / (16**3 + 16**2)))  # K = 8 * 8 pairs, all of one sign
    assert pettitt([1.0, 2.0] * 8)[1] > 0.9


def test_a_warm_up_ends_at_its_cap() -> None:
    """A call that gets faster each time is never steady: the cap ends it."""
    spins = iter(range(100_000, 0, -3))
    rule = WarmupRule(min_runs=3, min_ns=0, max_ns=50_000_000)
    block = time_calls(lambda: sum(range(next(spins) // 10)), warmup=rule, min_runs=1, min_ns=0, max_ns=1)
    assert block.warmup_ns.sum() <= 60_000_000  # the cap, and the call that was running
    assert block.samples_ns.size == 1
