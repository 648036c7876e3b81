"""Boxes of objects in pictures, and how far they lie over each other. numpy only."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.data.dataset import Dataset
from edgekit.errors import DataError
from edgekit.types import Array

log = logging.getLogger("edgekit")


@dataclass(frozen=True, slots=True)
class Boxes:
    """The objects of one picture.

    Attributes:
        boxes: float32 (K, 4): left, top, right, bottom in pixels of the upright picture; right and bottom are outside.
        labels: int64 (K,): index of each object's class.
        crowd: bool (K,): boxes around several objects, which count neither as found nor as missed (COCO).
        size: height and width of the picture in pixels; None where only the picture says it.
    """

    boxes: Array
    labels: Array
    crowd: Array
    size: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.labels)


def make_boxes(boxes: Any, labels: Any, crowd: Any = None, size: tuple[int, int] | None = None) -> Boxes:
    """:class:`Boxes` of whatever numpy takes.

    Raises:
        DataError: not four finite numbers a box, not one label a box, or a box without a size.
    """
    try:
        corners = np.asarray(boxes, np.float32)
        classes = np.asarray(labels)
    except (TypeError, ValueError) as error:
        raise DataError(f"boxes are rows of left, top, right, bottom, with a label each: {error}") from error
    if corners.size == 0:
        corners, classes = corners.reshape(0, 4), np.zeros(0, np.int64)
    if corners.ndim != 2 or corners.shape[1] != 4 or classes.shape != corners.shape[:1]:
        raise DataError(
            f"boxes have the shape {corners.shape} and labels {classes.shape}; give (K, 4), left, top, right, bottom "
            "in pixels, and (K,)"
        )
    if classes.dtype.kind not in "iu" or (classes.size and int(classes.min()) < 0):
        raise DataError("labels of boxes are whole numbers from 0 on: the indices of their classes")
    if not np.isfinite(corners).all() or not (corners[:, 2:] > corners[:, :2]).all():
        bad = corners[~(np.isfinite(corners).all(1) & (corners[:, 2:] > corners[:, :2]).all(1))][0]
        raise DataError(
            f"the box {', '.join(f'{v:g}' for v in bad)} has no size; a box is left, top, right, bottom in pixels"
        )
    crowds = np.zeros(len(classes), bool) if crowd is None else np.asarray(crowd, bool).reshape(len(classes))
    return Boxes(corners, classes.astype(np.int64), crowds, size)


def boxes_of(dataset: Dataset, index: int) -> Boxes:
    """The objects of sample ``index``: :class:`Boxes`, or a dict with ``boxes`` and ``labels`` as torchvision has it.

    Raises:
        DataError: the data set has other answers, or a label beyond its classes.
    """
    answer = None if dataset.answers is None else dataset.answers[index]
    if isinstance(answer, Mapping) and {"boxes", "labels"} <= answer.keys():
        try:
            answer = make_boxes(answer["boxes"], answer["labels"], answer.get("iscrowd"))
        except DataError as error:
            raise DataError(f"sample {index} of {dataset.label}: {error}") from error
    if not isinstance(answer, Boxes):
        raise DataError(
            f"{dataset.label} has no boxes; give coco:FILE.json, yolo:DIR, or a function whose targets are "
            '{"boxes": (K, 4), "labels": (K,)}'
        )
    if len(answer) and dataset.classes and int(answer.labels.max()) >= len(dataset.classes):
        raise DataError(
            f"sample {index} of {dataset.label} has the label {int(answer.labels.max())}, and "
            f"{len(dataset.classes)} classes are named"
        )
    return answer


def cut_to_picture(boxes: Array, height: float, width: float) -> tuple[Array, Array]:
    """``boxes`` (K, 4) cut off at the edges of a picture, which leaves those outside without a size, and which of them
    were cut (K,)."""
    edges = np.array([width, height, width, height], np.float64)
    inside = np.clip(boxes, 0, edges)
    return inside, np.abs(inside - boxes).max(axis=1, initial=0) > 1e-3 * edges.max()


@dataclass(frozen=True, slots=True)
class Remarks:
    """How many objects and pictures of a data set are not as one would expect.

    Attributes:
        sizeless: boxes without a size, which are left out.
        cut: boxes that reach out of their picture, which are cut.
        empty: pictures without any box.
    """

    sizeless: int = 0
    cut: int = 0
    empty: int = 0

    def say(self, subject: object, *more: str) -> None:
        """Says in one sentence what there is, and ``more``."""
        found = [
            _counted(self.sizeless, "box without a size is left out", "boxes without a size are left out"),
            _counted(
                self.cut, "box reaches out of its picture and is cut", "boxes reach out of their pictures and are cut"
            ),
            _counted(self.empty, "picture shows no object", "pictures show no object"),
            *more,
        ]
        if any(found):
            log.warning("%s: %s", subject, "; ".join(text for text in found if text))


def _counted(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}" if count else ""


def intersection_over_union(a: Array, b: Array) -> Array:
    """(N, 4) and (M, 4) -> (N, M), each 0..1."""
    corner, end = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(end - corner, 0, None).prod(axis=2)
    areas = [np.clip(one[:, 2:] - one[:, :2], 0, None).prod(axis=1) for one in (a, b)]
    union = areas[0][:, None] + areas[1][None] - shared
    result: Array = shared / np.maximum(union, 1e-12)
    return result


def suppressed(boxes: Array, scores: Array, labels: Array, most: float, keep: int) -> Array:
    """Non-maximum suppression within each class: the indices that stay, the highest score first.

    Args:
        boxes, scores, labels: (N, 4), (N,), (N,).
        most: a box leaves that shares more than this (intersection over union) with a better one of its class.
        keep: how many stay at most.
    """
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while len(order) and len(kept) < keep:
        best = int(order[0])
        kept.append(best)
        rest = order[1:]
        near = intersection_over_union(boxes[best][None], boxes[rest])[0] > most
        order = rest[~(near & (labels[rest] == labels[best]))]
    return np.array(kept, np.int64)
