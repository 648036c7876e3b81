"""Average precision of detectors: by hand, against pycocotools fed by itself, and what goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from edgekit.data.boxes import Boxes, make_boxes
from edgekit.data.dataset import Dataset
from edgekit.errors import DataError, ModelError, UnsupportedError
from edgekit.quality.detections import Detections
from edgekit.quality.evaluate import evaluate
from edgekit.quality.matches import evaluate as coco_evaluate
from edgekit.quality.matches import match
from edgekit.quality.metrics import metric_of
from edgekit.quality.paired import drop_interval
from edgekit.results.eval import Evaluation, Outcomes
from edgekit.types import Array, Card, Feed, InputSpec, Signature, Task, TensorSpec


def scene(random: np.random.Generator, count: int, classes: int, crowds: float = 0.0) -> Boxes:
    corner = random.uniform(0, 60, (count, 2))
    boxes = np.concatenate([corner, corner + random.uniform(5, 40, (count, 2))], axis=1)
    return make_boxes(boxes, random.integers(0, classes, count), random.random(count) < crowds, (100, 100))


def guesses(random: np.random.Generator, truth: Boxes, classes: int, ties: bool = False) -> Detections:
    """Boxes near the true ones, and some that are nowhere near."""
    extra = scene(random, 4, classes)
    boxes = np.concatenate([truth.boxes + random.normal(0, 2, truth.boxes.shape), extra.boxes]).astype(np.float64)
    labels = np.concatenate([truth.labels, extra.labels])
    scores = random.random(len(labels))
    scores = np.round(scores, 1) if ties else scores
    order = np.argsort(-scores, kind="stable")
    return Detections(boxes[order], scores[order], labels[order])


@pytest.mark.parametrize("crowds", [0.0, 0.3])
def test_average_precision_is_what_pycocotools_says(crowds: float) -> None:
    random = np.random.default_rng(3)
    wanted = [scene(random, int(random.integers(0, 6)), 3, crowds) for _ in range(40)]
    found = [guesses(random, one, 3) for one in wanted]
    evaluated = coco_evaluate(wanted, found, 3)
    evaluated.accumulate()
    reference = evaluated.eval["precision"][:, :, :, 0, 2]  # overlaps, recalls, classes
    ours = match(wanted, found, 3).average_precision(np.ones(40))
    np.testing.assert_allclose(ours, reference.mean(axis=1), atol=1e-12)
    assert 0.05 < ours.mean() < 0.95


def test_weights_are_repeated_pictures() -> None:
    random = np.random.default_rng(4)
    wanted = [scene(random, 3, 2) for _ in range(12)]
    found = [guesses(random, one, 2) for one in wanted]
    drawn = random.integers(0, 12, 12)
    repeated = match([wanted[k] for k in drawn], [found[k] for k in drawn], 2).mean(np.ones(12))
    weighted = match(wanted, found, 2).mean(np.bincount(drawn, minlength=12).astype(float))
    assert weighted == pytest.approx(repeated, abs=1e-12)


class Detector:
    """Gives what is on the picture's first pixels: ``answers[value of pixel 0]`` by name."""

    def __init__(self, outputs: dict[str, Callable[[int], Array]], shapes: dict[str, tuple[int | str, ...]]) -> None:
        self.signature = Signature(
            (TensorSpec("image", "float32", (1, 3, 40, 40)),),
            tuple(TensorSpec(name, "float32", shape) for name, shape in shapes.items()),
        )
        self._outputs = outputs

    def run(self, feed: Feed) -> dict[str, Array]:
        which = round(float(feed["image"][0, 0, 0, 0]))
        return {name: answer(which)[None].astype(np.float32) for name, answer in self._outputs.items()}


TRUE = [
    make_boxes([[10, 20, 50, 60]], [0], size=(80, 80)),
    make_boxes([[0, 0, 20, 20], [40, 40, 80, 80]], [1, 0], size=(80, 80)),
]
"""Of pictures of 80 x 80, which are fed at 40 x 40."""


def data(**facts: object) -> Dataset:
    pictures = [np.full((80, 80, 3), k, np.uint8) for k in range(len(TRUE))]
    whole: dict[str, object] = {"classes": ("cat", "dog"), "answers": TRUE, **facts}
    return Dataset("own", "test", "image", {"image": pictures}, **whole)  # type: ignore[arg-type]


def card(**params: object) -> Card:
    contract = {"image": InputSpec("image", "NCHW", (40, 40), 3, 1.0)}
    task = Task("detection", ("cat", "dog"), "map", {"boxes": "xyxy", **params})
    return Card("net", "custom", task, Signature((), ()), contract)


