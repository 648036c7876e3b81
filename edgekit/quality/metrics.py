"""Figures of merit of tasks beyond the zoo's, and the user's own; torchmetrics computes them on the host.

``--metric file.py:function`` names ``f(outputs, targets) -> float``: the outputs of the whole split by name, first axis
= sample, and the targets as the data give them. Higher is better unless ``f.lower_is_better``. One that is quick is
computed on parts of the samples as well, for the interval of a change.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from edgekit import registry
from edgekit.data.dataset import Dataset
from edgekit.data.pixel_classes import IGNORED, score_map
from edgekit.data.pixels import fit_mask
from edgekit.errors import DataError, ModelError, UsageError
from edgekit.leftovers import scratch_folder
from edgekit.quality import curves
from edgekit.quality.evaluate import Metric, Runs, matched_labels, model_batches
from edgekit.quality.forecast import as_forecaster, standardised
from edgekit.quality.paired import groups_of, parts_of
from edgekit.results.eval import Confusion, Evaluation, Outcomes
from edgekit.taskfields import gives_logits
from edgekit.types import Array, Card, Feed
from edgekit.usercode import a_value, explained, is_code, named

log = logging.getLogger("edgekit")
NAMES: Mapping[str, tuple[str, bool]] = {
    "accuracy": ("classification", False),
    "miou": ("segmentation", False),
    "dice": ("segmentation", False),
    "mae": ("regression", True),
    "rmse": ("regression", True),
    "r2": ("regression", False),
    "f1": ("multilabel", False),
    "average_precision": ("multilabel", False),
    "map": ("detection", False),
    "map50": ("detection", False),
    "mse": ("forecasting", True),
    "roc_auc": ("anomaly", False),
    "frechet": ("generation", True),
    "recall_at_1": ("embedding", False),
    "recall_at_5": ("embedding", False),
    "eer": ("embedding", True),
    "cer": ("ctc", True),
    "wer": ("ctc", True),
    "pck": ("keypoints", False),
    "mean_distance": ("keypoints", True),
}
"""Name of a figure -> the task whose function of the table ``metrics`` measures it, and whether lower is better."""
_QUICK_S = 0.25
"""A figure of the user's own that takes longer on all samples is not computed once more on each part of them."""
_IN_MEMORY = 1 << 29
"""Bytes of outputs that are kept in memory; more lie in a file."""


def metric_of(text: str) -> Metric:
    """The metric that ``--metric`` names.

    Raises:
        UsageError: no metric has that name.
        DataError: the user's file cannot be imported, or has no such function.
    """
    if is_code(text) or (":" in text and text not in NAMES):
        return own_metric(text)
    if text not in NAMES:
        raise UsageError(
            f"no metric is called {text!r}; there are: {', '.join(NAMES)}, and your own as file.py:function"
        )
    kind, lower = NAMES[text]
    measure: Metric = registry.lookup("metrics", kind)
    if kind == "detection":
        return partial(cast(Any, measure), headline=text)

    def chosen(runner: Runs, dataset: Dataset, card: Card | None, limit: int | None) -> Evaluation:
        found = measure(runner, dataset, card, limit)
        if found.metric == text:
            return found
        details = {key: value for key, value in found.details.items() if key != text} | {found.metric: found.value}
        if text not in found.details:
            raise DataError(f"{text} cannot be computed on {dataset.label}; {found.metric} is {found.value:g}")
        value = found.details[text]
        return replace(
            found, metric=text, value=value, details=details, lower_is_better=lower, outcomes=None, per_class={}
        )

    return chosen


def own_metric(spelled: str) -> Metric:
    """The metric ``file.py:function``.

    Raises:
        DataError: it cannot be imported, or is not a function.
    """
    function = named(spelled, DataError)
    if not callable(function):
        raise DataError(f"{spelled} is {a_value(function)}; a metric is a function of outputs and targets")
    name = spelled.rpartition(":")[2]

    def measure(runner: Runs, dataset: Dataset, card: Card | None, limit: int | None) -> Evaluation:
        card = None if card is None else as_forecaster(card, dataset)
        targets = targets_of(dataset, limit, card)
        if dataset.labels is not None and dataset.answers is None and card is not None and card.task.labels:
            _, targets = matched_labels(dataset, targets, card, len(card.task.labels))
        with gathered(runner, dataset, card, len(targets)) as outputs:
            start = time.monotonic()
            value = _own_value(spelled, function, outputs, targets, dataset)
            parts = {}
            if time.monotonic() - start < _QUICK_S:
                parts = _own_parts(name, lambda o, t: _own_value(spelled, function, o, t, dataset), outputs, targets)
        lower = bool(getattr(function, "lower_is_better", False))
        return Evaluation(name, value, len(targets), dataset.label, lower_is_better=lower, parts=parts)

    return measure


