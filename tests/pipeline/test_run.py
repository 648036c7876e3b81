"""``run``: real input in, labels or arrays out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import edgekit
from edgekit.artifact import write_card
from edgekit.errors import DataError, FeedError, UsageError
from edgekit.pipeline.doctor import TINY_ONNX, TINY_TFLITE
from edgekit.pipeline.run import stacked, top_k
from edgekit.types import Card, InputSpec, Signature, Task, TensorSpec

pytestmark = pytest.mark.usefixtures("kept_workers")

LABELS = ("ant", "bee", "cat", "dog")


@pytest.fixture(params=["onnx", "tflite"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """y = Relu(x), float32 (1, 4), without a card."""
    path = tmp_path / f"m.{request.param}"
    path.write_bytes(TINY_ONNX if request.param == "onnx" else TINY_TFLITE)
    return path


@pytest.fixture
def classifier(model: Path) -> Path:
    """The same as a classifier of a table of four columns, each column less 1."""
    signature = Signature((TensorSpec("x", "float32", (1, 4)),), (TensorSpec("y", "float32", (1, 4)),))
    contract = {"x": InputSpec("table", mean=(1.0, 1.0, 1.0, 1.0), std=(1.0, 1.0, 1.0, 1.0))}
    card = Card("insects", "custom", Task("classification", LABELS, "accuracy"), signature, contract)
    write_card(model, card)
    return model


def _row(path: Path, *values: float) -> Path:
    path.write_text(",".join(map(str, values)) + "\n", encoding="utf-8")
    return path


def test_labels_and_probabilities(classifier: Path, tmp_path: Path) -> None:
    result = edgekit.run(classifier, _row(tmp_path / "in.csv", 1, 3, 2, -5), top=3)
    (answer,) = result.answers
    # relu((0, 2, 1, -6)) = (0, 2, 1, 0); softmax by hand; 1e-6: one rounding of float32
    weights = np.exp([2.0, 1.0, 0.0])
    total = weights.sum() + 1.0
    assert [one.label for one in answer.top] == ["bee", "cat", "ant"]
    np.testing.assert_allclose([one.probability for one in answer.top], weights / total, atol=1e-6)


def test_several_inputs_become_rows_of_one_file(model: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a.npy", tmp_path / "b.npz"
    np.save(first, np.array([[-1, 2, -3, 4]], np.float32))
    np.savez(second, x=np.array([[5, -6, 7, -8]], np.float32))
    result = edgekit.run(model, [first, second], out=tmp_path / "out.npz")
    assert all(answer.top == () for answer in result.answers)
    with np.load(tmp_path / "out.npz") as written:
        assert written.files == ["y"]
        np.testing.assert_array_equal(written["y"], [[0, 2, 0, 4], [5, 0, 7, 0]])


def test_document(classifier: Path, tmp_path: Path, edgekit_here: Callable[..., Any]) -> None:
    ended = edgekit_here("run", classifier, _row(tmp_path / "in.csv", 1, 3, 2, -5), "--json", "-")
    assert ended.code == 0, ended.err
    document = ended.document
    assert document["schema"] == "edgekit.run/1"
    assert document["results"][0]["top"][0]["label"] == "bee"
    assert document["results"][0]["outputs"] == [
        {"name": "y", "dtype": "float32", "shape": [1, 4], "first": [0, 2, 1, 0]}
    ]


def test_screen_without_card_shows_values(model: Path, tmp_path: Path, edgekit_here: Callable[..., Any]) -> None:
    np.save(tmp_path / "a.npy", np.array([[-1, 2, -3, 4]], np.float32))
    ended = edgekit_here("run", model, "a.npy")
    assert ended.code == 0, ended.err
    assert "1x4" in ended.out and "0, 2, 0, 4" in ended.out


@pytest.mark.parametrize(
    ("array", "error", "message"),
    [
        (np.zeros((1, 5), np.float32), FeedError, "5"),
        (np.array([[1, 2, np.nan, 4]], np.float32), FeedError, "NaN"),
        (np.zeros((1, 4), np.complex64), FeedError, "complex64"),
    ],
)
def test_feed_that_does_not_fit(model: Path, tmp_path: Path, array: Any, error: type[Exception], message: str) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(error, match=message):
        edgekit.run(model, tmp_path / "a.npy", out=tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()


def test_wrong_use(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"does not end in \.npz"):
        edgekit.run(model, tmp_path / "a.npy", out=tmp_path / "out.txt")
    with pytest.raises(UsageError, match="no input"):
        edgekit.run(model, [])
    with pytest.raises(DataError, match=r"nothing\.npy"):
        edgekit.run(model, tmp_path / "nothing.npy")


def test_labels_that_do_not_fit_are_numbers() -> None:
    card = Card("c", "custom", Task("classification", ("a", "b")), Signature((), ()))
    assert [one.label for one in top_k({"y": np.array([[0.0, 9.0, 1.0]])}, card, 2)] == ["1", "2"]
    assert top_k({"y": np.zeros((1, 2))}, None, 5) == ()


def test_outputs_of_different_shape_are_refused() -> None:
    with pytest.raises(DataError, match="one by one"):
        stacked([{"y": np.zeros((1, 2))}, {"y": np.zeros((1, 3))}])


def test_one_sample_fills_a_file_that_takes_several(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The answer is that for the one sample; arrays of another size than the file's are refused as before."""
    value = partial(helper.make_tensor_value_info, elem_type=TensorProto.FLOAT, shape=(3, 4))
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value("x")], [value("y")])
    path = tmp_path / "three.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    (tmp_path / "row.csv").write_text("0,1,5,2\n")
    np.savez(tmp_path / "row.npz", x=np.zeros((1, 4), np.float32))
    with pytest.raises(FeedError, match=r"wanted .3, 4."):
        edgekit.run(path, tmp_path / "row.npz")
    signature = Signature((TensorSpec("x", "float32", (3, 4)),), (TensorSpec("y", "float32", (3, 4)),))
    contract = {"x": InputSpec("table", mean=(1.0,) * 4, std=(1.0,) * 4)}
    write_card(path, Card("insects", "custom", Task("classification", LABELS, "accuracy"), signature, contract))
    with caplog.at_level(logging.INFO, "edgekit"):
        (answer,) = edgekit.run(path, tmp_path / "row.csv").answers
    assert answer.outputs["y"].tolist() == [[0, 0, 4, 1]] and answer.top[0].label == "cat"
    assert "takes 3 samples a run" in caplog.text
