"""``inspect``: with a card, without one, and for each format."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import edgekit
from edgekit.artifact import write_card
from edgekit.pipeline.doctor import TINY_ONNX, TINY_TFLITE
from edgekit.quantization.calibrate.calibration import Calibration
from edgekit.quantization.calibrate.histogram import Range
from edgekit.types import Card, Quality, QuantizedTensor, Signature, Step, Task, TensorSpec

SIGNATURE = Signature((TensorSpec("x", "float32", (1, 4)),), (TensorSpec("y", "float32", (1, 4)),))


@pytest.fixture(params=["onnx", "tflite"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"m.{request.param}"
    path.write_bytes(TINY_ONNX if request.param == "onnx" else TINY_TFLITE)
    return path


def test_without_card(model: Path) -> None:
    document = edgekit.inspect(model).document()
    assert document["card"] is None
    assert document["steps"] == []
    assert document["signature"]["inputs"] == [{"name": "x", "dtype": "float32", "shape": [1, 4]}]
    assert {name.upper(): count for name, count in document["operators"].items()} == {"RELU": 1}
    assert document["bytes"] == model.stat().st_size
    assert document["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()


def test_a_card_of_as_little_as_can_be(model: Path, edgekit_here: Callable[..., Any]) -> None:
    write_card(model, Card("", "", Task("", (), ""), SIGNATURE))
    assert edgekit.inspect(model).document()["steps"] == []
    assert edgekit_here("inspect", model).code == 0


def test_with_card(model: Path, edgekit_here: Callable[..., Any]) -> None:
    card = Card(
        "insects", "cnn", Task("classification", ("ant", "bee"), "accuracy"), SIGNATURE,
        steps=(Step("train", {"epochs": 3}, {"torch": "2.13.0"}),),
        quality=(Quality("accuracy", 0.875, "digits@test", 360),),
        quantized_io={"x": QuantizedTensor("int8", 0.5, -3)},
        notes=("one layer stayed in float",),
    )  # fmt: skip
    write_card(model, card)
    document = edgekit.inspect(model).document()
    assert document["steps"] == [{"name": "train", "params": {"epochs": 3}, "versions": {"torch": "2.13.0"}}]
    shown = edgekit_here("inspect", model)
    assert shown.code == 0, shown.err
    for text in (
        "insects (cnn)",
        "2 classes",
        "epochs 3",
        "87.50%",
        "int8, scale 0.5, zero point -3",
        "stayed in float",
    ):
        assert text in shown.out


def test_a_calibration(tmp_path: Path, edgekit_here: Callable[..., Any]) -> None:
    found = Calibration(
        "mse", "digits@train", 64, {"relu": Range(0.0, 2.5)}, {}, notes=("a remark",), layers={"relu": "stem.2"}
    )
    found.save(tmp_path / "ranges.json")
    document = edgekit.inspect(tmp_path / "ranges.json").document()
    assert document["ranges"] == [{"layer": "stem.2", "tensor": "relu", "low": 0.0, "high": 2.5}]
    shown = edgekit_here("inspect", tmp_path / "ranges.json")
    assert shown.code == 0
    assert all(word in shown.out for word in ("mse on 64 samples of digits@train", "stem.2", "2.5", "note: a remark"))
    (tmp_path / "other.json").write_text('{"schema": "edgekit.bench/1"}')
    refused = edgekit_here("inspect", tmp_path / "other.json")
    assert refused.code == 3
    assert "other.json has schema 'edgekit.bench/1'" in refused.err
