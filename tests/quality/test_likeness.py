"""The relative error by which files are compared where nobody says what is right."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgekit.quality.likeness import allowed_loss, relative_error

VALUES = np.random.default_rng(0).standard_normal((200, 7)).astype(np.float32)


@pytest.mark.parametrize(
    ("wanted", "found", "error"),
    [
        (VALUES, VALUES, 0.0),
        (VALUES, VALUES * 1.1, 0.1),
        (VALUES, -VALUES, 2.0),
        (VALUES, VALUES[:, :6], math.inf),
        (np.zeros(3, np.float32), np.zeros(3, np.float32), 0.0),
        (np.zeros(3, np.float32), np.ones(3, np.float32), math.inf),
        (VALUES, np.full_like(VALUES, np.inf), math.inf),
        (np.array([1, 2, 3, 4]), np.array([1, 2, 3, 5]), 0.25),
    ],
)
def test_relative_error(wanted: np.ndarray, found: np.ndarray, error: float) -> None:
    assert relative_error(wanted, found) == pytest.approx(error, rel=1e-5)  # float32 values


def test_decibels() -> None:
    assert allowed_loss(20) == pytest.approx(0.1) and allowed_loss(40) == pytest.approx(0.01)
