"""The outputs of a detector as boxes with scores in the picture, by what its card says of them.

A detector gives boxes of candidates and, for each, scores of all classes (in one tensor or in two), or it has already
left out the overlapping ones and gives a score and a class a box. What the shapes do not say, the card does
(:class:`~edgekit.taskfields.DetectionFields`); nothing is guessed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgekit.data.boxes import suppressed
from edgekit.data.pixels import Placement, placement
from edgekit.errors import ModelError, UnsupportedError
from edgekit.taskfields import CENTRED, DetectionFields, detection_fields
from edgekit.types import Array, Card, InputSpec, Signature, TensorSpec

log = logging.getLogger("edgekit")
MOST = 100
"""Boxes of one picture that count, as in COCO's figure."""
_CANDIDATES = 1000
"""Boxes that overlapping ones are left out of: those with the highest scores."""
LEAST = 0.01
"""Scores below do not count: they cannot move average precision by more than the fourth digit."""
_SCORES, _CLASSES = ("score", "conf", "prob"), ("class", "label", "categor")
"""What outputs are called that hold scores or classes."""


@dataclass(frozen=True, slots=True)
class Detections:
    """What was found in one picture, the highest score first.

    Attributes:
        boxes: float64 (K, 4): left, top, right, bottom in pixels of the picture, cut off at its edges.
        scores: float64 (K,), 0 to 1.
        labels: int64 (K,): index of each class.
    """

    boxes: Array
    scores: Array
    labels: Array

    def __len__(self) -> int:
        return len(self.labels)

    def above(self, threshold: float) -> Detections:
        """Those with a score of ``threshold`` or more."""
        kept = self.scores >= threshold
        return Detections(self.boxes[kept], self.scores[kept], self.labels[kept])


@dataclass(frozen=True, slots=True)
class _Tensors:
    """Names of the outputs. Of an only tensor ``rows`` says what follows the box in each (``scores``, ``objectness`` or
    ``class``)."""

    boxes: str
    scores: str = ""
    classes: str = ""
    count: str = ""
    rows: str = ""


