"""Anomaly scores: the reconstruction error, its area under the ROC curve, and the threshold above which it is one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from edgekit.data.dataset import Dataset, split_indices
from edgekit.errors import DataError, ModelError, UnsupportedError
from edgekit.quality import curves
from edgekit.quality.evaluate import Runs, checked, model_batches
from edgekit.results.eval import Evaluation, Outcomes
from edgekit.types import Array, Card, Feed, Task

log = logging.getLogger("edgekit")
PERCENTILE = 95.0
"""Normal samples below the threshold, in per cent, where the card does not say."""


def score(feed: Feed, outputs: Mapping[str, Array]) -> Array:
    """Mean squared difference between the first input and the first output, one a sample: float64 (B,).

    Raises:
        UnsupportedError: they are not of one size, so that the output is not a reconstruction of the input.
    """
    given, back = (np.asarray(next(iter(side.values())), np.float64) for side in (feed, outputs))
    if given.ndim == 4 and given.shape != back.shape and given.transpose(0, 3, 1, 2).shape == back.shape:
        given = given.transpose(0, 3, 1, 2)  # a file exported channels-last turns its inputs, not its outputs
    if given.shape != back.shape:
        raise UnsupportedError(
            f"the input has shape {given.shape}, the output {back.shape}; an anomaly score needs a reconstruction"
        )
    error: Array = ((given - back) ** 2).reshape(len(given), -1).mean(1)
    return error


def scores(runner: Runs, dataset: Dataset, card: Card | None, total: int) -> Array:
    """Scores of the first ``total`` samples, float64.

    Raises:
        DataError: samples that do not fit the model.
        ModelError: the model gives NaN.
    """
    found = np.empty(total)
    done = 0
    contract = card.contract if card is not None else {}
    for feed, count in model_batches(runner.signature, dataset, contract, total):
        outputs = runner.run(feed)
        checked(outputs, next(iter(outputs)), count, done, dataset)
        found[done : done + count] = score(feed, outputs)[:count]
        done += count
    return found


def area(positive: Array, negative: Array) -> float:
    """Area under the ROC curve: the share of pairs in which the positive scores higher, ties counting half
    (Mann and Whitney, 1947; Hanley and McNeil, 1982).

    Raises:
        ValueError: one of the two is empty.
    """
    if not len(positive) or not len(negative):
        raise ValueError(f"an area needs samples of both kinds, got {len(positive)} and {len(negative)}")
    ordered = np.sort(negative)
    below, upto = (np.searchsorted(ordered, positive, side=side) for side in ("left", "right"))
    wins = below.sum(dtype=np.float64) + 0.5 * (upto - below).sum(dtype=np.float64)
    return float(wins / (len(positive) * len(negative)))


def placements(positive: Array, negative: Array) -> tuple[Array, Array]:
    """For each positive the share of negatives below it, for each negative the share of positives above it; ties count
    half. The mean of either is the area."""

    def below(values: Array, others: Array) -> Array:
        ordered = np.sort(others)
        left, right = (np.searchsorted(ordered, values, side=side) for side in ("left", "right"))
        found: Array = (left + right) / (2 * len(others))
        return found

    return below(positive, negative), 1 - below(negative, positive)


def roc_auc(runner: Runs, dataset: Dataset, card: Card | None, limit: int | None) -> Evaluation:
    """How well the reconstruction error tells the held-out class from the others; ``per_class``: from each of them.

    ``details``: the class, its samples, and where the card has a threshold, the share of anomalies above it (caught)
    and of normal samples above it (false alarms).

    Raises:
        DataError: no labels, no such class, or samples of one kind only.
        ModelError: the model gives NaN, or its card does not name the held-out class.
    """
    params = _params(card)
    total = len(dataset) if limit is None else min(limit, len(dataset))
    anomalous = _anomalous(dataset, str(params["held_out"]))[:total]
    if anomalous.all() or not anomalous.any():
        raise DataError(
            f"{int(anomalous.sum())} of {total} samples of {dataset.label} are of the held-out class "
            f"{params['held_out']!r}; the area under the ROC curve needs both kinds: give other data or a larger limit"
        )
    found = scores(runner, dataset, card, total)
    positive = found[anomalous]
    details = {"held_out": params["held_out"], "anomalies": int(anomalous.sum())}
    if "threshold" in params:
        limit_ = float(params["threshold"])
        details |= {"threshold": limit_, "caught": float((positive > limit_).mean())}
        details |= {"false_alarms": float((found[~anomalous] > limit_).mean())}
    assert dataset.labels is not None
    labels = dataset.labels[:total]
    per_class = {dataset.classes[c]: area(positive, found[labels == c]) for c in np.unique(labels[~anomalous]).tolist()}
    outcomes = Outcomes("scores", found, positive=anomalous)
    value = area(positive, found[~anomalous])
    return Evaluation(
        "roc_auc", value, total, dataset.label, None, per_class, details,
        curves=(curves.roc(str(params["held_out"]), found, anomalous),), outcomes=outcomes,
    )  # fmt: skip


def refit_threshold(runner: Runs, dataset: Dataset, card: Card) -> Task:
    """The card's task with the threshold that the scores of ``runner`` give on the normal samples of ``dataset``.

    It is the percentile ``params["percentile"]`` of these scores. A network gives back what it was trained on better
    than what it was not, so of the set it was trained on only the share that training held out is scored
    (``params["unseen"]``: data, share and seed). Samples without labels are taken to be normal.

    Raises:
        DataError: no normal samples, or samples that do not fit the model.
        ModelError: the model gives NaN, or its card does not name the held-out class.
    """
    params = _params(card)
    normal = dataset
    if dataset.labels is not None and params["held_out"] in dataset.classes:
        normal = dataset.subset(np.flatnonzero(~_anomalous(dataset, str(params["held_out"]))))
    unseen: Any = params.get("unseen", {})
    kept_out = unseen.get("data") == dataset.label and unseen.get("share", 0) > 0 and len(normal) > 1
    if kept_out:
        normal = normal.subset(split_indices(len(normal), normal.labels, unseen["share"], unseen["seed"])[1])
    if not len(normal):
        raise DataError(f"{dataset.label} holds no normal samples; the threshold is a percentile of their scores")
    percentile = float(params.get("percentile", PERCENTILE))
    found = scores(runner, normal, card, len(normal))
    threshold = float(f"{np.percentile(found, percentile):.6g}")
    rule = f"percentile {percentile:g} of the scores of {len(normal)} normal samples of {dataset.label}"
    rule += " that training did not see" if kept_out else ""
    return replace(card.task, params={**params, "threshold": threshold, "threshold_rule": rule})


def _params(card: Card | None) -> Mapping[str, Any]:
    params = card.task.params if card is not None else {}
    if "held_out" not in params:
        raise ModelError("the card does not name the class whose samples are anomalies (held_out); train it again")
    return params


def _anomalous(dataset: Dataset, held_out: str) -> Array:
    """True for samples of the held-out class."""
    if dataset.labels is None:
        raise DataError(f"{dataset.label} has no labels, so what is an anomaly is unknown; give one folder a class")
    if held_out not in dataset.classes:
        raise DataError(f"{dataset.label} has no class {held_out!r}; it has: {', '.join(dataset.classes)}")
    found: Array = dataset.labels == dataset.classes.index(held_out)
    return found
