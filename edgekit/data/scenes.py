"""Pictures with several handwritten digits on textured canvases, made from scikit-learn's digits: no download.

Where each digit lies is known exactly, so one generator serves detection (boxes) and segmentation (masks).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from edgekit.data.dataset import Dataset
from edgekit.data.embedded import open_digits
from edgekit.types import Array

SIZE = 64
"""Height and width of a canvas in pixels."""
COUNTS = {"train": 3000, "test": 500}
"""Pictures in each split. The digits of ``test`` are drawn from handwriting that no picture of ``train`` shows."""
_DIGIT_PX = (18, 28)
_MOST_DIGITS = 3
_STROKE = 0.4
"""Darkness from which a pixel of the enlarged digit is ink."""
_MARGIN = 1
_CONTRAST = 90.0
"""Least difference of mean brightness between a digit and its canvas, of 255."""
_SEEDS = {"train": 20, "test": 21}


@dataclass(frozen=True, slots=True)
class Scenes:
    """The pictures of one split.

    Attributes:
        images: uint8 (N, 64, 64, 3).
        masks: uint8 (N, 64, 64): 0 for the canvas, 1 + the digit where a digit is.
        boxes: float32 (K, 4) of each picture: left, top, right, bottom of each digit's pixels; the right and the
            bottom edge are outside.
        labels: int64 (K,) of each picture: the digits.
    """

    images: Array
    masks: Array
    boxes: tuple[Array, ...]
    labels: tuple[Array, ...]


@functools.cache
def scenes(split: str) -> Scenes:
    """The pictures of ``split``: train, test or all (train, then test); seeded, the same on every machine
    but for the rounding of a pixel.

    Raises:
        RuntimeMissingError: scikit-learn is not installed.
    """
    if split == "all":
        train, test = scenes("train"), scenes("test")
        return Scenes(
            np.concatenate([train.images, test.images]),
            np.concatenate([train.masks, test.masks]),
            train.boxes + test.boxes,
            train.labels + test.labels,
        )
    digits = open_digits("digits", split)
    assert isinstance(digits.arrays["image"], np.ndarray) and digits.labels is not None
    glyphs, answers = digits.arrays["image"][..., 0].astype(np.float64) / 255, digits.labels
    draw = _Draw(_SEEDS[split])
    images, masks, boxes, labels = [], [], [], []
    for _ in range(COUNTS[split]):
        image, mask = _canvas(draw), np.zeros((SIZE, SIZE), np.uint8)
        placed: list[tuple[int, int, int, int]] = []
        shown: list[int] = []
        for _ in range(1 + draw.integer(_MOST_DIGITS)):
            which, side = draw.integer(len(glyphs)), _DIGIT_PX[0] + draw.integer(_DIGIT_PX[1] - _DIGIT_PX[0] + 1)
            shape = _enlarged(glyphs[which], side) > _STROKE
            rows, columns = np.flatnonzero(shape.any(1)), np.flatnonzero(shape.any(0))
            shape = shape[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            height, width = shape.shape
            top, left = draw.integer(SIZE - height + 1), draw.integer(SIZE - width + 1)
            box = (left, top, left + width, top + height)
            if any(_touch(box, other) for other in placed):
                continue
            part = image[top : top + height, left : left + width]
            part[shape] = _ink(draw, part[shape].mean()) + 24 * (draw.numbers(int(shape.sum()), 1) - 0.5)
            mask[top : top + height, left : left + width][shape] = 1 + answers[which]
            placed.append(box)
            shown.append(int(answers[which]))
        images.append(np.clip(np.rint(image), 0, 255).astype(np.uint8))
        masks.append(mask)
        boxes.append(np.array(placed, np.float32))
        labels.append(np.array(shown, np.int64))
    return Scenes(np.stack(images), np.stack(masks), tuple(boxes), tuple(labels))


def open_digit_masks(name: str, split: str) -> Dataset:
    """``digit-masks``: the pictures with the class of each pixel, ``background`` or the digit."""
    made = scenes(split)
    classes = ("background", *map(str, range(10)))
    return Dataset(name, split, "image", {"image": made.images}, classes=classes, answers=list(made.masks))


class _Draw:
    """Uniform numbers from the raw bits of PCG64, whose sequence numpy guarantees; its distributions may change."""

    def __init__(self, seed: int) -> None:
        self._bits = np.random.PCG64(seed)

    def numbers(self, *shape: int) -> Array:
        """float64 in [0, 1)."""
        raw = np.asarray(self._bits.random_raw(int(np.prod(shape))), np.uint64)
        return ((raw >> np.uint64(11)).astype(np.float64) * 2.0**-53).reshape(shape)

    def integer(self, below: int) -> int:
        return int(self.numbers(1)[0] * below)


def _canvas(draw: _Draw) -> Array:
    """A texture, float64 (64, 64, 3): a colour that changes slowly, stripes, and grain."""
    corners = 40 + 175 * draw.numbers(1, 1, 3) + 70 * (draw.numbers(4, 4, 3) - 0.5)
    slow = np.stack([_enlarged(corners[..., channel], SIZE) for channel in range(3)], -1)
    angle, pitch, phase = np.pi * draw.integer(12) / 12, 4 + 12 * draw.numbers(1)[0], draw.numbers(1)[0]
    row, column = np.mgrid[0:SIZE, 0:SIZE]
    wave = np.sin(2 * np.pi * ((row * np.sin(angle) + column * np.cos(angle)) / pitch + phase))
    texture: Array = slow + 18 * draw.numbers(1)[0] * wave[..., None] + 24 * (draw.numbers(SIZE, SIZE, 1) - 0.5)
    return texture


def _ink(draw: _Draw, behind: float) -> Array:
    """A colour, float64 (3,), well apart in brightness from what is ``behind``."""
    while True:
        colour = 255 * draw.numbers(3)
        if abs(colour.mean() - behind) >= _CONTRAST:
            return colour


def _enlarged(image: Array, side: int) -> Array:
    """``image`` (h, w) at ``side`` x ``side``, bilinear, edges aligned as in Pillow."""
    matrix = [_weights(length, side) for length in image.shape]
    result: Array = matrix[0] @ image @ matrix[1].T
    return result


@functools.cache
def _weights(length: int, side: int) -> Array:
    at = np.clip((np.arange(side) + 0.5) * length / side - 0.5, 0, length - 1)
    weights: Array = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(length)))
    return weights


def _touch(box: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    gap = _MARGIN
    return box[0] - gap < other[2] and other[0] - gap < box[2] and box[1] - gap < other[3] and other[1] - gap < box[3]