@dataclass(frozen=True, slots=True)
class DetectionReader:
    """Reads the outputs of one detector.

    Attributes:
        fields: what the card says.
        tensors: which output is what.
        classes: number of classes.
        rule: how a picture becomes the input; None where the outputs belong to arrays that are fed as they are.
    """

    fields: DetectionFields
    tensors: _Tensors
    classes: int
    rule: InputSpec | None

    @classmethod
    def of(cls, signature: Signature, card: Card | None) -> DetectionReader:
        """The reader of a model's outputs.

        Raises:
            UnsupportedError: the card does not say what they mean, or its words do not fit the outputs.
        """
        params = card.task.params if card is not None else {}
        fields = detection_fields(params, UnsupportedError, "the model's task is detection")
        labels = len(card.task.labels) if card is not None else 0
        contract = card.contract if card is not None else {}
        rule = next((one for one in contract.values() if one.kind == "image"), None)
        if not labels:
            raise UnsupportedError(
                "the classes of a detector have to be named, since they tell its scores from its boxes; give labels in "
                "an io.toml, or --labels FILE"
            )
        return cls(fields, _tensors(signature, fields, labels), labels, rule)

    def read(
        self,
        outputs: Mapping[str, Array],
        row: int,
        picture: tuple[int, int],
        size: tuple[int, int],
        *,
        best_class: bool = False,
    ) -> Detections:
        """What was found in one picture.

        Args:
            outputs: of one run.
            row: of the picture in the batch.
            picture: its height and width in pixels.
            size: height and width of the input as it was fed.
            best_class: a candidate stands for its best class alone, as people want to see it; average precision takes
                all classes of each.

        Raises:
            ModelError: NaN, scores that are not 0 to 1, or outputs of shapes that do not fit each other.
        """
        boxes, scores, labels = self._candidates(outputs, row, best_class)
        if self.fields.normalized:
            boxes = boxes * np.array([size[1], size[0], size[1], size[0]])
        place = Placement(*picture) if self.rule is None else placement(picture, size, self.rule.params)
        kept = np.flatnonzero(scores >= LEAST)
        kept = kept[np.argsort(-scores[kept], kind="stable")][:_CANDIDATES]
        boxes, scores, labels = boxes[kept], scores[kept], labels[kept]
        kept = np.arange(min(len(scores), MOST))
        if self.suppresses:
            kept = suppressed(boxes, scores, labels, self.fields.iou_threshold, MOST)
        edges = np.array([picture[1], picture[0], picture[1], picture[0]], np.float64)
        found = np.clip(place.to_picture(boxes[kept], picture), 0, edges)
        sized = (found[:, 2:] > found[:, :2]).all(axis=1)
        return Detections(found[sized], scores[kept][sized], labels[kept][sized])

    @property
    def suppresses(self) -> bool:
        """Whether overlapping boxes are left out here."""
        if self.fields.nms is not None:
            return self.fields.nms
        return not self.tensors.classes and self.tensors.rows != "class"

    def _candidates(self, outputs: Mapping[str, Array], row: int, best: bool) -> tuple[Array, Array, Array]:
        """Boxes (N, 4): left, top, right, bottom; scores (N,); labels (N,): a row a candidate and class."""
        raw = _row(outputs, self.tensors.boxes, row, 2)
        if self.tensors.rows:
            width = row_widths(self.fields, self.classes)[self.tensors.rows]
            table = _upright(raw, width, self.tensors.boxes)
            boxes, rest = table[:, :4], table[:, 4:]
            if self.tensors.rows == "class":
                return self._known(boxes, rest[:, 0], rest[:, 1], len(boxes))
            objectness = rest[:, :1] if self.tensors.rows == "objectness" else None
            return self._of_every_class(boxes, rest if objectness is None else rest[:, 1:], objectness, best)
        boxes = _upright(raw, 4, self.tensors.boxes)
        if not self.tensors.classes:
            scores = _row(outputs, self.tensors.scores, row, 2)
            return self._of_every_class(boxes, _beside(scores, len(boxes), self.tensors.scores), None, best)
        scores, labels = (_row(outputs, name, row, 1) for name in (self.tensors.scores, self.tensors.classes))
        count = len(boxes)
        if self.tensors.count:
            counts = np.asarray(outputs[self.tensors.count]).reshape(-1)
            count = int(counts[min(row, len(counts) - 1)])
        return self._known(boxes, scores, labels, count)

    def _of_every_class(
        self, boxes: Array, scores: Array, objectness: Array | None, best: bool
    ) -> tuple[Array, Array, Array]:
        scores = _activated(scores, self.fields.activation, self.tensors.scores or self.tensors.boxes)
        if objectness is not None:
            way = "sigmoid" if self.fields.activation == "softmax" else self.fields.activation
            scores = scores * _activated(objectness, way, self.tensors.boxes)
        if self.fields.background:
            scores = scores[:, 1:] if self.fields.background == "first" else scores[:, :-1]
        if best:
            scores = np.where(scores == scores.max(axis=1, keepdims=True, initial=0), scores, 0)
        which, labels = np.nonzero(scores >= LEAST)
        return _corners(boxes, self.fields.boxes)[which], scores[which, labels], labels

    def _known(self, boxes: Array, scores: Array, labels: Array, count: int) -> tuple[Array, Array, Array]:
        boxes, scores, labels = boxes[:count], scores[:count], np.rint(labels[:count]).astype(np.int64)
        scores = _activated(scores[:, None], self.fields.activation, self.tensors.scores or self.tensors.boxes)[:, 0]
        labels = labels - (1 if self.fields.background == "first" else 0)
        real = (scores >= LEAST) & (labels >= 0)
        if len(labels[real]) and int(labels[real].max()) >= self.classes:
            raise ModelError(
                f"the model gives the class {int(labels[real].max())}, and {self.classes} are named (from 0 on); name "
                'all of them, or say background = "first" where the first one is no class'
            )
        return _corners(boxes[real], self.fields.boxes), scores[real], labels[real]


