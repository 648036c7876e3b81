"""An autoencoder down the line: exported, evaluated, quantized with a threshold of its own, run with a verdict."""

import json

import numpy as np
import pytest
from PIL import Image

import edgekit
from edgekit.artifact import read_card, write_card
from edgekit.data import open_data
from edgekit.errors import DataError, GateError
from edgekit.models.checkpoint import load_checkpoint
from edgekit.pipeline.finetune import finetune
from edgekit.pipeline.run import run
from edgekit.pipeline.schemes import quantize
from edgekit.pipeline.train import train
from edgekit.types import Artifact

pytestmark = pytest.mark.usefixtures("kept_workers")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("anomaly") / "a.safetensors"
    return train("autoencoder", data="digits", epochs=15, out=path, hold_out="0", builder={"widths": (8, 16)})


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    result = edgekit.export(trained.path, to=["onnx", "tflite"], out=folder, name="detector", data="digits")
    return {item.artifact.format.value: item.artifact.path for item in result.artifacts}


@pytest.mark.parametrize("format_", ["onnx", "tflite"])
def test_files_measure_what_the_module_measures(trained, exported, format_):
    result = edgekit.evaluate(exported[format_], data="digits")
    document = json.loads(json.dumps(result.document(), allow_nan=False))
    assert (document["metric"], document["correct"], document["total"]) == ("roc_auc", None, 359)
    # scores differ by rounding: a pair of 35 x 324 may change its order
    assert document["value"] == pytest.approx(trained.quality.value, abs=2 / (35 * 324))
    assert document["details"]["threshold"] == trained.network.task.params["threshold"]
    assert set(document["per_class"]) == set("123456789")


@pytest.mark.parametrize("format_", ["onnx", "tflite"])
def test_run_gives_a_verdict(trained, exported, format_, tmp_path):
    data = open_data("digits@test")
    usual, odd = (int(np.flatnonzero(data.labels == c)[0]) for c in (7, 0))
    for name, index in (("usual.png", usual), ("odd.png", odd)):
        Image.fromarray(np.asarray(data.arrays["image"][index])[..., 0]).save(tmp_path / name)
    result = run(exported[format_], [tmp_path / "usual.png", tmp_path / "odd.png"])
    first, second = (answer["anomaly"] for answer in result.document()["results"])
    assert first["score"] < second["score"]
    assert first["threshold"] == second["threshold"] == trained.network.task.params["threshold"]
    assert (first["verdict"], second["verdict"]) == ("normal", "anomaly")


def test_run_without_a_threshold_gives_the_score_alone(exported, tmp_path):
    card = read_card(exported["onnx"])
    bare = {key: value for key, value in card.task.params.items() if key != "threshold"}
    task = type(card.task)(card.task.kind, card.task.labels, card.task.metric, bare)
    write_card(exported["onnx"], type(card)(**{**_fields(card), "task": task}), tmp_path / "bare.onnx")
    np.save(tmp_path / "x.npy", np.zeros((1, 1, 8, 8), np.float32))
    (answer,) = run(tmp_path / "bare.onnx", tmp_path / "x.npy").document()["results"]
    assert answer["anomaly"]["score"] > 0
    assert answer["anomaly"]["verdict"] is None and answer["anomaly"]["threshold"] is None


def _fields(card):
    return {name: getattr(card, name) for name in card.__slots__}


@pytest.mark.parametrize("format_", ["onnx", "tflite"])
def test_quantizing_fits_the_threshold_again(exported, format_, tmp_path):
    before = read_card(exported[format_]).task.params["threshold"]
    out = tmp_path / f"small.{format_}"
    result = quantize(exported[format_], scheme="int8-weights", data="digits", out=out, seconds=0)
    task = read_card(out).task
    assert task.params["threshold"] != before
    assert task.params["threshold"] == pytest.approx(before, rel=0.2)  # int8 weights move scores by a few per cent
    assert any("the threshold was fitted to this file's own scores" in note for note in result.notes)
    assert result.document()["quality"]["metric"] == "roc_auc"
    assert abs(result.drop) < 0.05
    assert edgekit.evaluate(out, data="digits").evaluation.details["false_alarms"] < 0.15


def test_quantizing_without_data_says_that_the_threshold_is_the_float_files(exported, tmp_path):
    result = quantize(exported["onnx"], scheme="int8-weights", out=tmp_path / "small.onnx", seconds=0)
    assert any("is that of the float file: give --data" in note for note in result.notes)
    assert result.before is None


def test_a_drop_that_is_not_allowed(exported, tmp_path, monkeypatch):
    monkeypatch.setattr("edgekit.pipeline.quantize.gates.drop", lambda before, after: 0.2)
    with pytest.raises(GateError, match=r"roc_auc on digits@test .* down 0\.2000; --max-drop allows 0\.1"):
        quantize(
            exported["onnx"], scheme="int8-weights", data="digits", max_drop=0.1, out=tmp_path / "small.onnx", seconds=0
        )
    assert not list(tmp_path.iterdir())


def test_a_full_integer_tflite_file_opens(exported, tmp_path):
    """Its transposed convolutions have biases of four axes, which the quantizer alone makes a file of that no runtime
    opens."""
    out = tmp_path / "integer.tflite"
    result = quantize(exported["tflite"], scheme="int8", data="digits", samples=50, out=out, seconds=0)
    assert result.account.left_float == ()
    assert isinstance(result.artifact, Artifact) and abs(result.drop) < 0.1


def test_finetuning_keeps_the_task(trained, tmp_path):
    result = finetune(trained.path, data="digits", epochs=2, out=tmp_path / "more.safetensors")
    params = load_checkpoint(result.path).task.params
    assert params["held_out"] == "0"
    assert params["threshold"] != trained.network.task.params["threshold"]
    taught = finetune(trained.path, data="digits", epochs=1, distil_from=trained.path, out=tmp_path / "b.safetensors")
    assert taught.network.card.steps[-1].params["distil_from"] == trained.path.name
    with pytest.raises(DataError, match="takes image data"):
        finetune(trained.path, data="breast-cancer", out=tmp_path / "b.safetensors")


def test_data_without_the_held_out_class(exported, tmp_path):
    for name in ("cats", "dogs"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for k in range(2):
            Image.fromarray(np.full((8, 8), 40 * k, np.uint8)).save(tmp_path / "pets" / name / f"{k}.png")
    with pytest.raises(DataError, match="no class '0'; it has: cats, dogs"):
        edgekit.evaluate(exported["onnx"], data=f"images:{tmp_path / 'pets'}")
