"""``digit-scenes``: pictures with several digits and a box around each, made here (:mod:`edgekit.data.scenes`)."""

from __future__ import annotations

from edgekit.data.boxes import make_boxes
from edgekit.data.dataset import Dataset
from edgekit.data.scenes import SIZE, scenes


def open_digit_scenes(name: str, split: str) -> Dataset:
    """3,000 pictures to train on and 500 to test with, 64x64 in colours, one to three digits in each, ten classes."""
    made = scenes(split)
    answers = [make_boxes(*pair, size=(SIZE, SIZE)) for pair in zip(made.boxes, made.labels, strict=True)]
    classes = tuple(map(str, range(10)))
    return Dataset(name, split, "image", {"image": made.images}, classes=classes, answers=answers)