def _row(outputs: Mapping[str, Array], name: str, row: int, axes: int) -> Array:
    """The values of one picture, float64 with ``axes`` axes; an output without a batch is that of the only one."""
    values = np.asarray(outputs[name], np.float64)
    one = values[row] if values.ndim > axes else values
    one = one.reshape(one.shape[-axes:]) if one.ndim > axes and set(one.shape[:-axes]) == {1} else one
    if one.ndim == axes + 1 and 1 in one.shape:
        one = one.squeeze(one.shape.index(1))
    if one.ndim != axes:
        raise ModelError(f"output {name!r} has the shape {values.shape}, which is not one of a detector")
    if np.isnan(one).any():
        raise ModelError(f"the model gives NaN in {name!r}")
    return one


def _upright(values: Array, width: int, name: str) -> Array:
    """(N, width) of (N, width) or (width, N)."""
    if values.shape[1] == width:
        return values
    if values.shape[0] == width:
        return values.T
    raise ModelError(f"output {name!r} has the shape {values.shape} a picture; one side of {width} values was expected")


def _beside(scores: Array, boxes: int, name: str) -> Array:
    if len(scores) == boxes:
        return scores
    if scores.shape[1] == boxes:
        return scores.T
    raise ModelError(f"output {name!r} has scores of the shape {scores.shape}, and there are {boxes} boxes")


def _activated(values: Array, activation: str, name: str) -> Array:
    """Scores (N, C) as shares of 1.

    Raises:
        ModelError: they are not, and nothing is to be applied.
    """
    if activation == "sigmoid":
        result: Array = 1 / (1 + np.exp(-np.clip(values, -60, 60)))
        return result
    if activation == "softmax":
        powers = np.exp(values - values.max(axis=1, keepdims=True, initial=-np.inf))
        shares: Array = powers / powers.sum(axis=1, keepdims=True)
        return shares
    if values.size and (values.min() < -0.01 or values.max() > 1.01):  # integers of a file reach a step beyond
        raise ModelError(
            f"the scores in {name!r} are {values.min():.3g} to {values.max():.3g}, which are not shares of 1; say "
            'activation = "sigmoid" or "softmax" in an io.toml'
        )
    return np.clip(values, 0, 1)


def _corners(boxes: Array, layout: str) -> Array:
    """Boxes (N, 4) of one of the layouts as left, top, right, bottom."""
    if layout == "yxyx":
        return boxes[:, [1, 0, 3, 2]]
    if layout == CENTRED:
        boxes, layout = boxes[:, [1, 0, 3, 2]], "cxcywh"
    if layout == "cxcywh":
        return np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)
    if layout == "xywh":
        return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    return boxes


