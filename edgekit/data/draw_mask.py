"""The classes that a segmenter gave the pixels of its input, in the pixels of the picture, and drawn into it."""

from __future__ import annotations

import numpy as np

from edgekit.data import png
from edgekit.data.pixels import placement
from edgekit.types import Array, InputSpec

OUTSIDE = -1
"""Class of the pixels that the model was not shown, where the centre of a picture is cut out."""
_COLORS = (
    (230, 25, 75), (60, 180, 75), (255, 225, 25), (67, 99, 216), (245, 130, 49), (145, 30, 180), (70, 240, 240),
    (240, 50, 230), (188, 246, 12), (0, 128, 128), (154, 99, 36), (128, 0, 0), (0, 0, 117), (128, 128, 0),
)  # fmt: skip
"""One a class, again from the first after the last."""
_OPACITY = 0.6


def in_picture(mask: Array, picture: tuple[int, int], contract: InputSpec) -> Array:
    """The class of each pixel of a picture with ``picture`` (height, width), by the nearest pixel of ``mask`` (h, w),
    which covers the model's input; :data:`OUTSIDE` where the model was shown nothing."""
    size = contract.size or picture
    place = placement(picture, size, contract.params)
    rows = _nearest(picture[0], place.height, place.top, size[0], mask.shape[0])
    columns = _nearest(picture[1], place.width, place.left, size[1], mask.shape[1])
    whole = np.full(picture, OUTSIDE, np.int64)
    shown = np.ix_(rows >= 0, columns >= 0)
    whole[shown] = mask[np.ix_(rows[rows >= 0], columns[columns >= 0])]
    return whole


def _nearest(length: int, resized: int, start: int, size: int, cells: int) -> Array:
    """Index of the cell of the mask under each of ``length`` pixels; -1 where there is none."""
    place = (np.arange(length) + 0.5) * resized / length + start  # in pixels of the input
    index = np.floor(place * cells / size).astype(np.int64)
    return np.where((place >= 0) & (place < size), index.clip(0, cells - 1), -1)


def painted(picture: Array, classes: Array, clear: int | None) -> bytes:
    """A PNG of ``picture`` in which every pixel has the colour of its class over its own.

    Args:
        picture: uint8 (height, width, 1 or 3).
        classes: int (height, width).
        clear: the class that leaves pixels as they are (background), if there is one.
    """
    over = np.array(_COLORS, np.float64)[(classes - (clear == 0)) % len(_COLORS)]
    below = np.broadcast_to(picture, (*picture.shape[:2], 3)).astype(np.float64)
    drawn = (classes != OUTSIDE) & (classes != (OUTSIDE if clear is None else clear))
    mixed = np.where(drawn[..., None], _OPACITY * over + (1 - _OPACITY) * below, below)
    return png.encode(np.rint(mixed).astype(np.uint8))
