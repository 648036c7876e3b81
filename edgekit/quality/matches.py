"""Which found boxes are right, by pycocotools, and average precision of any weighting of the pictures.

The weights are what a bootstrap needs: a picture that was drawn twice weighs 2. With all weights 1 the figures are
pycocotools' own (a test compares).
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.data.boxes import Boxes
from edgekit.quality.detections import MOST, Detections
from edgekit.types import Array

OVERLAPS = np.linspace(0.5, 0.95, 10)
"""Intersection over union from which a box counts as found."""
RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True, slots=True)
class Matches:
    """The boxes that were found, and how many there are to find.

    Attributes:
        counts: int64 (pictures, classes): boxes to find.
        rows: int64 (found, 2 + overlaps): picture, class, and for each overlap 1 (right), 0 (wrong) or -1 (counts
            neither way), by falling score within a class.
    """

    counts: Array
    rows: Array

    def at_first_overlap(self) -> Matches:
        """As if .5 were the only overlap."""
        return Matches(self.counts, self.rows[:, :3])

    def average_precision(self, weights: Array) -> Array:
        """Average precision, float64 (overlaps, classes), of pictures that weigh ``weights`` (pictures,); NaN for
        classes without boxes. Interpolated at 101 recalls, as COCO does."""
        found = np.full((self.rows.shape[1] - 2, self.counts.shape[1]), np.nan)
        for label in np.flatnonzero(weights @ self.counts > 0):
            found[:, label] = self.precision(weights, int(label)).sum(1) / len(RECALLS)
        return found

    def precision(self, weights: Array, label: int) -> Array:
        """The best precision at each of 101 recalls or beyond, float64 (overlaps, 101), of one class that has boxes; 0
        for recalls that are not reached."""
        total = weights @ self.counts[:, label]
        rows = self.rows[self.rows[:, 1] == label]
        share = weights[rows[:, 0]][:, None]
        right, wrong = np.cumsum(share * (rows[:, 2:] == 1), 0), np.cumsum(share * (rows[:, 2:] == 0), 0)
        precision = right / np.maximum(right + wrong, np.spacing(1.0))
        precision = np.maximum.accumulate(precision[::-1], 0)[::-1]
        found = np.zeros((self.rows.shape[1] - 2, len(RECALLS)))
        for k in range(found.shape[0]):
            places = np.searchsorted(right[:, k] / total, RECALLS, side="left")
            reached = places < len(rows)
            found[k, reached] = precision[places[reached], k]
        return found

    def mean(self, weights: Array) -> float:
        """Mean over overlaps and classes."""
        return float(np.nanmean(self.average_precision(weights)))


def match(wanted: Sequence[Boxes], found: Sequence[Detections], classes: int) -> Matches:
    """The verdict on each found box, as pycocotools gives it: at most 100 a picture, the best first."""
    evaluated = evaluate(wanted, found, classes)
    counts = np.zeros((len(wanted), classes), np.int64)
    rows = []
    for one in evaluated.evalImgs[: len(wanted) * classes]:  # areas: the first is of all sizes
        if one is None:
            continue
        picture, label = one["image_id"] - 1, one["category_id"] - 1
        counts[picture, label] = int((np.asarray(one["gtIgnore"]) == 0).sum())
        matched, ignored = np.asarray(one["dtMatches"]) > 0, np.asarray(one["dtIgnore"]) > 0
        verdict = np.where(ignored, -1, matched.astype(np.int64)).T  # (found, overlaps)
        for score, line in zip(one["dtScores"], verdict, strict=True):
            rows.append((label, -score, picture, *line.tolist()))
    rows.sort(key=lambda row: row[:2])
    kept = [(picture, label, *verdict) for label, _, picture, *verdict in rows]
    return Matches(counts, np.array(kept, np.int64).reshape(-1, 2 + len(OVERLAPS)))


def evaluate(wanted: Sequence[Boxes], found: Sequence[Detections], classes: int) -> Any:
    """pycocotools' COCOeval of the pictures, its matches made, over boxes of all sizes.

    Numbers of pictures, classes and boxes begin with 1: a match with the box 0 would count as none.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    boxes: list[dict[str, Any]] = [
        {"image_id": k + 1, "category_id": int(label) + 1, "bbox": _width_height(box), "iscrowd": int(crowd)}
        for k, one in enumerate(wanted)
        for box, label, crowd in zip(one.boxes, one.labels, one.crowd, strict=True)
    ]
    answers: list[dict[str, Any]] = [
        {"image_id": k + 1, "category_id": int(label) + 1, "bbox": _width_height(box), "score": float(score)}
        for k, one in enumerate(found)
        for box, label, score in zip(one.boxes, one.labels, one.scores, strict=True)
    ]
    frame = {
        "images": [{"id": k + 1} for k in range(len(wanted))],
        "categories": [{"id": k + 1, "name": str(k)} for k in range(classes)],
    }
    sides = []
    with contextlib.redirect_stdout(io.StringIO()):  # it prints how long it took
        for rows in (boxes, answers):
            side = COCO()
            numbered = [
                {"iscrowd": 0, **row, "id": number, "area": row["bbox"][2] * row["bbox"][3]}
                for number, row in enumerate(rows, 1)
            ]
            side.dataset = {**frame, "annotations": numbered}
            side.createIndex()
            sides.append(side)
        evaluated = COCOeval(*sides, "bbox")
        evaluated.params.maxDets = [1, 10, MOST]
        evaluated.params.areaRng, evaluated.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluated.evaluate()
    return evaluated


def _width_height(box: Array) -> list[float]:
    left, top, right, bottom = map(float, box)
    return [left, top, right - left, bottom - top]
