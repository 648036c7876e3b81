"""What a user says of inputs and outputs, and the contract and task it becomes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgekit.errors import DataError, UsageError
from edgekit.iospec import IoSpec, given_iospec, parse_iospec, read_iospec, read_labels
from edgekit.taskfields import gives_logits
from edgekit.types import Card, InputSpec, Signature, Task, TensorSpec

IMAGE = TensorSpec("image", "float32", (1, 3, 32, 48))
SCORES = TensorSpec("scores", "float32", (1, 3))
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def card(*inputs: TensorSpec, task: Task | None = None) -> Card:
    return Card("net", "custom", task or Task(), Signature(inputs or (IMAGE,), (SCORES,)))


def applied(document: dict[str, Any], *inputs: TensorSpec) -> Card:
    return parse_iospec(document, "io.toml").applied(card(*inputs))


def test_a_file_says_it_all(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("cat\ndog\nbird\n\n")
    (tmp_path / "io.toml").write_text(
        'labels = "labels.txt"\nmean = [0.485, 0.456, 0.406]\nstd = [0.229, 0.224, 0.225]\n'
        'shorter = 36\ninterpolation = "bicubic"\ncolor = "BGR"\nactivation = "softmax"\n'
    )
    made = read_iospec(tmp_path / "io.toml").applied(card())
    params = {"color": "BGR", "interpolation": "bicubic", "shorter": 36}
    wanted = InputSpec("image", "NCHW", (32, 48), 3, 1 / 255, MEAN, STD, params=params)
    assert made.contract == {"image": wanted}
    assert made.task == Task("classification", ("cat", "dog", "bird"), "accuracy", {"activation": "softmax"})


def test_options_stand_above_the_file_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "io.toml").write_text("mean = [0.1, 0.2, 0.3]\nstd = [1.0, 2.0, 3.0]\ntask = 'regression'\n")
    said = given_iospec(tmp_path / "io.toml", ["0.5"], (), None, None, None)
    rule = said.applied(card()).contract["image"]
    assert (rule.mean, rule.std) == ((0.5, 0.5, 0.5), (1.0, 2.0, 3.0))
    assert said.task == "regression"


@pytest.mark.parametrize(
    ("shape", "layout", "size"),
    [
        ((1, 3, 32, 48), "NCHW", (32, 48)),
        ((1, 32, 48, 1), "NHWC", (32, 48)),
        (("batch", 1, "h", "w"), "NCHW", None),
    ],
)
def test_the_layout_is_read_off_the_shape(shape: tuple[int | str, ...], layout: str, size: tuple[int, int]) -> None:
    rule = applied({"kind": "image"}, TensorSpec("x", "float32", shape)).contract["x"]
    assert (rule.layout, rule.size, rule.scale) == (layout, size, 1 / 255)


def test_integers_are_fed_as_they_are() -> None:
    assert applied({"kind": "image"}, TensorSpec("x", "uint8", (1, 8, 8, 3))).contract["x"].scale == 1.0


def test_several_inputs_are_told_apart_by_name() -> None:
    inputs = (TensorSpec("left", "float32", (1, 3, 8, 8)), TensorSpec("right", "float32", (1, 3, 8, 8)))
    with pytest.raises(UsageError, match=r"of one input, and the network has left, right"):
        applied({"mean": [0.5]}, *inputs)
    made = applied({"inputs": {"right": {"mean": 0.5, "std": 0.25}}}, *inputs)
    assert list(made.contract) == ["right"]
    assert made.contract["right"].std == (0.25,) * 3


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"meen": [0.5]}, r"no field 'meen'; did you mean 'mean'\?"),
        ({"mean": "half"}, "io.toml.mean is 'half'"),
        ({"task": "sorting"}, "no task 'sorting'; there are: classification"),
        ({"labels": 3}, "labels are a list of texts"),
        ({"labels": "absent.txt"}, "absent.txt does not exist"),
        ({"inputs": {"image": {"sized": 3}}}, "no field 'sized'"),
    ],
)
def test_fields_that_are_not_there_or_of_another_type(document: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        parse_iospec(document, "io.toml")


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"mean": [0.5, 0.5]}, "mean has 2 values, and image.* has 3 channels"),
        ({"std": [0.0]}, "std of image is 0; it is divided by"),
        ({"mean": [123.7, 116.3, 103.5]}, "in units of 0..1, so divide them by 255"),
        ({"layout": "NHWC"}, "axis 3 of image.* is 48; give the other layout: NCHW"),
        ({"layout": "CHWN"}, "there are: NCHW, NHWC, NHW"),
        ({"size": [32, 32]}, "size is 32 x 32, the input .* takes 32 x 48"),
        ({"labels": ["cat", "dog"]}, "there are 2 labels, and no output has as many values"),
        ({"inputs": {"picture": {"mean": 0.5}}}, "no input 'picture'; it has: image"),
        ({"mean": [float("nan")]}, "a finite number was expected"),
    ],
)
def test_what_does_not_fit_the_network(document: dict[str, Any], words: str) -> None:
    with pytest.raises((UsageError, DataError), match=words):
        applied(document)


def test_options_are_numbers() -> None:
    with pytest.raises(UsageError, match="--mean a,b: give numbers"):
        given_iospec(None, ["a", "b"], (), None, None, None)
    with pytest.raises(UsageError, match="finite numbers"):
        given_iospec(None, ["nan"], (), None, None, None).applied(card())


def test_a_shape_that_leaves_a_choice_is_not_guessed() -> None:
    with pytest.raises(UsageError, match="cannot be read off its shape; give --layout NCHW or NHWC"):
        applied({"mean": [0.5]}, TensorSpec("x", "float32", (1, 3, 8, 3)))


def test_nothing_said_changes_nothing() -> None:
    own = card(task=Task("forecasting", metric="mse"))
    assert IoSpec().applied(own) is own


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "the file is empty"), (b"a\n\nb\n", "line 2 is empty"), (b"\xff\xfe\x00", "not UTF-8 text")],
)
def test_files_of_labels_that_are_none(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "labels.txt").write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_labels(tmp_path / "labels.txt")


def test_a_byte_order_mark_is_not_a_part_of_the_first_label(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes(b"\xef\xbb\xbfcat\r\ndog\r\n")
    assert read_labels(tmp_path / "labels.txt") == ("cat", "dog")


@pytest.mark.parametrize(
    ("params", "logits"),
    [
        ({}, True),
        ({"scores": "logits"}, True),
        ({"scores": "probabilities"}, False),
        ({"activation": "logits"}, True),
        ({"activation": "sigmoid"}, False),  # what older cards say
        ({"activation": "none"}, False),
        ({"scores": "logits", "activation": "sigmoid"}, True),
    ],
)
def test_what_scores_are(params: dict[str, str], logits: bool) -> None:
    assert gives_logits(params) is logits


def test_scores_that_are_not_known_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "io.toml"
    path.write_text('task = "multilabel"\nscores = "sigmoid"\n')
    with pytest.raises(DataError, match="scores is 'sigmoid'; there are: logits, probabilities"):
        read_iospec(path)


SERIES = TensorSpec("x", "float32", (1, 32, 3))
COLUMNS = {"columns": ["temp", "wind", "load"], "mean": [12.0, 3.0, 280.0], "std": [5.0, 1.0, 20.0]}


def test_a_series_and_what_is_forecast_of_it() -> None:
    made = applied({"task": "forecasting", "target": "load", **COLUMNS}, SERIES)
    rule = made.contract["x"]
    assert (rule.kind, rule.params, rule.columns) == ("series", {"history": 32}, ("temp", "wind", "load"))
    assert made.task.params == {"target": "load", "horizon": 3, "mean": 280.0, "std": 20.0}
    own_units = applied({"task": "forecasting", "target": "load", "standardised": False, **COLUMNS}, SERIES)
    assert own_units.task.params == {"target": "load", "horizon": 3}


@pytest.mark.parametrize(
    ("document", "shape", "words"),
    [
        ({"mean": [1.0], "std": [2.0]}, (1, 32, 3), "nothing says what the input x.* is"),
        ({"kind": "array", "mean": [1.0]}, (1, 32, 3), "fed as it is, without mean, std and scale"),
        ({"kind": "series"}, (1, 3), "a series is .batch, time, columns."),
        (
            {"task": "forecasting", "target": "power", **COLUMNS},
            (1, 32, 3),
            "not a column of the series; there are",
        ),
        ({"task": "forecasting", "target": "load"}, (1, 32, 3), "give the names of the columns"),
        ({"kind": "series", "columns": ["a"]}, (1, 32, 3), "1 names of columns"),
        ({"task": "forecasting", "target": "load", "standardised": 1, **COLUMNS}, (1, 32, 3), "it is true or false"),
    ],
)
def test_what_does_not_fit_a_series(document: dict[str, Any], shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        applied(document, TensorSpec("x", "float32", shape))
