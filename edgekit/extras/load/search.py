"""The highest rate that a latency bound allows, found by trials: noise makes each trial a guess, not a fact."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

STEPS = 8
"""Halvings of the range between a rate that passed and one that did not: to within 1 part in 256 of its logarithm."""
LEAST_SHARE = 1e-4
"""Rates below this share of the model's own throughput are not looked at."""


@dataclass(frozen=True, slots=True)
class RateTrial:
    """One rate that was tried: queries a second, whether the bound held, and the latency that it was held against."""

    rate: float
    passed: bool
    latency_ms: float | None


def highest_rate(attempt: Callable[[float], RateTrial], capacity: float, steps: int = STEPS) -> list[RateTrial]:
    """Trials from the first to the last; the highest rate of those that passed is what was found, if any.

    ``capacity``: queries a second the model serves when it never waits; above it every line grows without end, so the
    search starts just below. Bisection of the logarithm of the rate, between what passed and what did not.
    """
    trials = [attempt(0.95 * capacity)]
    if trials[-1].passed:
        return trials
    low, high = math.log(LEAST_SHARE * capacity), math.log(0.95 * capacity)
    known_low = False
    for _ in range(steps):
        # until something passed, halve the rate (a third of the capacity is where most bounds lie); then bisect
        middle = (low + high) / 2 if known_low else high - math.log(2)
        if middle <= low:
            break
        trial = attempt(math.exp(middle))
        trials.append(trial)
        if trial.passed:
            low, known_low = middle, True
        else:
            high = middle
    return trials


def best(trials: list[RateTrial]) -> RateTrial | None:
    """The fastest trial that passed."""
    return max((trial for trial in trials if trial.passed), key=lambda trial: trial.rate, default=None)
