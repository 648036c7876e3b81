from __future__ import annotations

import numpy as np
import pytest

from edgekit.extras.drift import change_point


def series(seed: int, *levels: tuple[int, float]) -> np.ndarray:
    """Windows around the given levels, 1% noise, every tenth window interrupted."""
    generator = np.random.default_rng(seed)
    values = np.concatenate([np.full(count, level) for count, level in levels])
    values = values * generator.normal(1, 0.01, values.size)
    values[::10] *= generator.uniform(1, 3, values[::10].size)
    return values


def test_the_time_a_throttled_model_became_slower() -> None:
    found = change_point(series(0, (25, 1.0), (35, 1.4)))
    assert found is not None and found.real
    assert found.index == pytest.approx(25, abs=2)
    assert found.ratio == pytest.approx(1.4, rel=0.03)


def test_steady_models_are_not_called_throttled() -> None:
    """At 1% significance of 100 steady series about one is called so; more than four would be 3 in 1,000."""
    called = [change_point(series(seed, (60, 1.0)), seed) for seed in range(100)]
    assert sum(found is not None and found.real for found in called) <= 4


def test_a_change_too_small_to_matter_is_not_throttling() -> None:
    found = change_point(series(3, (200, 1.0), (200, 1.02)))
    assert found is not None
    assert found.p < 0.01
    assert not found.real


def test_few_windows_say_nothing() -> None:
    assert change_point(np.ones(9)) is None
    flat = change_point(np.ones(30))
    assert flat is not None and not flat.real
