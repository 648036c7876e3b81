"""Figures of tasks beyond the zoo's, against values by hand or by scikit-learn, and metrics of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, r2_score

from edgekit.data.dataset import Dataset
from edgekit.errors import DataError, ModelError, UnsupportedError, UsageError
from edgekit.quality import metrics
from edgekit.quality.evaluate import evaluate
from edgekit.quality.metrics import metric_of
from edgekit.types import Array, Card, Feed, InputSpec, Signature, Task, TensorSpec

RANDOM = np.random.default_rng(0)


class Model:
    """Gives what ``answer`` makes of the input ``x``, one sample a run."""

    def __init__(
        self, answer: Callable[[Array], Array], shape: tuple[int, ...], into: tuple[int, ...] = (1, 2)
    ) -> None:
        self.signature = Signature((TensorSpec("x", "float32", into),), (TensorSpec("y", "float32", shape),))
        self._answer = answer

    def run(self, feed: Feed) -> dict[str, Array]:
        return {"y": self._answer(feed["x"])}


def arrays(x: Array, **facts: Any) -> Dataset:
    return Dataset("own", "test", "array", {"x": x}, **facts)


def card(model: Model, kind: str, labels: Sequence[str] = (), **params: Any) -> Card:
    return Card("net", "custom", Task(kind, tuple(labels), params=params), model.signature)


def test_regression_is_what_scikit_learn_says() -> None:
    x = RANDOM.normal(size=(40, 2)).astype(np.float32)
    wanted = (x[:, :1] * 2 + RANDOM.normal(size=(40, 1))).astype(np.float32)
    model = Model(lambda rows: rows[:, :1] * 2, (1, 1))
    found = evaluate(model, arrays(x, targets=wanted), card(model, "regression"))
    wrong = x[:, :1] * 2 - wanted
    assert found.metric == "mae" and found.lower_is_better
    assert found.value == pytest.approx(np.abs(wrong).mean(), rel=1e-6)
    assert found.details["rmse"] == pytest.approx(np.sqrt((wrong**2).mean()), rel=1e-6)
    assert found.details["r2"] == pytest.approx(r2_score(wanted, x[:, :1] * 2), rel=1e-5)
    named = metric_of("r2")(model, arrays(x, targets=wanted), card(model, "regression"), None)
    assert (named.metric, named.lower_is_better) == ("r2", False)
    assert named.value == found.details["r2"] and named.details["mae"] == found.value


def test_several_labels_are_what_scikit_learn_says() -> None:
    x = RANDOM.normal(size=(60, 3)).astype(np.float32)
    wanted = (x + RANDOM.normal(size=(60, 3)) > 0.3).astype(np.int64)
    model = Model(lambda rows: rows, (1, 3), (1, 3))
    found = evaluate(model, arrays(x, answers=list(wanted)), card(model, "multilabel", "abc"))
    each = f1_score(wanted, x > 0, average=None)
    assert found.per_class == pytest.approx(dict(zip("abc", each, strict=True)))
    assert found.value == pytest.approx(each.mean())
    assert found.details["average_precision"] == pytest.approx(average_precision_score(wanted, x, average="macro"))
    stricter = evaluate(model, arrays(x, answers=list(wanted)), card(model, "multilabel", "abc", threshold=0.9))
    assert stricter.value == pytest.approx(f1_score(wanted, 1 / (1 + np.exp(-x)) > 0.9, average="macro"))
    shares = Model(lambda rows: 1 / (1 + np.exp(-rows)), (1, 3), (1, 3))
    for said in ({"scores": "probabilities"}, {"activation": "sigmoid"}):  # the latter: in older cards
        same = evaluate(
            shares, arrays(x, answers=list(wanted)), card(shares, "multilabel", "abc", threshold=0.9, **said)
        )
        assert same.value == pytest.approx(stricter.value)


def test_figures_without_a_group_of_samples() -> None:
    """What intervals stand on: the same figure of the other samples."""
    x = RANDOM.normal(size=(60, 3)).astype(np.float32)
    wanted = (x + RANDOM.normal(size=(60, 3)) > 0.3).astype(np.int64)
    model = Model(lambda rows: rows, (1, 3), (1, 3))
    found = evaluate(model, arrays(x, answers=list(wanted)), card(model, "multilabel", "abc"))
    kept = np.arange(60) % 20 != 7
    assert found.parts["f1"][7] == pytest.approx(f1_score(wanted[kept], x[kept] > 0, average="macro"))
    masks = [RANDOM.integers(0, 3, (4, 5)) for _ in range(40)]
    pictures = RANDOM.normal(size=(40, 3, 4, 5)).astype(np.float32)
    mapped = Model(lambda rows: rows, (1, 3, 4, 5), (1, 3, 4, 5))
    about = card(mapped, "segmentation", "abc")
    whole = evaluate(mapped, arrays(pictures, answers=masks), about)
    kept = np.arange(40) % 20 != 7
    part = evaluate(mapped, arrays(pictures[kept], answers=[masks[k] for k in np.flatnonzero(kept)]), about)
    assert whole.parts["miou"][7] == part.value and whole.parts["dice"][7] == part.details["dice"]


def test_a_metric_of_ones_own_is_computed_on_parts_where_it_can_be(own: Callable[[str], str]) -> None:
    x = RANDOM.normal(size=(40, 2)).astype(np.float32)
    model, data = Model(lambda rows: rows, (1, 2)), arrays(x, targets=x[:, 0])
    found = metric_of(own("def score(o, t):\n    return float(o['y'][:, 0].max() + len(t))\n"))(model, data, None, None)
    kept = np.arange(40) % 20 != 3
    assert found.parts["score"][3] == pytest.approx(x[kept, 0].max() + 38)
    picky = own("def picky(o, t):\n    return 1.0 if len(t) == 40 else float('nan')\n").replace(":score", ":picky")
    whole = metric_of(picky)(model, data, None, None)
    assert whole.value == 1.0 and not whole.parts


def maps(flip: bool = False) -> tuple[Dataset, Model]:
    """Three pixels in a row of two classes, the third right in one sample of two; the last one counts nowhere."""
    x = np.array([[[[0.0, 0.0, 1.0, 1.0]]], [[[0.0, 0.0, 0.0, 1.0]]]], np.float32)
    masks = [np.array([[0, 0, 1, 255]]), np.array([[0, 0, 1, 255]])]

    def answer(rows: Array) -> Array:
        scores = np.concatenate([1 - rows, rows], axis=1)
        return scores.transpose(0, 2, 3, 1) if flip else scores

    return arrays(x, answers=masks), Model(answer, (1, 1, 4, 2) if flip else (1, 2, 1, 4), (1, 1, 1, 4))


@pytest.mark.parametrize("flip", [False, True], ids=["scores-first", "scores-last"])
def test_overlap_of_masks(flip: bool) -> None:
    data, model = maps(flip)
    found = evaluate(model, data, card(model, "segmentation", ["sky", "road"]))
    # class 0: 4 right of 5 found and 4 there; class 1: 1 right of 1 found and 2 there
    assert found.per_class == pytest.approx({"sky": 4 / 5, "road": 1 / 2})
    assert found.value == pytest.approx((4 / 5 + 1 / 2) / 2)
    assert found.details["dice"] == pytest.approx((8 / 9 + 2 / 3) / 2)
    assert found.details["pixel_accuracy"] == pytest.approx(5 / 6)


def test_one_score_a_pixel_is_a_sign() -> None:
    data, _ = maps()
    model = Model(lambda rows: rows - 0.5, (1, 1, 1, 4), (1, 1, 1, 4))
    assert evaluate(model, data, card(model, "segmentation")).value == pytest.approx((4 / 5 + 1 / 2) / 2)


def test_masks_with_a_class_that_the_model_has_not() -> None:
    data, model = maps()
    wrong = arrays(np.asarray(data.arrays["x"]), answers=[np.array([[0, 0, 7, 0]])] * 2)
    with pytest.raises(DataError, match="mask 0 of own@test has the class 7, the model has 2"):
        evaluate(model, wrong, card(model, "segmentation"))
    with pytest.raises(UnsupportedError, match="needs an output of 4 axes"):
        flat = Model(lambda rows: rows, (1, 4), (1, 1, 1, 4))
        evaluate(flat, data, card(flat, "segmentation"))
    with pytest.raises(DataError, match="has no masks"):
        evaluate(model, arrays(np.zeros((2, 1, 1, 4), np.float32)), card(model, "segmentation"))


@pytest.fixture
def own(tmp_path: Path) -> Callable[[str], str]:
    def write(body: str) -> str:
        (tmp_path / "m.py").write_text(body)
        return f"{tmp_path / 'm.py'}:score"

    return write


def test_a_metric_of_ones_own_sees_the_whole_split_once(own: Callable[[str], str]) -> None:
    x = RANDOM.normal(size=(5, 2)).astype(np.float32)
    spelled = own(
        "calls = []\ndef score(outputs, targets):\n    calls.append(1)\n    assert len(calls) == 1\n"
        "    assert outputs['y'].shape == (5, 2) and len(targets) == 5\n"
        "    return abs(outputs['y'] - [t['box'] for t in targets]).max()\nscore.lower_is_better = True\n"
    )
    model = Model(lambda rows: rows, (1, 2))
    found = metric_of(spelled)(model, arrays(x, answers=[{"box": row + 0.25} for row in x]), None, None)
    assert (found.metric, found.total, found.lower_is_better) == ("score", 5, True)
    assert found.value == pytest.approx(0.25, abs=1e-6)


def test_labels_reach_it_as_the_model_counts_them(own: Callable[[str], str]) -> None:
    """A folder in another order than the model's labels."""
    spelled = own("def score(outputs, targets):\n    return float((outputs['y'].argmax(1) == targets).mean())\n")
    model = Model(lambda rows: rows, (1, 2))
    data = arrays(np.eye(2, dtype=np.float32), labels=np.array([1, 0]), classes=("dog", "cat"))
    about = card(model, "classification", ["cat", "dog"])
    assert metric_of(spelled)(model, data, about, None).value == 1.0


