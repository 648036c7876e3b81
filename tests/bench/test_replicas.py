"""Mean and interval over worker processes, by hand and where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.bench.replicas import replicated, t975, trimmed_mean, turns
from edgekit.bench.variance import RunVariance


def test_trimmed_mean_by_hand() -> None:
    centre, half = trimmed_mean(np.array([100.0, 1.0, 2.0, 3.0, -50.0]))  # one cut at each end
    assert centre == pytest.approx(2.0)
    winsorized_deviation = np.sqrt((1 + 1 + 0 + 1 + 1) / 4)  # 1, 1, 2, 3, 3 around 2
    assert half == pytest.approx(4.303 * winsorized_deviation / (0.6 * np.sqrt(5)))


def test_trimmed_mean_of_one_has_no_interval() -> None:
    assert trimmed_mean(np.array([5.0])) == (5.0, float("inf"))


def test_student_points() -> None:
    assert t975(1) == 12.706
    assert t975(30) == 2.042
    assert t975(40) == pytest.approx(2.021, abs=0.001)  # the tables print three decimals
    assert t975(120) == pytest.approx(1.980, abs=0.001)
    assert t975(0) == float("inf")


def test_turns_are_pairs_of_rounds() -> None:
    assert turns(9, 2) == [0, 0, 1, 1, 0, 0, 1, 1, 0]


def test_student_points_between_whole_degrees() -> None:
    assert 3.558 <= t975(2.5) <= 3.558 * 1.03  # scipy: 3.5579; on the wide side of a curve
    assert t975(30.5) < t975(30)


def test_replicated_by_hand() -> None:
    """Two workers, two rounds each: means 1 and 3; the expectation counts for as much as two workers."""
    found = replicated(np.array([0.9, 1.1, 2.9, 3.1]), turns(4, 2), RunVariance(process=0.5, weight=2.0))
    within = 0.02 / 2
    variance = (2 * (0.5**2 + within) + 1 * 2.0) / 3
    assert found.centre == pytest.approx(2.0)
    assert found.error == pytest.approx(np.sqrt(variance / 2))
    assert found.half == pytest.approx(3.182 * found.error)


def test_a_worker_more_after_an_interruption_is_a_worker_more() -> None:
    values = np.array([1.0, 1.0, 2.0, 2.0, 3.0, 3.0])
    one = replicated(values, ["0.0"] * 2 + ["0.1"] * 2 + ["1.0"] * 2, RunVariance(process=0.01))
    assert one.centre == pytest.approx(2.0)
    assert one.error == pytest.approx(np.sqrt((2 * 0.01**2 + 2 * 1.0) / 4 / 3))


def test_one_worker_has_what_is_expected_alone() -> None:
    found = replicated(np.zeros(8), [0] * 8, RunVariance(process=0.01), factor=2.0)
    assert found.half == pytest.approx(1.96 * 0.02)