def halves(which: int) -> tuple[Array, Array]:
    """The true boxes in the input's pixels, padded to three, and their scores by class."""
    boxes, scores = np.zeros((3, 4)), np.zeros((3, 2))
    boxes[: len(TRUE[which])] = TRUE[which].boxes / 2
    for k, label in enumerate(TRUE[which].labels):
        scores[k, label] = 0.9
    return boxes, scores


def two(**changed: Callable[[int], Array]) -> Detector:
    outputs = {"boxes": lambda k: halves(k)[0], "scores": lambda k: halves(k)[1], **changed}
    return Detector(outputs, {"boxes": (1, 3, 4), "scores": (1, 3, 2)})


def test_by_hand() -> None:
    found = evaluate(two(), data(), card())
    assert (found.metric, found.value, found.total) == ("map", pytest.approx(1.0), 2)
    assert found.details == {"map50": pytest.approx(1.0), "boxes": 3} and found.per_class == {"cat": 1.0, "dog": 1.0}
    # shifted by a quarter of its width, the dog's box overlaps by .6: right at .5, .55 and .6, which are 3 of 10
    shifted = np.array([[2.5, 0, 12.5, 10.0]])

    def moved(which: int) -> Array:
        boxes = halves(which)[0]
        boxes[0] = shifted if which == 1 else boxes[0]
        return boxes

    near = evaluate(two(boxes=moved), data(), card())
    assert near.per_class == {"cat": pytest.approx(1.0), "dog": pytest.approx(0.3)}
    assert near.value == pytest.approx(0.65) and near.details["map50"] == pytest.approx(1.0)
    at_half = metric_of("map50")(two(boxes=moved), data(), card(), None)
    assert (at_half.metric, at_half.value, at_half.per_class["dog"]) == ("map50", pytest.approx(1.0), 1.0)
    assert at_half.details["map"] == pytest.approx(0.65)


def same(found: Evaluation) -> None:
    assert found.value == pytest.approx(1.0)


def test_one_tensor_two_ways_round() -> None:
    for turned in (False, True):

        def rows(which: int, turned: bool = turned) -> Array:
            table = np.concatenate(halves(which), axis=1)
            return table.T if turned else table

        same(evaluate(Detector({"y": rows}, {"y": (1, 6, 3) if turned else (1, 3, 6)}), data(), card(rows="scores")))
        with pytest.raises(UnsupportedError, match=r'scores or class; say which in an io.toml: rows = "scores"'):
            evaluate(Detector({"y": rows}, {"y": (1, 6, 3)}), data(), card())


def test_objectness_is_multiplied() -> None:
    def rows(which: int) -> Array:
        boxes, scores = halves(which)
        logits = np.where(scores > 0, 4.0, -9.0)
        objectness = np.where(scores.max(1, keepdims=True) > 0, 3.0, -9.0)
        return np.concatenate([boxes, objectness, logits], axis=1)

    model = Detector({"y": rows}, {"y": (1, "n", 7)})
    same(evaluate(model, data(), card(activation="sigmoid")))
    with pytest.raises(ModelError, match='not shares of 1; say activation = "sigmoid" or "softmax"'):
        evaluate(model, data(), card())


@pytest.mark.parametrize("layout", ["cxcywh", "yxyx", "xywh", "yxhw"])
def test_layouts_and_shares(layout: str) -> None:
    def boxes(which: int) -> Array:
        left, top, right, bottom = (halves(which)[0] / 40).T
        width, height = right - left, bottom - top
        sides = {
            "cxcywh": (left + width / 2, top + height / 2, width, height),
            "yxyx": (top, left, bottom, right),
            "xywh": (left, top, width, height),
            "yxhw": (top + height / 2, left + width / 2, height, width),
        }
        return np.stack(sides[layout], axis=1)

    same(evaluate(two(boxes=boxes), data(), card(boxes=layout, normalized=True)))


def test_a_file_with_suppression_in_it() -> None:
    def labels(which: int) -> Array:
        return np.array([*TRUE[which].labels, 0, 0, 0])[:3]

    outputs = {
        "boxes": lambda k: halves(k)[0],
        "classes": lambda k: labels(k) + 1,
        "scores": lambda k: np.where(halves(k)[1].max(1) > 0, 0.9, 0.7),
        "number": lambda k: np.array(len(TRUE[k])),
    }
    model = Detector(outputs, {"boxes": (1, 3, 4), "classes": (1, 3), "scores": (1, 3), "number": (1,)})
    same(evaluate(model, data(), card(background="first")))
    with pytest.raises(ModelError, match=r'the class 2, and 2 are named .* background = "first"'):
        evaluate(model, data(), card())


