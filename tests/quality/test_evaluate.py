"""The metric loop, with a model that is a table: what it answers is known."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from edgekit.data import Dataset
from edgekit.errors import DataError, ModelError, UnsupportedError
from edgekit.quality.evaluate import DYNAMIC_BATCH, batch_size, class_output, evaluate
from edgekit.types import Array, Card, Dim, Feed, Signature, Task, TensorSpec

pytestmark = pytest.mark.usefixtures("kept_workers")


@dataclass
class Table:
    """Answers with the class that stands in the first column of its input."""

    batch: Dim = 1
    classes: int = 3
    signature: Signature = field(init=False)
    sizes: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.signature = Signature(
            (TensorSpec("x", "float32", (self.batch, 2)),), (TensorSpec("y", "float32", (self.batch, self.classes)),)
        )

    def run(self, feed: Feed) -> dict[str, Array]:
        x = feed["x"]
        self.sizes.append(len(x))
        return {"y": np.eye(self.classes, dtype=np.float32)[x[:, 0].astype(int)]}


def data(answers: list[int], labels: list[int] | None, classes: tuple[str, ...] = ()) -> Dataset:
    columns = np.stack([np.array(answers, np.float32), np.zeros(len(answers), np.float32)], 1)
    return Dataset("d", "test", "table", {"table": columns}, None if labels is None else np.array(labels), classes)


def card(*labels: str) -> Card:
    return Card("n", "custom", Task("classification", labels, "accuracy"), Signature((), ()))


@pytest.mark.parametrize("batch", [1, 4, "batch"])
def test_accuracy_by_hand(batch: Dim) -> None:
    table = Table(batch)
    found = evaluate(table, data([0, 1, 2, 2, 1, 0, 0], [0, 1, 1, 2, 1, 2, 0]), None)
    assert (found.correct, found.total) == (5, 7)
    assert found.value == pytest.approx(5 / 7)
    assert found.per_class == {"0": 1.0, "1": pytest.approx(2 / 3), "2": 0.5}
    assert found.confusion is not None and found.confusion.classes == ("0", "1", "2")
    assert found.confusion.counts == ((2, 0, 0), (0, 2, 1), (1, 0, 1))  # the right class, then the answer
    assert found.data == "d@test"
    assert table.sizes == {1: [1] * 7, 4: [4, 4], "batch": [7]}[batch]  # a fixed batch of 4 is filled up


def test_limit() -> None:
    assert evaluate(Table(), data([0, 1, 2], [0, 1, 0]), None, limit=2).value == 1.0


def test_labels_are_matched_by_name() -> None:
    """A folder with some of the classes, in another order."""
    some = data([2, 0, 2], [0, 1, 1], ("ship", "cat"))
    found = evaluate(Table(), some, card("cat", "dog", "ship"))
    assert (found.correct, found.total) == (2, 3)
    assert found.per_class == {"cat": 0.5, "ship": 1.0}


def test_other_names_are_matched_by_index() -> None:
    found = evaluate(Table(), data([0, 1, 2], [0, 1, 2], ("a", "b", "c")), card("cat", "dog", "ship"))
    assert found.value == 1.0


@pytest.mark.parametrize("label", [-1, 3, 900])
def test_labels_out_of_range(label: int) -> None:
    with pytest.raises(DataError, match=r"3 outputs \(0 to 2\)"):
        evaluate(Table(), data([0, 1], [0, label]), None)


def test_no_labels() -> None:
    with pytest.raises(DataError, match="d@test has no labels"):
        evaluate(Table(), data([0], None), None)


def test_nan_is_not_an_answer() -> None:
    class Broken(Table):
        def run(self, feed: Feed) -> dict[str, Array]:
            return {"y": np.full((1, 3), np.nan, np.float32)}

    with pytest.raises(ModelError, match="NaN in 'y' for samples 0 to 0"):
        evaluate(Broken(), data([0], [0]), None)


def test_the_output_that_answers() -> None:
    two = Signature((), (TensorSpec("features", "float32", (1, 64)), TensorSpec("scores", "float32", (1, 3))))
    assert class_output(two, card("a", "b", "c")) == ("scores", 3)
    assert class_output(two, None) == ("features", 64)
    with pytest.raises(UnsupportedError, match="one value a class"):
        class_output(Signature((), (TensorSpec("y", "float32", (1, 1)),)), None)


def test_batch_of_a_run() -> None:
    assert batch_size(Table("n").signature) == DYNAMIC_BATCH
    assert batch_size(Table(8).signature) == 8
    uneven = (TensorSpec("a", "float32", (1, 2)), TensorSpec("b", "float32", (3, 2)))
    with pytest.raises(UnsupportedError, match="first axis"):
        batch_size(Signature(uneven, ()))
