"""What a segmenter said of one picture of ``run``: the classes and their shares of its pixels, drawn into it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgekit.data.draw_mask import OUTSIDE, in_picture, painted
from edgekit.data.images import SUFFIXES, decode
from edgekit.data.pixel_classes import score_map
from edgekit.errors import DataError
from edgekit.results.inspect import PixelShare
from edgekit.types import Array, Card, InputSpec, Signature

BACKGROUND = ("background", "_background_", "unlabeled", "void")
"""Names of a class that is not drawn."""


def class_map(outputs: Mapping[str, Array], signature: Signature, card: Card) -> Array:
    """The class of each pixel of the first sample, int64 (height, width) of the scores.

    Raises:
        UnsupportedError: no output has scores a pixel.
    """
    spec, axis, _ = score_map(signature, len(card.task.labels))
    scores = outputs[spec.name]
    found = (scores > 0).squeeze(axis) if scores.shape[axis] == 1 else scores.argmax(axis)
    first: Array = found[0].astype(np.int64)
    return first


def shares(classes: Array, card: Card) -> tuple[PixelShare, ...]:
    """The classes that occur, the one with most pixels first."""
    index, counts = np.unique(classes[classes != OUTSIDE], return_counts=True)
    labels = card.task.labels
    rows = [
        PixelShare(labels[k] if k < len(labels) else str(k), count / max(int(counts.sum()), 1))
        for k, count in zip(index.tolist(), counts.tolist(), strict=True)
    ]
    return tuple(sorted(rows, key=lambda one: -one.share))


def picture_with_mask(name: str, classes: Array, card: Card) -> bytes:
    """A PNG of the picture ``name``, at its own size, with ``classes`` of the model's input drawn into it.

    Raises:
        DataError: it is not an image file.
    """
    if Path(name).suffix.lower() not in SUFFIXES:
        raise DataError(f"{name} is not an image file, so that a mask cannot be drawn into it; write -o OUT.npz")
    picture = decode(Path(name))
    rule = next((one for one in card.contract.values() if one.kind == "image"), InputSpec("image"))
    height, width = picture.shape[:2]
    labels = card.task.labels
    clear = next((k for k, label in enumerate(labels) if label.lower() in BACKGROUND), None if labels else 0)
    return painted(picture, in_picture(classes, (height, width), rule), clear)
