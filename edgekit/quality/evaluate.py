"""The task's figure of merit: a model's answers on data, one metric a kind of task.

The registry's table ``metrics`` names a function a kind: ``(runner, dataset, card, limit) -> Evaluation``. The runner
is that of a file or of the torch module itself, so that both are measured by the same code.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, TypeAlias

import numpy as np

from edgekit import registry
from edgekit.data.dataset import Dataset
from edgekit.data.preprocess import batches, whole_samples
from edgekit.errors import DataError, ModelError, UnsupportedError
from edgekit.progress import track
from edgekit.results.eval import Confusion, Evaluation, Outcomes
from edgekit.types import Array, Card, Feed, InputSpec, Signature

log = logging.getLogger("edgekit")
DYNAMIC_BATCH = 64
"""Samples at once for a file whose batch is dynamic; beyond it the per-call cost no longer shows."""
_CHUNK = 256
"""Samples prepared at once, so that preparing costs little beside a per-sample run."""


class Runs(Protocol):
    """What is evaluated: a :class:`~edgekit.runtime.base.Runner`, here or in a worker, or a torch module."""

    signature: Signature

    def run(self, feed: Feed) -> dict[str, Array]: ...


def measurable(dataset: Dataset, card: Card | None) -> bool:
    """Whether ``dataset`` says what is right: labels, values to forecast, both kinds for anomalies, images to compare
    generated ones with."""
    kind = card.task.kind if card is not None else "none"
    if kind == "generation":
        return dataset.kind == "image"
    if kind in ("forecasting", "regression") or (kind == "none" and dataset.kind == "series"):
        return dataset.targets is not None
    if kind in ("segmentation", "multilabel", "detection"):
        return dataset.answers is not None
    if kind == "anomaly" and card is not None and dataset.labels is not None:
        held_out = card.task.params.get("held_out")
        return len(np.unique(dataset.labels)) > 1 and held_out in dataset.classes
    return dataset.labels is not None


Metric: TypeAlias = Callable[[Runs, Dataset, Card | None, int | None], Evaluation]


def evaluate(
    runner: Runs, dataset: Dataset, card: Card | None, *, limit: int | None = None, metric: Metric | None = None
) -> Evaluation:
    """``metric``, or the figure of merit of the card's task; where there is no card or it does not say what the outputs
    mean, that of forecasts on a series, else accuracy.

    Raises:
        DataError: the data set lacks what the metric needs, or its samples do not fit the model.
        ModelError: the model gives NaN, or not an answer a sample.
        UnsupportedError: the outputs are not what the task says, or its figure is not known.
    """
    if metric is not None:
        return metric(runner, dataset, card, limit)
    kind = card.task.kind if card is not None else "none"
    if kind == "none":
        kind = "forecasting" if dataset.kind == "series" else "classification"
    if kind not in registry.names("metrics"):
        raise UnsupportedError(
            f"edgekit has no figure of merit for {kind}; name one of your own: --metric file.py:function, which takes "
            "outputs and targets"
        )
    own: Metric = registry.lookup("metrics", kind)
    return own(runner, dataset, card, limit)


def accuracy(runner: Runs, dataset: Dataset, card: Card | None, limit: int | None) -> Evaluation:
    """Top-1 accuracy of a classifier on ``dataset``.

    The class is the index of the largest value of the output's last axis. Where the card and the data set both name
    their classes, labels are matched by name, so that a folder with some of the classes, or in another order, works.

    Raises:
        DataError: no labels, labels beyond the model's outputs, or samples that do not fit the model.
        ModelError: the model gives NaN, or not an answer a sample.
        UnsupportedError: the model has no output that names a class.
    """
    if dataset.labels is None and dataset.answers is not None:
        raise DataError(
            f"{dataset.label} has masks, boxes or other answers that are not classes, and nothing says what the "
            "outputs of the model are; give --io-file io.toml with its task (docs/own-work.md), or --metric "
            "file.py:function"
        )
    if dataset.labels is None:
        raise DataError(
            f"{dataset.label} has no labels, and a metric needs them; add an array 'labels' or one folder a class"
        )
    output, classes = class_output(runner.signature, card)
    total = len(dataset) if limit is None else min(limit, len(dataset))
    names, labels = matched_labels(dataset, dataset.labels[:total], card, classes)
    hits = np.zeros(total, bool)
    counts = np.zeros((classes, classes), np.int64)
    done = 0
    contract = card.contract if card is not None else {}
    for feed, count in model_batches(runner.signature, dataset, contract, total):
        answers = checked(runner.run(feed), output, count, done, dataset)
        guesses = answers.reshape(count, -1, classes)[:, -1].argmax(axis=-1)
        hits[done : done + count] = guesses == labels[done : done + count]
        np.add.at(counts, (labels[done : done + count], guesses), 1)
        done += count
    correct = int(hits.sum())
    per_class = {names[c]: float(hits[labels == c].mean()) for c in np.unique(labels).tolist()}
    return Evaluation(
        "accuracy", correct / total, total, dataset.label, correct, per_class,
        confusion=Confusion.of(names, counts), outcomes=Outcomes("hits", hits),
    )  # fmt: skip


def checked(outputs: Mapping[str, Array], name: str, count: int, done: int, dataset: Dataset) -> Array:
    """The rows of the output ``name`` for ``count`` samples, those of ``dataset`` from ``done`` on.

    Raises:
        ModelError: there is NaN in them, or not a row for each sample.
    """
    answers = outputs[name][:count] if outputs[name].ndim else outputs[name].reshape(0)
    where = f"for samples {done} to {done + count - 1} of {dataset.label}"
    if len(answers) < count:
        raise ModelError(f"the model gives {len(answers)} rows in {name!r} {where}; it has to give one a sample")
    if np.isnan(answers).any():
        raise ModelError(f"the model gives NaN in {name!r} {where}")
    return answers


def class_output(signature: Signature, card: Card | None) -> tuple[str, int]:
    """Name and number of classes of the output that answers: the one as wide as the card's labels, else the first.

    Raises:
        UnsupportedError: no output has a fixed last axis of 2 or more.
    """
    labels = len(card.task.labels) if card is not None else 0
    wide = [spec for spec in signature.outputs if spec.shape and isinstance(spec.shape[-1], int) and spec.shape[-1] > 1]
    if not wide:
        listed = ", ".join(map(str, signature.outputs))
        raise UnsupportedError(f"accuracy needs an output with one value a class, the model has: {listed}")
    chosen = next((spec for spec in wide if spec.shape[-1] == labels), wide[0])
    return chosen.name, int(chosen.shape[-1])


def matched_labels(dataset: Dataset, labels: Array, card: Card | None, classes: int) -> tuple[list[str], Array]:
    """Class names of the model, and ``labels`` as indices of its outputs.

    Raises:
        DataError: a label is negative or beyond the model's outputs.
    """
    known = list(card.task.labels) if card is not None else []
    if known and dataset.classes and set(dataset.classes) <= set(known) and list(dataset.classes) != known:
        log.info("%s: labels matched to the model's classes by name", dataset.label)
        place = np.array([known.index(name) for name in dataset.classes])
        labels = place[labels]
    elif known and dataset.classes and list(dataset.classes) != known:
        strange = [name for name in dataset.classes if name not in known]
        bare = all(name.isdecimal() for name in dataset.classes)  # indices, not names: labels of an .npz, digits
        if not bare and (len(strange) < len(dataset.classes) or len(dataset.classes) != len(known)):
            raise DataError(
                f"{dataset.label} has the classes {_some(strange)}, which the model does not know; it knows "
                f"{_some(known)}. Name the classes alike, or finetune the network to these"
            )
        log.warning("%s: none of its class names is the model's; labels are matched by index", dataset.label)
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise DataError(
            f"{dataset.label} has labels {low} to {high}, the model has {classes} outputs (0 to {classes - 1}); "
            "give data with the model's classes, or finetune the network to these"
        )
    names = known or list(dataset.classes)
    names += [str(k) for k in range(len(names), classes)]
    return names, labels


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def model_batches(
    signature: Signature, dataset: Dataset, contract: Mapping[str, InputSpec], total: int
) -> Iterator[tuple[Feed, int]]:
    """Feeds of the size the file takes, with the number of real samples in each (the last may be padded)."""
    found = _model_batches(signature, dataset, contract, total)
    return track(found, f"measuring on {dataset.label}", total, lambda batch: batch[1])


def _model_batches(
    signature: Signature, dataset: Dataset, contract: Mapping[str, InputSpec], total: int
) -> Iterator[tuple[Feed, int]]:
    if whole_samples(dataset, signature, contract):
        for feed, _ in batches(dataset, signature, contract, limit=total):
            yield feed, 1
        return
    size = batch_size(signature)
    prepared = max(_CHUNK // size, 1) * size
    for feed, _ in batches(dataset, signature, contract, batch=prepared, limit=total):
        count = len(next(iter(feed.values())))
        for start in range(0, count, size):
            part = {name: values[start : start + size] for name, values in feed.items()}
            real = min(size, count - start)
            if real < size and not batch_is_free(signature):
                part = {name: _padded(values, size) for name, values in part.items()}
            yield part, real


def _padded(values: Array, size: int) -> Array:
    return np.concatenate([values, np.repeat(values[-1:], size - len(values), axis=0)])


def batch_is_free(signature: Signature) -> bool:
    """Whether the file takes any number of samples at once: the first axis of every input is free."""
    return all(spec.shape and isinstance(spec.shape[0], str) for spec in signature.inputs)


def batch_size(signature: Signature) -> int:
    """Samples of one run: what the file fixes, or :data:`DYNAMIC_BATCH` where its first axis is free.

    Raises:
        UnsupportedError: the inputs do not share their first axis.
    """
    if batch_is_free(signature):
        return DYNAMIC_BATCH
    sizes = {spec.shape[0] if spec.shape and isinstance(spec.shape[0], int) else 1 for spec in signature.inputs}
    if len(sizes) != 1:
        listed = ", ".join(map(str, signature.inputs))
        raise UnsupportedError(f"the inputs do not share their first axis as a batch: {listed}")
    return int(sizes.pop())
