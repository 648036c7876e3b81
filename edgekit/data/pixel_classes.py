"""Scores of classes, one a pixel: which output of a model has them, and along which axis."""

from __future__ import annotations

from edgekit.errors import UnsupportedError
from edgekit.types import Signature, TensorSpec

IGNORED = 255
"""The index of pixels in a mask that count nowhere."""


def score_map(signature: Signature, labels: int) -> tuple[TensorSpec, int, int]:
    """The output with scores a pixel, the axis of its classes (1 or 3), and their number, 2 for a single score.

    Args:
        labels: classes that the card names; 0 where it names none.

    Raises:
        UnsupportedError: no output has four axes.
    """
    for spec in signature.outputs:
        if len(spec.shape) != 4:
            continue
        sizes = [spec.shape[1], spec.shape[3]]
        known = [size for size in sizes if isinstance(size, int)]
        axis = 1 if sizes[0] == labels else 3 if sizes[1] == labels else 1 if sizes[0] == min(known, default=0) else 3
        size = spec.shape[axis]
        if isinstance(size, int):
            return spec, axis, max(size, 2)
    listed = ", ".join(map(str, signature.outputs))
    raise UnsupportedError(f"segmentation needs an output of 4 axes with one score a class and pixel; it has: {listed}")