def test_softmax_with_a_background() -> None:
    def scores(which: int) -> Array:
        known = halves(which)[1]
        return np.concatenate([np.where(known.max(1, keepdims=True) > 0, -5.0, 5.0), known * 5], axis=1)

    model = Detector({"b": lambda k: halves(k)[0], "s": scores}, {"b": (1, 3, 4), "s": (1, 3, 3)})
    same(evaluate(model, data(), card(activation="softmax", background="first")))


def test_overlapping_boxes_are_left_out() -> None:
    def boxes(which: int) -> Array:
        return np.concatenate([halves(which)[0]] * 2)

    def scores(which: int) -> Array:  # the cat of the first picture twice before that of the second one
        every = halves(which)[1]
        return (
            np.concatenate([every - 0.01, every - 0.02]).clip(0)
            if which == 0
            else np.concatenate([every / 2, 0 * every])
        )

    model = Detector({"boxes": boxes, "scores": scores}, {"boxes": (1, 6, 4), "scores": (1, 6, 2)})
    same(evaluate(model, data(), card()))
    # recall 1/2 at precision 1, then 2/3: 51 of the 101 recalls at 1, 50 at 2/3
    twice = evaluate(model, data(), card(nms=False))
    assert twice.per_class["cat"] == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_letterbox_and_centre_crop_are_undone() -> None:
    wide = [make_boxes([[60, 10, 90, 40]], [0], size=(50, 100))]
    pictures = [np.zeros((50, 100, 3), np.uint8)]
    for params, box in (({"letterbox": 114}, [24, 14, 36, 26]), ({"shorter": 40}, [28, 8, 52, 32])):
        given = replace(data(answers=wide), arrays={"image": pictures})
        contract = {"image": InputSpec("image", "NCHW", (40, 40), 3, 1.0, params=params)}
        described = Card("net", "custom", card().task, Signature((), ()), contract)
        placed = np.array(box, float)[None]
        model = Detector(
            {"boxes": lambda k, placed=placed: placed, "scores": lambda k: np.array([[0.9, 0.0]])},  # type: ignore[misc]
            {"boxes": (1, 1, 4), "scores": (1, 1, 2)},
        )
        same(evaluate(model, given, described))


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="how boxes are laid out is not said"):
        evaluate(two(), data(), Card("net", "custom", Task("detection", ("cat", "dog")), Signature((), ())))
    with pytest.raises(UnsupportedError, match=r"did you mean 'cxcywh'"):
        evaluate(two(), data(), card(boxes="cxywh"))
    with pytest.raises(DataError, match=r"own@test has no boxes; give coco:FILE.json"):
        evaluate(two(), data(answers=None), card())
    with pytest.raises(DataError, match="the classes horse, which the model does not know"):
        evaluate(two(), data(classes=("cat", "horse")), card())
    with pytest.raises(DataError, match="holds no box to find"):
        evaluate(two(), data(answers=[make_boxes([], []), make_boxes([], [])]), card())
    with pytest.raises(ModelError, match="NaN in 'scores'"):
        evaluate(two(scores=lambda k: np.full((3, 2), np.nan)), data(), card())
    with pytest.raises(UnsupportedError, match="no scores; export the scores as well"):
        evaluate(Detector({"boxes": lambda k: halves(k)[0]}, {"boxes": (1, 3, 4)}), data(), card(rows="scores"))


def test_other_order_of_classes_is_matched_by_name() -> None:
    turned = [Boxes(one.boxes, 1 - one.labels, one.crowd, one.size) for one in TRUE]
    same(evaluate(two(), data(classes=("dog", "cat"), answers=turned), card()))


def test_targets_of_a_function_are_dicts() -> None:
    given = [{"boxes": one.boxes.tolist(), "labels": one.labels} for one in TRUE]
    same(evaluate(two(), data(answers=given), card()))
    wrong = [{"boxes": [[5, 5, 5, 9]], "labels": [0]}, given[1]]
    with pytest.raises(DataError, match="sample 0 of own@test: the box 5, 5, 5, 9 has no size"):
        evaluate(two(), data(answers=wrong), card())


def test_interval_of_a_drop() -> None:
    random = np.random.default_rng(5)
    wanted = [scene(random, 3, 2) for _ in range(60)]

    def told(noise: float) -> Evaluation:
        noisy = np.random.default_rng(6)
        answers = [
            Detections(one.boxes + noisy.normal(0, noise, one.boxes.shape), noisy.random(len(one)), one.labels)
            for one in wanted
        ]
        matches = match(wanted, answers, 2)
        outcomes = Outcomes("detections", matches.counts, matches=matches.rows)
        return Evaluation("map", matches.mean(np.ones(60)), 60, "own", outcomes=outcomes)

    better, worse = told(0.5), told(2.0)
    low, high = drop_interval(better, worse) or (0.0, 0.0)
    assert 0 < low < better.value - worse.value < high
    assert drop_interval(better, better) == (0.0, 0.0)
