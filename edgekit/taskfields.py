"""Fields of a task: what a network's outputs mean beyond their names, and which values each may have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any

from edgekit.errors import EdgekitError
from edgekit.types import InputSpec

CENTRED = "yxhw"
"""Centre y, centre x, height and width, as MediaPipe takes boxes."""
BOXES = ("xyxy", "cxcywh", "yxyx", "xywh", CENTRED)
"""Left, top, right, bottom; centre and size; top, left, bottom, right; left, top and size; :data:`CENTRED`."""


@dataclass(frozen=True, slots=True)
class DetectionFields:
    """How the outputs of a detector become boxes with scores.

    Attributes:
        boxes: one of :data:`BOXES`.
        normalized: boxes are shares of the input's width and height, not its pixels.
        activation: what is still to be applied to the scores: ``none``, ``sigmoid`` or ``softmax`` over the classes.
        background: the column of the scores that is not a class: ``first`` or ``last``; empty where each is a class.
        rows: what follows the box in a row of an only output: ``scores`` of the classes, ``objectness`` and scores
            (which are multiplied), or ``class`` (a score, then a class's index); empty where the width says it.
        boxes_output, scores_output, classes_output, count_output: names of outputs, where their shapes do not tell.
        nms: whether boxes that lie over a better one of their class are left out after the file; without it, where the
            file gives scores of all classes.
        threshold: the least score that ``run`` shows. Average precision takes all scores into account.
        iou_threshold: overlap (intersection over union) beyond which a box is left out.
    """

    boxes: str
    normalized: bool = False
    activation: str = "none"
    background: str = ""
    rows: str = ""
    boxes_output: str = ""
    scores_output: str = ""
    classes_output: str = ""
    count_output: str = ""
    nms: bool | None = None
    threshold: float = 0.3
    iou_threshold: float = 0.5


_CHOICES: Mapping[str, tuple[str, ...]] = {
    "boxes": BOXES,
    "activation": ("none", "sigmoid", "softmax"),
    "background": ("first", "last"),
    "rows": ("scores", "objectness", "class"),
}
NAMES: tuple[str, ...] = tuple(field.name for field in fields(DetectionFields))


def detection_fields(params: Mapping[str, Any], error: type[EdgekitError], where: str) -> DetectionFields:
    """``params`` of a task as the fields of a detector; others are left aside.

    Raises:
        EdgekitError: of the class ``error``: without ``boxes``, or a value that a field does not take.
    """
    if "boxes" not in params:
        raise error(
            f"{where}: how boxes are laid out is not said; give boxes = one of {', '.join(map(repr, BOXES))} in an "
            "io.toml (docs/own-work.md)"
        )
    known = {name: params[name] for name in NAMES if name in params}
    for name, value in known.items():
        choices = _CHOICES.get(name, ())
        if choices and value not in choices:
            close = get_close_matches(str(value), choices, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise error(f"{where}: {name} is {value!r}; {hint}there are: {', '.join(choices)}")
        if name in ("normalized", "nms") and not isinstance(value, bool):
            raise error(f"{where}: {name} is {value!r}; it is true or false")
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if name.endswith("threshold") and not (number and 0 <= value <= 1):
            raise error(f"{where}: {name} is {value!r}; it is a number from 0 to 1")
        if name.endswith("_output") and not isinstance(value, str):
            raise error(f"{where}: {name} is {value!r}; it is the name of an output")
    return DetectionFields(**known)


SCORES = ("logits", "probabilities")
"""What the scores of classes or labels are, field ``scores`` of a task; logits where nothing is said."""


def gives_logits(params: Mapping[str, Any]) -> bool:
    """Whether the scores of several labels, or of the classes of pixels, are logits, by the ``params`` of a task.

    Older cards say it by ``activation``, which was what the network had applied: anything but ``logits`` means
    probabilities. (A detector's ``activation`` is what is still to be applied.)
    """
    if "scores" in params:
        return bool(params["scores"] == "logits")
    return bool(params.get("activation", "logits") == "logits")


FORECAST = ("target", "standardised")
"""Fields of a forecast: the column that is forecast, and whether forecasts are in units of its mean and deviation (true
without it) or in those of the data."""


def forecast_params(params: Mapping[str, Any], horizon: int, contract: InputSpec) -> dict[str, Any]:
    """``params`` of a forecasting task whose ``target`` is a column of ``contract``, with the ``horizon`` (rows) and
    the ``mean`` and ``std`` that bring a forecast back to the units of the data."""
    found = {**params, "horizon": horizon}
    standardised, column = found.pop("standardised", True), contract.columns.index(found["target"])
    if standardised and (contract.mean or contract.std):
        found["mean"] = contract.mean[column] if contract.mean else 0.0
        found["std"] = contract.std[column] if contract.std else 1.0
    return found