def test_masks_of_other_classes_are_refused() -> None:
    data, model = maps()
    other = arrays(np.asarray(data.arrays["x"]), answers=data.answers, classes=("road", "sky"))
    with pytest.raises(DataError, match="both need the same names in the same order"):
        evaluate(model, other, card(model, "segmentation", ["sky", "road"]))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("def score(o, t): raise ValueError('empty')", r"m\.py:1 in score: ValueError: empty"),
        ("def score(o, t): return float('nan')", "gave nan on own@test"),
        ("def score(o, t): return o['y']", r"gave an array of shape \(3, 2\); a metric gives one number"),
        ("def score(o, t): return None", "gave None; a metric gives one number"),
        ("def score(o): return 1.0", "TypeError"),
        ("score = 3", "is an int; a metric is a function"),
        ("def other(o, t): return 1.0", "has no 'score'"),
        ("import no_such_module", "ModuleNotFoundError"),
    ],
)
def test_metrics_that_are_none(own: Callable[[str], str], body: str, words: str) -> None:
    model = Model(lambda rows: rows, (1, 2))
    with pytest.raises(DataError, match=words):
        metric_of(own(body))(model, arrays(np.zeros((3, 2), np.float32), labels=np.zeros(3, np.int64)), None, None)


def test_names_of_figures() -> None:
    with pytest.raises(UsageError, match="no metric is called 'acc'; there are: accuracy, miou"):
        metric_of("acc")
    model = Model(lambda rows: rows, (1, 2))
    with pytest.raises(UnsupportedError, match="no figure of merit for depth; name one of your own"):
        evaluate(model, arrays(np.zeros((3, 2), np.float32)), card(model, "depth"))


