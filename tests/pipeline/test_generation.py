"""A GAN down the line: trained, exported, measured by the Fréchet distance, run to a grid of images."""

import json

import numpy as np
import pytest
from PIL import Image

import edgekit
from edgekit.artifact import read_card
from edgekit.data import noise
from edgekit.errors import DataError, UsageError
from edgekit.models import gan
from edgekit.models.checkpoint import load_checkpoint
from edgekit.pipeline.run import run
from edgekit.pipeline.schemes import quantize
from edgekit.pipeline.train import train

pytestmark = pytest.mark.usefixtures("kept_workers")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("gan") / "g.safetensors"
    return train("gan", data="digits", epochs=2, out=path, builder={"width": 4})


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    result = edgekit.export(trained.path, to=["onnx", "tflite"], out=folder, name="painter", data="digits")
    return {item.artifact.format.value: item.artifact.path for item in result.artifacts}


def test_the_card_says_how_far_real_images_are_apart(trained):
    again = load_checkpoint(trained.path)
    (quality,) = again.card.quality
    assert (quality.metric, quality.data, quality.total, quality.lower_is_better) == (
        "frechet",
        "digits@test",
        359,
        True,
    )
    assert quality.details["reference_data"] == "digits@train against digits@test"
    assert quality.value > quality.details["reference"] > 0
    assert quality.details["features"] == gan.FEATURES == "cnn"
    assert len(quality.details["features_sha256"]) == 64
    assert again.signature.inputs[0].name == "noise"


@pytest.mark.parametrize("format_", ["onnx", "tflite"])
def test_files_are_as_far_as_the_module(trained, exported, format_):
    document = edgekit.evaluate(exported[format_], data="digits").document()
    json.dumps(document, allow_nan=False)
    # pixels are rounded to bytes: a float that differs by 1e-6 may fall the other way
    assert document["value"] == pytest.approx(trained.quality.value, rel=1e-3)
    assert document["details"]["reference"] == pytest.approx(trained.quality.details["reference"])


def test_the_self_test_is_of_noise(exported):
    card = read_card(exported["onnx"])
    assert card.contract["noise"].kind == "noise"
    assert len(card.selftest.outputs["image"]) == 64


@pytest.mark.parametrize("format_", ["onnx", "tflite"])
def test_run_writes_a_grid(exported, format_, tmp_path):
    result = run(exported[format_], ["noise:6@3"], out=tmp_path / "grid.png")
    assert result.image == str(tmp_path / "grid.png") and result.out is None
    (answer,) = result.answers
    assert answer.outputs["image"].shape == (6, 1, 32, 32)
    grid = np.asarray(Image.open(tmp_path / "grid.png"))
    assert grid.shape == (2 * 33 - 1, 3 * 33 - 1)
    with edgekit.load(exported[format_]) as runner:
        last = runner.run({"noise": noise.normal(3, 6, (64,))[5:6]})["image"][0, 0]
    np.testing.assert_array_equal(grid[33:, 66:], np.rint((last + 1.0) * 127.5).clip(0, 255).astype(np.uint8))


def test_run_without_input_writes_64_images_here(exported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    document = run(exported["onnx"]).document()
    assert [path.name for path in tmp_path.iterdir()] == ["painter.onnx.png"]
    assert document["image"] == "painter.onnx.png"
    assert document["results"][0]["input"] == "noise:64"
    assert document["results"][0]["outputs"][0]["shape"] == [64, 1, 32, 32]
    assert Image.open(tmp_path / "painter.onnx.png").size == (8 * 33 - 1, 8 * 33 - 1)


def test_run_with_noise_of_ones_own(exported, tmp_path):
    np.savez(tmp_path / "z.npz", noise=noise.normal(0, 1, (64,)))
    result = run(exported["onnx"], [tmp_path / "z.npz", "noise:3"], out=tmp_path / "all.npz")
    assert result.image is None
    with np.load(tmp_path / "all.npz") as written:
        assert written["image"].shape == (4, 1, 32, 32)
        np.testing.assert_array_equal(written["image"][0], written["image"][1])  # noise:3 has seed 0


def test_what_run_refuses(exported, tmp_path):
    with pytest.raises(DataError, match="noise:0 asks for 0 samples"):
        run(exported["onnx"], ["noise:0"], out=tmp_path / "a.png")
    with pytest.raises(DataError, match="the model is a generator and takes noise"):
        run(exported["onnx"], ["cat.jpg"], out=tmp_path / "a.png")
    with pytest.raises(UsageError, match=r"images as \.png"):
        run(exported["onnx"], ["noise:1"], out=tmp_path / "a.jpg")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("format_", "scheme"), [("onnx", "int8-weights"), ("tflite", "int8")])
def test_quantizing_calibrates_on_noise(exported, format_, scheme, tmp_path):
    """Whatever the data set holds. onnxruntime has no integer kernel for transposed convolutions: weights only."""
    out = tmp_path / f"small.{format_}"
    result = quantize(exported[format_], scheme=scheme, data="digits", samples=40, limit=100, out=out, seconds=0)
    if format_ == "tflite":
        assert result.account.left_float == ()
    quality = result.document()["quality"]
    assert quality["metric"] == "frechet"
    assert quality["drop"] == pytest.approx(quality["after"] / quality["before"] - 1)
    assert len(read_card(out).selftest.outputs["image"]) == 64


def test_data_that_are_not_images(exported, tmp_path):
    with pytest.raises(DataError, match="holds table samples"):
        edgekit.evaluate(exported["onnx"], data="breast-cancer")
    with pytest.raises(DataError, match="gan takes image data"):
        train("gan", data="breast-cancer", out=tmp_path / "g.safetensors")
    assert not list(tmp_path.iterdir())
