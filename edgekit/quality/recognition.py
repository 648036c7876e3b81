"""Figures of embeddings, of sequences read by CTC, and of key points; from the outputs of any device, on the host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgekit.data.dataset import Dataset
from edgekit.data.pixels import placement
from edgekit.errors import DataError, ModelError, UnsupportedError
from edgekit.quality.average_precision import fed_size
from edgekit.quality.evaluate import Runs, model_batches
from edgekit.quality.metrics import gathered, targets_of
from edgekit.quality.paired import parts_of
from edgekit.results.eval import Evaluation
from edgekit.types import Array, Card

_RANKS = (1, 5)
_MOST = 20_000
"""Samples whose embeddings are compared pair by pair."""
_PAIRS_AT_ONCE = 2**24
_NEAR = 0.2
"""Distance of a right key point, as a share of the larger side of the box around all of its sample: PCK@0.2."""


def embedding(runner: Runs, dataset: Dataset, card: Card | None, limit: int | None) -> Evaluation:
    """Recall at 1 and 5, and the equal error rate of verification, by the cosine of embeddings of labelled samples.

    A sample is found at k where one of the k nearest others has its label; a label of one sample is looked for among
    nobody. The equal error rate is that of the threshold at which as many pairs of one label are rejected as pairs of
    two are accepted. Labels need not be the network's classes: people or places that it never saw.

    Raises:
        DataError: no labels, no label with two samples, or too many samples to compare pair by pair.
        UnsupportedError: no output is a vector a sample.
        ModelError: the model gives NaN.
    """
    if dataset.labels is None:
        raise DataError(f"{dataset.label} has no labels; embeddings are judged by which samples belong together")
    labels = np.asarray(targets_of(dataset, limit))
    if len(labels) > _MOST:
        raise DataError(f"{len(labels):,} embeddings are too many to compare pair by pair; give --limit {_MOST}")
    _, counts = np.unique(labels, return_counts=True)
    if len(counts) < 2 or counts.max() < 2:
        raise DataError(
            f"{dataset.label} needs two labels or more, and two samples of one of them, to judge embeddings"
        )
    with gathered(runner, dataset, card, len(labels)) as outputs:
        name = next((n for n, rows in outputs.items() if rows[0].size > 1), None)
        if name is None:
            raise UnsupportedError("no output of the model is a vector a sample; an embedding has two values or more")
        vectors = np.asarray(outputs[name], np.float64).reshape(len(labels), -1)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)

    def figures(kept: Array) -> dict[str, float]:
        return _of_vectors(vectors[kept], labels[kept])

    whole = figures(np.ones(len(labels), bool))
    value = whole.pop("recall_at_1")
    parts = parts_of(len(labels), figures)
    return Evaluation("recall_at_1", value, len(labels), dataset.label, details=whole, parts=parts)


def _of_vectors(vectors: Array, labels: Array) -> dict[str, float]:
    found = dict.fromkeys(_RANKS, 0)
    edges = np.linspace(-1, 1, 4002)[1:-1]
    same, other = np.zeros(len(edges) + 1), np.zeros(len(edges) + 1)  # pairs by their cosine
    asked = 0
    step = max(1, _PAIRS_AT_ONCE // len(vectors))
    for start in range(0, len(vectors), step):
        cosine = np.clip(vectors[start : start + step] @ vectors.T, -1, 1)
        rows = np.arange(len(cosine))
        mine = labels[start : start + step, None] == labels
        mine[rows, rows + start] = False
        bins = np.digitize(cosine, edges)
        same += np.bincount(bins[mine], minlength=len(same))
        apart = labels[start : start + step, None] != labels
        other += np.bincount(bins[apart], minlength=len(other))
        cosine[rows, rows + start] = -np.inf
        there = mine.any(axis=1)
        asked += int(there.sum())
        order = np.argsort(-cosine[there], axis=1, kind="stable")[:, : max(_RANKS)]
        right = np.take_along_axis(mine[there], order, axis=1)
        for rank in _RANKS:
            found[rank] += int(right[:, :rank].any(axis=1).sum())
    if not asked or not other.sum():
        return {}
    rejected = np.concatenate([[0], np.cumsum(same)]) / same.sum()
    accepted = 1 - np.concatenate([[0], np.cumsum(other)]) / other.sum()
    at = int(np.argmin(np.abs(rejected - accepted)))
    return {
        **{f"recall_at_{rank}": count / asked for rank, count in found.items()},
        "eer": float((rejected[at] + accepted[at]) / 2),
    }


def ctc(runner: Runs, dataset: Dataset, card: Card | None, limit: int | None) -> Evaluation:
    """Character and word error rate of sequences decoded greedily: the best class of each step, repeats merged, blanks
    left out (Graves et al. 2006).

    The output is (batch, steps, classes). ``blank`` of the card is the index of the blank, 0 without it (-1: the last);
    its labels are the characters of the classes. Targets are texts, or the class indices of each sample.

    Raises:
        DataError: targets of another kind, or characters that the model has not.
        UnsupportedError: no output is a sequence of scores, or its classes are not the labels of the card.
        ModelError: the model gives NaN.
    """
    from torchmetrics.functional.text import edit_distance

    wanted = targets_of(dataset, limit)
    total = len(wanted)
    labels = card.task.labels if card is not None else ()
    blank = int(card.task.params.get("blank", 0)) if card is not None else 0
    outputs = [spec for spec in runner.signature.outputs if len(spec.shape) == 3]
    if not outputs:
        raise UnsupportedError("CTC reads scores (batch, steps, classes), and no output of the model has three axes")
    texts = [_text(one, labels, dataset) for one in wanted]
    contract = card.contract if card is not None else {}
    decoded: list[str] = []
    for feed, count in model_batches(runner.signature, dataset, contract, total):
        scores = np.asarray(runner.run(feed)[outputs[0].name])
        if np.isnan(scores).any():
            raise ModelError(f"the model gives NaN in {outputs[0].name!r} on {dataset.label}")
        if labels and scores.shape[-1] != len(labels):
            raise UnsupportedError(
                f"output {outputs[0].name!r} has {scores.shape[-1]} classes and the card {len(labels)} labels; the "
                "blank is one of them"
            )
        decoded += [_greedy(row, blank % scores.shape[-1], labels) for row in scores[:count]]
    edits = np.array([_edits(a, b, edit_distance) for a, b in zip(decoded, texts, strict=True)])
    words = np.array([_edits(*_as_words(a, b), edit_distance) for a, b in zip(decoded, texts, strict=True)])
    sizes = np.array([(len(text), len(text.split())) for text in texts])
    if not sizes[:, 0].sum():
        raise DataError(f"the targets of {dataset.label} are empty texts")

    def figures(kept: Array) -> dict[str, float]:
        rates = np.array([edits[kept].sum(), words[kept].sum()]) / np.maximum(sizes[kept].sum(0), 1)
        return {"cer": float(rates[0]), "wer": float(rates[1])}

    whole = figures(np.ones(total, bool))
    value, parts = whole.pop("cer"), parts_of(total, figures)
    return Evaluation("cer", value, total, dataset.label, details=whole, lower_is_better=True, parts=parts)


def _text(target: object, labels: Sequence[str], dataset: Dataset) -> str:
    if isinstance(target, str):
        strange = sorted(set(target) - set("".join(labels))) if labels else []
        if strange:
            raise DataError(f"a target of {dataset.label} holds {strange[0]!r}, which is not among the model's labels")
        return target
    indices = np.asarray(target)
    if indices.ndim != 1 or indices.dtype.kind not in "iu":
        raise DataError(f"the targets of {dataset.label} are neither texts nor rows of class indices")
    if labels and len(indices) and not 0 <= indices.min() <= indices.max() < len(labels):
        raise DataError(f"a target of {dataset.label} has the class {indices.max()}, the model has {len(labels)}")
    return _spelled(indices, labels)


def _greedy(scores: Array, blank: int, labels: Sequence[str]) -> str:
    best = scores.argmax(axis=-1)
    kept = np.concatenate([[True], best[1:] != best[:-1]]) & (best != blank)
    return _spelled(best[kept], labels)


def _spelled(indices: Array, labels: Sequence[str]) -> str:
    return "".join(labels[k] if labels else chr(0x100 + int(k)) for k in indices)


def _as_words(a: str, b: str) -> tuple[str, str]:
    """Two texts with a character of its own for each of their words."""
    known: dict[str, str] = {}
    given, right = ("".join(known.setdefault(w, chr(0x100 + len(known))) for w in text.split()) for text in (a, b))
    return given, right


def _edits(a: str, b: str, distance: object) -> int:
    """Insertions, deletions and substitutions that make ``b`` of ``a``."""
    if not a or not b:
        return len(a) + len(b)
    return int(distance(a, b, reduction="sum"))  # type: ignore[operator]


def keypoints(runner: Runs, dataset: Dataset, card: Card | None, limit: int | None) -> Evaluation:
    """Share of key points that lie within a fifth of the larger side of their sample's box (PCK@0.2; Yang and Ramanan,
    2013), or ``threshold`` of the card in place of it; with the mean distance in pixels of the picture.

    The output is (batch, points, 2 or 3) or (batch, 2 x points): x and y in pixels of the input, shares of its size
    where the card says ``normalized``; a map a point, (batch, points, height, width), counts by its largest value.
    Targets are (points, 2) in pixels of the raw picture, or (points, 3) with 0 for those that are not to be seen.

    Raises:
        DataError: other targets, or another number of points than the model has.
        UnsupportedError: no output is points.
        ModelError: the model gives NaN.
    """
    wanted = [np.asarray(one, np.float64) for one in targets_of(dataset, limit)]
    for one in wanted:
        if one.ndim != 2 or one.shape[1] not in (2, 3) or one.shape != wanted[0].shape:
            raise DataError(f"a target of {dataset.label} has the shape {one.shape}; key points are (points, 2 or 3)")
    contract = card.contract if card is not None else {}
    params: Mapping[str, object] = card.task.params if card is not None else {}
    pictures = next(iter(dataset.arrays.values()))
    rule = next((one for one in contract.values() if one.kind == "image"), None)
    near, points = float(params.get("threshold", _NEAR)), len(wanted[0])  # type: ignore[arg-type]
    right, seen, away = (np.zeros((len(wanted), points)) for _ in range(3))
    done = 0
    for feed, count in model_batches(runner.signature, dataset, contract, len(wanted)):
        outputs = runner.run(feed)
        for row in range(count):
            target = wanted[done]
            size = None if rule is None else fed_size(feed, contract)
            found = _points(outputs, row, points, size, bool(params.get("normalized", False)))
            if rule is not None and size is not None:
                picture = np.asarray(pictures[done]).shape[:2]
                place = placement((picture[0], picture[1]), size, rule.params)
                found = place.to_picture(np.tile(found, 2), (picture[0], picture[1]))[:, :2]
            there = target[:, 2] > 0 if target.shape[1] == 3 else np.ones(points, bool)
            box = np.ptp(target[there, :2], axis=0).max() if there.any() else 0.0
            distance = np.linalg.norm(found - target[:, :2], axis=1)
            right[done], seen[done], away[done] = (distance <= near * box) & there, there, distance * there
            done += 1
    if not seen.any():
        raise DataError(f"no key point of {dataset.label} is to be seen")

    def figures(kept: Array) -> dict[str, float]:
        count = max(seen[kept].sum(), 1)
        return {"pck": float(right[kept].sum() / count), "mean_distance": float(away[kept].sum() / count)}

    whole, labels = figures(np.ones(len(wanted), bool)), card.task.labels if card is not None else ()
    names = labels if len(labels) == points else tuple(map(str, range(points)))
    per_class = {n: float(right[:, k].sum() / seen[:, k].sum()) for k, n in enumerate(names) if seen[:, k].any()}
    value, parts = whole.pop("pck"), parts_of(len(wanted), figures)
    return Evaluation("pck", value, len(wanted), dataset.label, per_class=per_class, details=whole, parts=parts)


def _points(
    outputs: Mapping[str, Array], row: int, points: int, size: tuple[int, int] | None, normalized: bool
) -> Array:
    """x and y of each point in pixels of the input, float64 (points, 2)."""
    for name, values in outputs.items():
        one = np.asarray(values[row], np.float64) if values.ndim > 1 else np.zeros(0)
        if np.isnan(one).any():
            raise ModelError(f"the model gives NaN in {name!r}")
        if one.ndim == 3 and len(one) != points and one.shape[2] == points:
            one = one.transpose(2, 0, 1)  # maps of a channels-last file
        if one.ndim == 3 and len(one) == points:
            flat = one.reshape(points, -1).argmax(1)
            found = np.stack([flat % one.shape[2], flat // one.shape[2]], 1) + 0.5
            scale = np.array([size[1] / one.shape[2], size[0] / one.shape[1]]) if size else 1.0
            result: Array = found * scale
            return result
        if one.size in (2 * points, 3 * points) and one.ndim in (1, 2):
            found = one.reshape(points, -1)[:, :2]
            return found * np.array([size[1], size[0]]) if normalized and size else found
    shown = ", ".join(f"{name} {tuple(np.shape(values))}" for name, values in outputs.items())
    raise UnsupportedError(f"no output of the model gives {points} key points; it gives {shown}")