def _tensors(signature: Signature, fields: DetectionFields, classes: int) -> _Tensors:
    """Which output is what, by its name where the card gives it, else by its shape.

    Raises:
        UnsupportedError: the shapes do not say it.
    """
    specs = {spec.name: spec for spec in signature.outputs}
    listed = ", ".join(map(str, signature.outputs))
    named = {part: str(getattr(fields, f"{part}_output")) for part in ("boxes", "scores", "classes", "count")}
    for part, name in named.items():
        if name and name not in specs:
            raise UnsupportedError(f"{part}_output is {name!r}, and the model has the outputs {listed}")
    taken = {name for name in named.values() if name}
    rest = {name: spec for name, spec in specs.items() if name not in taken}
    boxes = named["boxes"] or _one([n for n, spec in rest.items() if _has_side(spec, 4)], "boxes", listed)
    if not boxes and len(specs) == 1:
        return _only(next(iter(specs.values())), fields, classes)
    if not boxes:
        raise UnsupportedError(f"no output has four values a box; say which does: boxes_output. There are: {listed}")
    if len(specs) == 1:
        raise UnsupportedError(f"the only output {listed} has boxes and no scores; export the scores as well")
    rest.pop(boxes, None)
    axes = len(specs[boxes].shape)
    wide = [name for name, spec in rest.items() if len(spec.shape) == axes and not _thin(spec)]
    thin = {name: spec for name, spec in rest.items() if len(spec.shape) == axes - 1 or _thin(spec)}
    scores = named["scores"]
    if not named["classes"] and (wide or scores) and not any(_called(name, _CLASSES) for name in thin):
        return _Tensors(boxes, scores or _one(wide, "scores", listed))
    candidates = {name: spec for name, spec in thin.items() if not _is_count(spec)}
    labels = named["classes"] or _one(_classes_of(candidates), "classes", listed)
    scores = scores or _one([n for n in candidates if n != labels], "scores", listed)
    if not labels or not scores:
        raise UnsupportedError(
            f"it cannot be told which output has scores and which has classes; say scores_output and classes_output. "
            f"There are: {listed}"
        )
    count = named["count"] or next((name for name, spec in rest.items() if _is_count(spec)), "")
    return _Tensors(boxes, scores, labels, count)


def _classes_of(candidates: Mapping[str, TensorSpec]) -> list[str]:
    whole = [name for name, spec in candidates.items() if spec.dtype.startswith(("int", "uint"))]
    called = [name for name in candidates if _called(name, _CLASSES) and not _called(name, _SCORES)]
    if not called and len(candidates) == 2:
        called = [name for name in candidates if not _called(name, _SCORES)]
        called = called if len(called) == 1 else []
    return called if len(called) == 1 else whole


def _called(name: str, words: tuple[str, ...]) -> bool:
    return any(word in name.lower() for word in words)


def _has_side(spec: TensorSpec, size: int) -> bool:
    return len(spec.shape) >= 2 and size in spec.shape[-2:]


def _thin(spec: TensorSpec) -> bool:
    return len(spec.shape) >= 2 and spec.shape[-1] == 1 and len(spec.shape) > 2


def _is_count(spec: TensorSpec) -> bool:
    return all(size == 1 for size in spec.shape)


def _one(names: list[str], part: str, listed: str) -> str:
    if len(names) > 1:
        raise UnsupportedError(f"several outputs may be the {part}; say {part}_output. There are: {listed}")
    return names[0] if names else ""


def _only(spec: TensorSpec, fields: DetectionFields, classes: int) -> _Tensors:
    """An only tensor with rows of a box and what belongs to it.

    Raises:
        UnsupportedError: no axis is as long as a row, or several kinds of rows are.
    """
    widths = row_widths(fields, classes)
    there = [size for size in spec.shape[-2:] if isinstance(size, int)]
    fitting = [kind for kind, width in widths.items() if width in there]
    if fields.rows:
        fitting = [fields.rows] if fields.rows in fitting else []
    if not fitting:
        raise UnsupportedError(
            f"the output {spec} has no axis of {widths['scores']} values (a box and {classes} classes), "
            f"{widths['objectness']} with objectness, or 6 with a score and a class; name all classes, and say rows or "
            "background in an io.toml"
        )
    if len(fitting) > 1:
        raise UnsupportedError(
            f"a row of the output {spec} may be a box with {' or '.join(fitting)}; say which in an io.toml: rows = "
            f'"{fitting[0]}"'
        )
    return _Tensors(spec.name, rows=fitting[0])


def row_widths(fields: DetectionFields, classes: int) -> dict[str, int]:
    """Values of a row of an only tensor, by what follows the box."""
    columns = classes + (1 if fields.background else 0)
    return {"scores": 4 + columns, "objectness": 5 + columns, "class": 6}