def _own_value(spelled: str, function: Callable[..., Any], outputs: Feed, targets: Any, dataset: Dataset) -> float:
    with explained(f"calling {spelled}", DataError):
        value = function(outputs, targets)
    if hasattr(value, "item") and np.size(value) == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{spelled} gave {_shown(value)}; a metric gives one number")
    if not math.isfinite(value):
        raise DataError(f"{spelled} gave {value} on {dataset.label}; a metric gives a finite number")
    return float(value)


def _own_parts(name: str, value: Callable[[Feed, Any], float], outputs: Feed, targets: Any) -> dict[str, Array]:
    """The user's figure without each group of samples; none where it cannot be computed on a part of them."""

    def figures(kept: Array) -> Mapping[str, float]:
        chosen = targets[kept] if isinstance(targets, np.ndarray) else [targets[k] for k in np.flatnonzero(kept)]
        return {name: value({key: rows[kept] for key, rows in outputs.items()}, chosen)}

    try:
        return parts_of(len(targets), figures)
    except DataError as error:
        log.info("no interval for %s: on a part of the samples, %s", name, error)
        return {}


def _shown(value: Any) -> str:
    return f"an array of shape {value.shape}" if isinstance(value, np.ndarray) else a_value(value)


def targets_of(dataset: Dataset, limit: int | None, card: Card | None = None) -> Any:
    """What is right for the first ``limit`` samples: an array of labels or values, or a list of answers. Values that a
    model with this ``card`` forecasts are in the units of its outputs.

    Raises:
        DataError: the data set has none.
    """
    total = len(dataset) if limit is None else min(limit, len(dataset))
    if dataset.answers is not None:
        return [dataset.answers[k] for k in range(total)]
    known = dataset.labels if dataset.labels is not None else dataset.targets
    if known is None:
        raise DataError(f"{dataset.label} has no targets, and a metric needs them; let each sample be (inputs, target)")
    forecast = card is not None and card.task.kind == "forecasting" and dataset.labels is None
    return standardised(known[:total], card.task) if card is not None and forecast else known[:total]


@contextmanager
def gathered(runner: Runs, dataset: Dataset, card: Card | None, total: int) -> Iterator[dict[str, Array]]:
    """The outputs of the first ``total`` samples, by name, first axis = sample.

    Raises:
        ModelError: NaN, not one row a sample, or rows of several shapes.
    """
    contract = card.contract if card is not None else {}
    outputs: dict[str, Array] = {}
    with scratch_folder() as folder:
        done = 0
        for feed, count in model_batches(runner.signature, dataset, contract, total):
            for name, values in runner.run(feed).items():
                rows = _rows(name, values, count, dataset)
                if name not in outputs:
                    outputs[name] = _room((total, *rows.shape[1:]), rows.dtype, folder / f"{len(outputs)}.bin")
                if outputs[name].shape[1:] != rows.shape[1:]:
                    raise ModelError(
                        f"output {name!r} has the shape {rows.shape[1:]} for sample {done} of {dataset.label} and "
                        f"{outputs[name].shape[1:]} for the first; samples of one size are needed here"
                    )
                outputs[name][done : done + count] = rows
            done += count
        yield outputs


def _rows(name: str, values: Array, count: int, dataset: Dataset) -> Array:
    rows = values[:count] if values.ndim else values.reshape(1)
    if len(rows) < count:
        raise ModelError(f"the model gives {len(rows)} rows in {name!r} for {count} samples of {dataset.label}")
    if rows.dtype.kind == "f" and np.isnan(rows).any():
        raise ModelError(f"the model gives NaN in {name!r} on {dataset.label}")
    return rows


