"""Embeddings, CTC and key points against scikit-learn, torchmetrics and values by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_curve
from torchmetrics.functional.text import char_error_rate, word_error_rate

from edgekit.data.dataset import Dataset
from edgekit.errors import DataError, ModelError, UnsupportedError
from edgekit.quality.evaluate import evaluate
from edgekit.quality.metrics import metric_of
from edgekit.types import Array, Card, Feed, InputSpec, Signature, Task, TensorSpec

RANDOM = np.random.default_rng(0)


class Model:
    """Gives what ``answer`` makes of the input ``x``, one sample a run."""

    def __init__(self, answer: Callable[[Array], Array], into: tuple[int, ...], out: tuple[int, ...]) -> None:
        self.signature = Signature((TensorSpec("x", "float32", into),), (TensorSpec("y", "float32", out),))
        self._answer = answer

    def run(self, feed: Feed) -> dict[str, Array]:
        return {"y": self._answer(feed["x"])}


def arrays(x: Array, **facts: Any) -> Dataset:
    return Dataset("own", "test", "array", {"x": x}, **facts)


def card(model: Model, kind: str, labels: tuple[str, ...] = (), **params: Any) -> Card:
    return Card("net", "custom", Task(kind, labels, params=params), model.signature)


def test_embeddings_are_what_a_full_matrix_says() -> None:
    labels = RANDOM.integers(0, 12, 150)
    x = (RANDOM.normal(size=(12, 8))[labels] + 1.2 * RANDOM.normal(size=(150, 8))).astype(np.float32)
    model = Model(lambda rows: rows * 3, (1, 8), (1, 8))
    found = evaluate(model, arrays(x, labels=labels), card(model, "embedding"))
    unit = x.astype(np.float64) / np.linalg.norm(x, axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -2)
    order = np.argsort(-cosine, axis=1)
    assert found.metric == "recall_at_1" and not found.lower_is_better
    assert found.value == pytest.approx((labels[order[:, 0]] == labels).mean())
    assert found.details["recall_at_5"] == pytest.approx((labels[order[:, :5]] == labels[:, None]).any(1).mean())
    pairs = np.triu_indices(150, 1)
    false, true, _ = roc_curve(labels[pairs[0]] == labels[pairs[1]], cosine[pairs])
    at = np.argmin(np.abs(1 - true - false))
    # a bin of the cosine is 0.0005 wide
    assert found.details["eer"] == pytest.approx((1 - true[at] + false[at]) / 2, abs=2e-3)
    named = metric_of("eer")(model, arrays(x, labels=labels), card(model, "embedding"), None)
    assert named.lower_is_better and named.value == found.details["eer"] and len(named.parts["eer"]) == 20


@pytest.mark.parametrize(
    ("labels", "words"), [(None, "no labels"), (np.arange(6), "two samples of one"), (np.zeros(6, int), "two labels")]
)
def test_embeddings_without_pairs(labels: Array | None, words: str) -> None:
    model = Model(lambda rows: rows, (1, 3), (1, 3))
    with pytest.raises(DataError, match=words):
        evaluate(model, arrays(np.eye(6, 3, dtype=np.float32), labels=labels), card(model, "embedding"))


def test_an_embedding_of_one_value() -> None:
    model = Model(lambda rows: rows[:, :1], (1, 3), (1, 1))
    with pytest.raises(UnsupportedError, match="vector a sample"):
        evaluate(model, arrays(np.ones((4, 3), np.float32), labels=np.array([0, 0, 1, 1])), card(model, "embedding"))


ALPHABET = ("_", "a", "b", "c", " ")


def sequence(text: str, blank: int = 0) -> Array:
    """Scores of 16 steps that are read as ``text``: every character twice where there is room, blanks between."""
    steps: list[int] = []
    for character in text:
        steps += [ALPHABET.index(character)] * 2 + [blank]
    return np.eye(5, dtype=np.float32)[(steps + [blank] * 16)[:16]]


def test_ctc_is_what_torchmetrics_says_of_the_texts() -> None:
    read = ["ab c", "aab", "", "c a", "abc"]
    wanted = ["ab c", "ab", "ca", "c a b", "cbc"]
    model = Model(lambda rows: rows, (1, 16, 5), (1, 16, 5))
    data = arrays(np.stack([sequence(text) for text in read]), answers=wanted)
    found = evaluate(model, data, card(model, "ctc", ALPHABET))
    assert found.metric == "cer" and found.lower_is_better
    assert found.value == pytest.approx(float(char_error_rate(read, wanted)))
    assert found.details["wer"] == pytest.approx(float(word_error_rate(read, wanted)))
    indices = arrays(data.arrays["x"], answers=[np.array([ALPHABET.index(c) for c in text], int) for text in wanted])
    assert evaluate(model, indices, card(model, "ctc", ALPHABET)).value == found.value
    last = np.roll(np.asarray(data.arrays["x"]), -1, axis=2)  # the blank is the last class
    moved = evaluate(model, arrays(last, answers=wanted), card(model, "ctc", (*ALPHABET[1:], "_"), blank=-1))
    assert moved.value == found.value


def test_ctc_refuses_what_does_not_fit() -> None:
    model = Model(lambda rows: rows, (1, 16, 5), (1, 16, 5))
    data = arrays(sequence("ab")[None], answers=["xy"])
    with pytest.raises(DataError, match="holds 'x', which is not among the model's labels"):
        evaluate(model, data, card(model, "ctc", ALPHABET))
    with pytest.raises(UnsupportedError, match="5 classes and the card 3 labels"):
        evaluate(model, arrays(sequence("ab")[None], answers=["ab"]), card(model, "ctc", ("_", "a", "b")))
    with pytest.raises(DataError, match="neither texts nor rows"):
        evaluate(model, arrays(sequence("ab")[None], answers=[1.5]), card(model, "ctc", ALPHABET))
    broken = Model(lambda rows: rows * np.nan, (1, 16, 5), (1, 16, 5))
    with pytest.raises(ModelError, match="NaN"):
        evaluate(broken, arrays(sequence("ab")[None], answers=["ab"]), card(broken, "ctc", ALPHABET))


def pointed(model: Model, picture: tuple[int, int], layout: str = "NCHW", **params: Any) -> tuple[Dataset, Card]:
    """One picture twice, with three points of which the last is hidden in the second sample."""
    images = np.zeros((2, *picture, 3), np.uint8)
    points = np.array([[10.0, 20, 1], [30, 20, 1], [10, 40, 1]])
    hidden = points.copy()
    hidden[2, 2] = 0
    size = model.signature.inputs[0].shape[2:] if layout == "NCHW" else model.signature.inputs[0].shape[1:3]
    contract = {"x": InputSpec("image", layout=layout, channels=3, size=(int(size[0]), int(size[1])))}
    told = Card("net", "custom", Task("keypoints", ("eye", "ear", "nose"), params=params), model.signature, contract)
    return Dataset("own", "test", "image", {"x": images}, answers=[points, hidden]), told


def test_key_points_are_brought_back_to_the_picture() -> None:
    """A picture of 80 x 60 in an input of 40 x 40: x shrinks by 2/3, y by a half."""
    answer = np.array([[10 * 2 / 3, 10, 30 * 2 / 3 + 3, 10, 10 * 2 / 3, 20 + 1.5]], np.float32)
    model = Model(lambda rows: answer, (1, 3, 40, 40), (1, 6))
    data, told = pointed(model, (80, 60))
    found = evaluate(model, data, told)
    # boxes are 20 pixels large in both samples: 4 are near; the ear is off by 4.5 in x, the nose by 3 in y
    assert found.value == pytest.approx(3 / 5)
    assert found.per_class == {"eye": 1.0, "ear": 0.0, "nose": 1.0}
    assert found.details["mean_distance"] == pytest.approx((4.5 + 4.5 + 3) / 5, abs=1e-4)
    data, told = pointed(model, (80, 60), threshold=0.3)
    assert evaluate(model, data, told).value == 1.0


def test_maps_and_shares_are_points_too() -> None:
    maps = np.zeros((1, 3, 20, 20), np.float32)
    for k, (x, y) in enumerate([(3, 5), (10, 5), (3, 10)]):  # cells of 2 x 2 pixels of the input
        maps[0, k, y, x] = 1
    model = Model(lambda rows: maps, (1, 3, 40, 40), (1, 3, 20, 20))
    data, told = pointed(model, (80, 60))
    found = evaluate(model, data, told)
    assert found.value == 1.0 and found.details["mean_distance"] < 2.5
    last = Model(lambda rows: maps.transpose(0, 2, 3, 1), (1, 40, 40, 3), (1, 20, 20, 3))
    assert evaluate(last, *pointed(last, (80, 60), "NHWC")).details == found.details
    shares = np.array([[[10 / 60, 20 / 80], [30 / 60, 20 / 80], [10 / 60, 40 / 80]]], np.float32)
    model = Model(lambda rows: shares, (1, 3, 40, 40), (1, 3, 2))
    found = evaluate(model, *pointed(model, (80, 60), normalized=True))
    assert found.details["mean_distance"] == pytest.approx(0, abs=1e-4)


def test_key_points_that_do_not_fit() -> None:
    model = Model(lambda rows: np.zeros((1, 4), np.float32), (1, 3, 40, 40), (1, 4))
    data, told = pointed(model, (80, 60))
    with pytest.raises(UnsupportedError, match="3 key points; it gives y"):
        evaluate(model, data, told)
    data, told = pointed(model, (80, 60))
    odd = Dataset("own", "test", "image", data.arrays, answers=[np.zeros((3, 4)), np.zeros((3, 4))])
    with pytest.raises(DataError, match=r"has the shape \(3, 4\)"):
        evaluate(model, odd, told)
