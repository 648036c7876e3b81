"""Curves beside scikit-learn's, on scores many of which are equal, as those of quantized files are."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve, roc_curve

from edgekit.quality import curves
from edgekit.quality.matches import RECALLS, Matches


@pytest.fixture
def scored() -> tuple[np.ndarray, np.ndarray]:
    """Scores in steps of a sixteenth, and what is right, which they follow (300,)."""
    rng = np.random.default_rng(0)
    positive = rng.random(300) < 0.3
    return np.round((positive * 0.4 + rng.random(300)) * 16) / 16, positive


def test_precision_at_every_recall_or_beyond(scored: tuple[np.ndarray, np.ndarray]) -> None:
    scores, positive = scored
    precision, recall, _ = precision_recall_curve(positive, scores)
    (curve,) = curves.precision_recall(["a"], scores[:, None], positive[:, None].astype(int))
    assert (curve.kind, curve.name) == ("precision-recall", "a")
    for at, found in curve.points:
        # rounded to four digits, as the recalls are; sklearn's last point is no threshold
        assert found == pytest.approx(precision[:-1][recall[:-1] >= at - 1e-9].max(), abs=1e-4)


def test_no_curve_of_a_class_without_samples_or_of_too_many(scored: tuple[np.ndarray, np.ndarray]) -> None:
    scores, positive = scored
    both = np.stack([positive, np.zeros(300)], axis=1)
    assert [one.name for one in curves.precision_recall(["a", "b"], np.stack([scores, scores], 1), both)] == ["a"]
    many = np.ones((3, curves.MOST + 1))
    assert curves.precision_recall([str(k) for k in range(21)], many, many) == ()


def test_roc(scored: tuple[np.ndarray, np.ndarray]) -> None:
    scores, positive = scored
    false, right, _ = roc_curve(positive, scores, drop_intermediate=False)
    curve = curves.roc("a", scores, positive)
    assert set(curve.points) <= set(zip(false.tolist(), right.tolist(), strict=True))
    assert curve.points[0] == (0.0, 0.0) and curve.points[-1] == (1.0, 1.0)
    assert len(curve.points) <= len(RECALLS) + 1


def test_boxes() -> None:
    """The mean of a class's curve is its average precision at half an overlap; a class without boxes has none."""
    rng = np.random.default_rng(1)
    rows = np.stack([rng.integers(0, 5, 40), np.zeros(40, int), rng.integers(0, 2, 40), np.zeros(40, int)], axis=1)
    matches = Matches(np.array([[6, 0]] * 5), rows)
    (curve,) = curves.of_matches(["a", "b"], matches)
    assert np.mean([y for _, y in curve.points]) == pytest.approx(
        matches.at_first_overlap().average_precision(np.ones(5))[0, 0],
        abs=1e-4,  # points have four digits
    )