def _room(shape: tuple[int, ...], dtype: Any, path: Path) -> Array:
    if math.prod(shape) * np.dtype(dtype).itemsize <= _IN_MEMORY:
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, "w+", shape=shape)


def regression(runner: Runs, dataset: Dataset, card: Card | None, limit: int | None) -> Evaluation:
    """Mean absolute error, with root mean squared error and R² in the details.

    Raises:
        DataError: the data set has no real-valued targets.
        ModelError: the model gives NaN, or other values than one for each target.
    """
    import torch
    from torchmetrics.functional import r2_score

    card = None if card is None else as_forecaster(card, dataset)
    wanted = np.asarray(targets_of(dataset, limit, card), np.float64)
    with gathered(runner, dataset, card, len(wanted)) as outputs:
        name = next(iter(outputs))
        answers = np.asarray(outputs[name], np.float64).reshape(len(wanted), -1)
    wanted = wanted.reshape(len(wanted), -1)
    if answers.shape != wanted.shape:
        raise ModelError(
            f"output {name!r} has {answers.shape[1]} values a sample, the targets of {dataset.label} {wanted.shape[1]}"
        )
    errors = np.abs(answers - wanted).mean(axis=1)

    def figures(kept: Array) -> dict[str, float]:
        given, right = answers[kept], wanted[kept]
        found = {"rmse": float(np.sqrt(((given - right) ** 2).mean()))}
        if len(right) > 1 and np.ptp(right) > 0:
            found["r2"] = float(r2_score(torch.from_numpy(given), torch.from_numpy(right)))
        return found

    return Evaluation(
        "mae", float(errors.mean()), len(wanted), dataset.label, details=figures(np.ones(len(wanted), bool)),
        lower_is_better=True, outcomes=Outcomes("errors", errors), parts=parts_of(len(wanted), figures),
    )  # fmt: skip


def multilabel(runner: Runs, dataset: Dataset, card: Card | None, limit: int | None) -> Evaluation:
    """F1 over classes that a sample may have several of (mean over the classes), with average precision.

    Targets are 0 or 1 a class. Outputs are logits, or probabilities where the card's ``scores`` says so;
    ``threshold`` of the card (0.5 without it) is of the probability.

    Raises:
        DataError: targets of other values or another number of classes.
        ModelError: the model gives NaN.
    """
    import torch
    from torchmetrics.functional.classification import multilabel_average_precision, multilabel_f1_score

    _check_classes(dataset, card)
    wanted = np.asarray(targets_of(dataset, limit))
    if wanted.ndim != 2 or not np.isin(wanted, (0, 1)).all():
        raise DataError(f"the targets of {dataset.label} are not rows of 0 and 1, one a class")
    classes = wanted.shape[1]
    with gathered(runner, dataset, card, len(wanted)) as outputs:
        name = next((n for n, rows in outputs.items() if rows.shape[1:] == (classes,)), None)
        if name is None:
            raise DataError(f"{dataset.label} has {classes} classes, and no output of the model as many values")
        scores = np.array(outputs[name], np.float64)
    params = card.task.params if card is not None else {}
    if gives_logits(params):
        scores = 1 / (1 + np.exp(-scores))
    given, right = torch.from_numpy(scores), torch.from_numpy(wanted.astype(np.int64))
    threshold = float(params.get("threshold", 0.5))
    every = multilabel_f1_score(given, right, classes, threshold=threshold, average="none").numpy()

    def figures(kept: Array) -> dict[str, float]:
        some = given[kept], right[kept], classes
        precision = multilabel_average_precision(*some, average="macro")
        return {
            "f1": float(multilabel_f1_score(*some, threshold=threshold, average="macro")),
            "average_precision": float(precision),
        }

    whole = figures(np.ones(len(wanted), bool))
    names = (card.task.labels if card is not None else ()) or dataset.classes or tuple(map(str, range(classes)))
    return Evaluation(
        "f1", whole.pop("f1"), len(wanted), dataset.label, details=whole,
        per_class={n: float(v) for n, v in zip(names, every, strict=False)},
        curves=curves.precision_recall(names, scores, wanted), parts=parts_of(len(wanted), figures),
    )  # fmt: skip


