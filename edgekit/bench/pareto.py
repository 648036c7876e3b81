"""Which of several points, all of whose figures are to be small, are not beaten by another in every respect."""

from __future__ import annotations

from collections.abc import Sequence

Point = Sequence[float]
"""Figures that are all to be small."""


def dominates(one: Point, other: Point) -> bool:
    """Whether ``one`` is nowhere worse than ``other``, and somewhere better."""
    return all(a <= b for a, b in zip(one, other, strict=True)) and any(a < b for a, b in zip(one, other, strict=True))


def nondominated(points: Sequence[Point]) -> list[int]:
    """Indices of the points that no other dominates; of equal ones the first."""
    kept: list[int] = []
    for k, point in enumerate(points):
        if any(dominates(other, point) for other in points) or any(tuple(points[j]) == tuple(point) for j in kept):
            continue
        kept.append(k)
    return kept
