"""Anomaly detection and generation on the command line: bad input gets its exit code and one message."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.artifact import write_card
from edgekit.models import adversarial
from edgekit.models.gan import FAMILY
from edgekit.pipeline.doctor import TINY_ONNX
from edgekit.types import Card, InputSpec, Signature, Task, TensorSpec

Refused = Callable[..., str]


def _tiny(path: Path, kind: str, task: Task) -> None:
    """y = Relu(x) of four values, with a card."""
    path.write_bytes(TINY_ONNX)
    signature = Signature((TensorSpec("x", "float32", (1, 4)),), (TensorSpec("y", "float32", (1, 4)),))
    write_card(path, Card("tiny", "custom", task, signature, {"x": InputSpec(kind)}))


@pytest.fixture
def maker(tmp_path: Path) -> Path:
    """A generator, as its card says."""
    path = tmp_path / "maker.onnx"
    _tiny(path, "noise", Task("generation", metric="frechet", params={"range": (-1, 1), "size": (2, 2), "channels": 1}))
    return path


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("noise:0", "asks for 0 samples; give 1 to 65,536"),
        ("noise:many", "the model is a generator and takes noise, which 'noise:many' is not; give noise:64"),
        ("cat.jpg", "the model is a generator and takes noise, which 'cat.jpg' is not; give noise:64"),
        ("cat.npz", "cat.npz does not exist"),
    ],
)
def test_noise(given: str, words: str, maker: Path, refused: Refused) -> None:
    assert words in refused("run", "maker.onnx", given, "-o", "grid.png")


def test_what_the_result_is_written_to(maker: Path, tmp_path: Path, refused: Refused) -> None:
    assert "images as .png" in refused("run", "maker.onnx", "noise:4", "-o", "grid.jpg", code=2)
    _tiny(tmp_path / "plain.onnx", "array", Task())
    (tmp_path / "x.csv").write_text("1,2,3,4\n", encoding="utf-8")
    assert "the model gives no images" in refused("run", "plain.onnx", "x.csv", "-o", "grid.png", code=2)
    assert "no input was given" in refused("run", "plain.onnx", code=2)


def test_data_without_the_class_that_is_held_out(tmp_path: Path, refused: Refused) -> None:
    _tiny(tmp_path / "a.onnx", "table", Task("anomaly", metric="roc_auc", params={"held_out": "odd"}))
    (tmp_path / "rows.csv").write_text("a,b,c,d,label\n1,2,3,4,x\n1,2,3,5,y\n", encoding="utf-8")
    assert "has no class 'odd'; it has: x, y" in refused("eval", "a.onnx", "--data", "table:rows.csv@all")
    _tiny(tmp_path / "b.onnx", "table", Task("anomaly", metric="roc_auc"))
    assert "does not name the class" in refused("eval", "b.onnx", "--data", "table:rows.csv@all")


def test_training(refused: Refused) -> None:
    train = ("train", "autoencoder", "-o", "a.safetensors", "--data")
    assert "no class 'ten' to hold out" in refused(*train, "digits", "--hold-out", "ten")
    wrong = ("train", "mlp", "--data", "breast-cancer", "--hold-out", "benign", "-o", "m.safetensors")
    assert "--hold-out is for anomaly detection" in refused(*wrong, code=2)
    assert "gan takes image data" in refused("train", "gan", "--data", "breast-cancer", "-o", "g.safetensors")


def test_a_gan_that_diverges(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gate says no: exit code 1, nothing is written, and the message says what to try."""
    monkeypatch.setattr(adversarial, "WON", 100.0)
    monkeypatch.setattr(adversarial, "WON_EPOCHS", 1)
    small = replace(
        FAMILY, fit=lambda data: replace(FAMILY.fit(data), builder={**FAMILY.fit(data).builder, "width": 2})
    )
    monkeypatch.setattr("edgekit.models.gan.FAMILY", small)
    message = refused("train", "gan", "--data", "digits", "--epochs", "3", "-o", "g.safetensors", code=1)
    assert "training diverged" in message and "Try another --seed" in message
