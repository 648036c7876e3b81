"""What a network that always gives the same answer would reach: a training that does not beat it went wrong."""

from __future__ import annotations

import logging

import numpy as np

from edgekit.data import Dataset, open_data
from edgekit.data.pixel_classes import IGNORED
from edgekit.results.eval import drop
from edgekit.types import Quality

log = logging.getLogger("edgekit")


def compare_with_constant(figures: tuple[Quality, ...]) -> None:
    """Warns where a figure does not exceed that of the best constant answer."""
    for found in figures:
        constant = _constant(found, open_data(found.data)) if found.metric in ("accuracy", "mae", "miou") else None
        if constant is None:
            continue
        answer, value = constant
        reached = Quality(found.metric, value, found.data, found.total, "", "", {}, found.lower_is_better)
        if drop(reached, found) >= 0:
            log.warning(
                "the training went wrong: %s %s on %s, and always answering %s gives %s; train longer (--epochs), give "
                "more or more balanced data, or another --lr",
                found.metric, _shown(found), found.data, answer, _shown(reached),
            )  # fmt: skip


def _shown(figure: Quality) -> str:
    return f"{figure.value:.4g}" if figure.lower_is_better else f"{100 * figure.value:.2f}%"


def _constant(figure: Quality, data: Dataset) -> tuple[str, float] | None:
    """The most frequent class, or the median, and what it reaches; None where the data do not say."""
    if figure.metric == "mae":
        known = data.targets if data.targets is not None else data.labels
        if known is None:
            return None
        values = np.asarray(known, np.float64).reshape(len(data), -1)
        return "the median", float(np.abs(values - np.median(values, axis=0)).mean())
    if figure.metric == "accuracy":
        if data.labels is None:
            return None
        counts = np.bincount(data.labels)
        return _name(data, int(counts.argmax())), float(counts.max() / counts.sum())
    if data.answers is None:
        return None
    counts = np.zeros(IGNORED + 1, np.int64)
    for mask in data.answers:
        values = np.asarray(mask)
        counts += np.bincount(np.clip(values, 0, IGNORED).ravel(), minlength=len(counts))
    counts = counts[:IGNORED]
    present = int((counts > 0).sum())
    return _name(data, int(counts.argmax())), float(counts.max() / max(counts.sum(), 1) / max(present, 1))


def _name(data: Dataset, index: int) -> str:
    return repr(data.classes[index] if index < len(data.classes) else str(index))