def segmentation(runner: Runs, dataset: Dataset, card: Card | None, limit: int | None) -> Evaluation:
    """Mean intersection over union of the classes that occur, with the Dice score; the class of a pixel is the largest
    of its scores, or the sign of a single one.

    Masks follow their images: resized and cut as the contract says, by the nearest pixel. Pixels of 255 are left out.

    Raises:
        DataError: the data set has no masks, or a class that the model has not.
        UnsupportedError: no output has scores a pixel.
    """
    import torch
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    if dataset.answers is None:
        raise DataError(f"{dataset.label} has no masks; give masks:DIR, or a function of your own")
    _check_classes(dataset, card)
    total = len(dataset) if limit is None else min(limit, len(dataset))
    spec, axis, classes = score_map(runner.signature, len(card.task.labels) if card is not None else 0)
    contract = card.contract if card is not None else {}
    rule = next((one for one in contract.values() if one.kind == "image"), None)
    groups = groups_of(total)
    matrices = np.zeros((int(groups.max(initial=0)) + 1, classes, classes))  # of the pictures of each group
    done = 0
    for feed, count in model_batches(runner.signature, dataset, contract, total):
        scores = _rows(spec.name, runner.run(feed)[spec.name], count, dataset)
        found = (scores > 0).squeeze(axis).astype(np.int64) if scores.shape[axis] == 1 else scores.argmax(axis=axis)
        for row in range(count):
            mask = fit_mask(np.asarray(dataset.answers[done + row]), found.shape[1:], rule)
            worst = int(mask[mask != IGNORED].max(initial=0))
            if worst >= classes:
                raise DataError(f"mask {done + row} of {dataset.label} has the class {worst}, the model has {classes}")
            pair = torch.from_numpy(found[row].astype(np.int64)), torch.from_numpy(mask.astype(np.int64))
            found_here = multiclass_confusion_matrix(*pair, num_classes=classes, ignore_index=IGNORED)
            matrices[groups[done + row]] += found_here.numpy()
        done += count
    counts = matrices.sum(0)
    if not counts.any():
        raise DataError(f"the masks of {dataset.label} hold no pixel that counts")
    there, iou = _overlaps(counts)
    whole = _of_counts(counts)
    parts = parts_of(total, lambda kept: _of_counts(matrices[np.unique(groups[kept])].sum(0)))
    names = (card.task.labels if card is not None else ()) or dataset.classes
    names = (*names, *(str(k) for k in range(len(names), classes)))
    per_class = {names[k]: float(v) for k, v in zip(np.flatnonzero(there), iou, strict=True)}
    value = whole.pop("miou")
    confusion = Confusion.of(names[:classes], counts)
    return Evaluation(
        "miou", value, total, dataset.label, per_class=per_class, details=whole, confusion=confusion, parts=parts
    )


def _overlaps(counts: Array) -> tuple[Array, Array]:
    """Which classes occur, bool (C,), and intersection over union of those, of a confusion matrix (C, C)."""
    both, union = np.diag(counts), counts.sum(0) + counts.sum(1) - np.diag(counts)
    there = union > 0
    return there, both[there] / union[there]


def _of_counts(counts: Array) -> dict[str, float]:
    """The figures of a confusion matrix of pixels; none of one without pixels."""
    there, iou = _overlaps(counts)
    if not there.any():
        return {}
    dice = 2 * np.diag(counts)[there] / (counts.sum(0) + counts.sum(1))[there]
    share = float(np.diag(counts).sum() / counts.sum())
    return {"miou": float(iou.mean()), "dice": float(dice.mean()), "pixel_accuracy": share}


def _check_classes(dataset: Dataset, card: Card | None) -> None:
    """Refuses masks or rows of classes whose names are others than the model's, or in another order."""
    known = card.task.labels if card is not None else ()
    if known and dataset.classes and dataset.classes != known:
        raise DataError(
            f"{dataset.label} has the classes {', '.join(dataset.classes[:5])}, the model {', '.join(known[:5])}: both "
            "need the same names in the same order"
        )


def measured_tasks() -> Sequence[str]:
    """The tasks that have a figure of merit."""
    return registry.names("metrics")