def test_outputs_that_cannot_be_compared() -> None:
    data = arrays(np.ones((3, 2), np.float32), targets=np.zeros((3, 3), np.float32))
    model = Model(lambda rows: rows, (1, 2))
    with pytest.raises(ModelError, match="has 2 values a sample, the targets of own@test 3"):
        evaluate(model, data, card(model, "regression"))
    broken = Model(lambda rows: rows * np.nan, (1, 2))
    with pytest.raises(ModelError, match="NaN in 'y'"):
        evaluate(broken, data, card(broken, "regression"))


def test_outputs_beyond_memory_lie_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_IN_MEMORY", 8)
    x = RANDOM.normal(size=(5, 2)).astype(np.float32)
    model = Model(lambda rows: rows, (1, 2))
    with metrics.gathered(model, arrays(x), None, 5) as outputs:
        assert isinstance(outputs["y"], np.memmap)
        np.testing.assert_array_equal(outputs["y"], x)


def test_pictures_reach_the_model_as_its_contract_says() -> None:
    rule = InputSpec("image", "NCHW", (2, 2), 3, 1 / 255, params={"color": "BGR"})
    model = Model(lambda rows: rows[:, :, 0, 0], (1, 3), (1, 3, 2, 2))
    about = Card("net", "custom", Task("regression"), model.signature, {"x": rule})
    red = np.zeros((1, 2, 2, 3), np.uint8)
    red[..., 0] = 255
    data = Dataset("own", "test", "image", {"image": red}, targets=np.array([[0.0, 0.0, 1.0]], np.float32))
    assert evaluate(model, data, about).value == 0.0


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (("cat", "cow"), "has the classes cow, which the model does not know; it knows cat, dog, bird"),
        (("oak", "elm"), "has the classes oak, elm, which the model does not know"),
    ],
)
def test_classes_are_matched_by_name_or_refused(classes: tuple[str, ...], words: str) -> None:
    model = Model(lambda rows: rows, (1, 3), (1, 3))
    about = card(model, "classification", ["cat", "dog", "bird"])
    x = np.eye(3, dtype=np.float32)[[0, 1]]
    with pytest.raises(DataError, match=words):
        evaluate(model, arrays(x, labels=np.array([0, 1]), classes=classes), about)
    turned = evaluate(model, arrays(x, labels=np.array([1, 0]), classes=("dog", "cat")), about)
    assert turned.value == 1.0 and turned.per_class == {"cat": 1.0, "dog": 1.0}
    assert evaluate(model, arrays(x, labels=np.array([0, 1]), classes=("0", "1")), about).value == 1.0
    others = arrays(x, labels=np.array([0, 1]), classes=("Katze", "Hund", "Vogel"))
    assert evaluate(model, others, about).value == 1.0  # by position, and a warning says so
