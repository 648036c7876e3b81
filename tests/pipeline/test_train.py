"""train, finetune and models as functions: what is written, and what the card says."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import edgekit
from edgekit.data import open_data
from edgekit.errors import DataError, InputError, UsageError
from edgekit.models.checkpoint import load_checkpoint, save_checkpoint
from edgekit.models.family import shipped
from edgekit.pipeline.finetune import finetune
from edgekit.pipeline.fitted import replace_head
from edgekit.pipeline.models import models
from edgekit.pipeline.train import module_quality, train
from edgekit.source.module import of_module

pytestmark = pytest.mark.usefixtures("kept_workers")

SMALL = {"width": 8, "blocks": (1, 1)}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("train") / "digits.safetensors"
    return train("cnn", data="digits", epochs=6, out=path, builder=SMALL)


def test_the_figure_is_measured_on_unseen_data_and_stands_in_the_file(trained):
    (quality,) = load_checkpoint(trained.path).card.quality
    assert quality == trained.quality
    assert (quality.data, quality.total) == ("digits@test", 359)
    again = module_quality(load_checkpoint(trained.path), open_data("digits@test"))
    assert again.value == quality.value > 0.5
    document = trained.document()
    json.dumps(document, allow_nan=False)
    assert document["steps"][0]["params"]["seed"] == 0
    assert document["steps"][0]["versions"]["torch"] == torch.__version__
    assert [p.name for p in trained.path.parent.iterdir()] == ["digits.safetensors"]


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    """Two classes a network can tell: dark and bright pictures."""
    folder = tmp_path_factory.mktemp("pets")
    rng = np.random.default_rng(0)
    for name, low in (("bright", 150), ("dark", 0)):
        (folder / name).mkdir()
        for k in range(30):
            pixels = rng.integers(low, low + 100, (12, 10, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{k}.png")
    return folder


def test_transfer_to_own_classes(trained, pets, tmp_path):
    result = finetune(str(trained.path), data=f"images:{pets}", epochs=8, out=tmp_path / "pets.safetensors")
    again = load_checkpoint(result.path)
    assert again.task.labels == ("bright", "dark")
    assert again.signature.outputs[0].shape == (1, 2)
    assert again.card.contract == trained.network.card.contract  # as it was trained: 8x8 grey
    assert [step.name for step in again.card.steps] == ["train", "finetune"]
    assert result.quality.total == 12
    assert result.quality.value > 0.8  # the classes differ by a hundred grey levels; chance is 0.5


def test_the_same_classes_keep_the_last_layer(trained, tmp_path):
    result = finetune(
        str(trained.path), data="digits", epochs=1, out=tmp_path / "a.safetensors", overrides={"lr": 1e-9}
    )
    before, after = trained.network.module.head.weight, result.network.module.head.weight
    torch.testing.assert_close(after, before, rtol=0, atol=1e-6)  # a rate of 1e-9 moves a weight by less


def test_distillation_wants_a_teacher_that_fits(trained, tmp_path):
    out = tmp_path / "a.safetensors"
    student = train("cnn", data="digits", epochs=1, out=tmp_path / "s.safetensors", builder=SMALL)
    result = finetune(str(student.path), data="digits", epochs=1, distil_from=str(trained.path), out=out)
    assert result.network.card.steps[-1].params["distil_from"] == trained.path.name
    with pytest.raises(DataError, match="the same classes"):
        finetune(str(student.path), data="digits", epochs=1, distil_from="mlp", out=out)


def test_wrong_use(trained, tmp_path):
    with pytest.raises(UsageError, match=r"a checkpoint is a \.safetensors file"):
        train("mlp", data="breast-cancer", out=tmp_path / "a.pt")
    with pytest.raises(UsageError, match="no such training option"):
        train("mlp", data="breast-cancer", out=tmp_path / "a.safetensors", overrides={"speed": 3})
    with pytest.raises(InputError, match="does not exist"):
        finetune("nothing.safetensors", data="digits", out=tmp_path / "a.safetensors")
    with pytest.raises(DataError, match="takes image data"):
        finetune(str(trained.path), data="breast-cancer", out=tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def test_a_head_that_is_none():
    with pytest.raises(DataError, match="no linear"):
        replace_head(of_module(torch.nn.ReLU(), torch.zeros(1, 4)), 0, 3)
    with pytest.raises(DataError, match="is not a classifier"):
        replace_head(of_module(torch.nn.Linear(4, 5), torch.zeros(1, 4)), 6, 3)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 7, 1), torch.nn.Flatten())
    assert replace_head(of_module(network, torch.zeros(1, 3, 1, 1)), 7, 2) == "0"
    assert network[0].out_channels == 2


def test_the_head_is_the_layer_that_runs_last_wherever_it_stands():
    class Backwards(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(6, 3)
            self.body = torch.nn.Linear(4, 6)
            self.unused = torch.nn.Linear(3, 3)

        def forward(self, x):
            return self.head(self.body(x).relu())

    network = Backwards()
    assert replace_head(of_module(network, torch.zeros(1, 4)), 3, 2) == "head"
    assert (network.head.out_features, network.body.out_features) == (2, 6)


def test_a_broken_test_image_is_found_before_the_training(tmp_path):
    for split, count in (("train", 4), ("test", 2)):
        for name in ("dark", "light"):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for k in range(count):
                picture = Image.new("RGB", (8, 8), (200 if name == "light" else 20,) * 3)
                picture.save(tmp_path / "data" / split / name / f"{k}.png")
    broken = tmp_path / "data" / "test" / "light" / "1.png"
    broken.write_bytes(broken.read_bytes()[:45])
    begun = []
    with pytest.raises(DataError, match=r"light/1\.png"):
        train(
            "cnn",
            data=f"images:{tmp_path / 'data'}",
            out=tmp_path / "a.safetensors",
            epochs=1,
            progress=lambda *told: begun.append(told),
        )
    assert begun == []


def test_no_better_than_the_most_frequent_class_is_said(tmp_path, caplog):
    values = np.random.default_rng(0).normal(size=(200, 3))
    rows = [f"{a:.3f},{b:.3f},{c:.3f},{'bad' if k % 20 == 0 else 'ok'}" for k, (a, b, c) in enumerate(values)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,c,label", *rows]))
    train("mlp", data=f"table:{tmp_path / 't.csv'}", out=tmp_path / "a.safetensors", epochs=1)
    assert "always answering 'ok' gives 95.00%" in caplog.text
    caplog.clear()
    train("mlp", data="breast-cancer", out=tmp_path / "b.safetensors", epochs=3)
    assert "always answering" not in caplog.text


def test_what_cannot_be_measured_is_kept(tmp_path, monkeypatch, caplog):
    def fails(*_):
        raise DataError("a disk that went away")

    monkeypatch.setattr("edgekit.pipeline.train.held_out_quality", fails)
    with pytest.raises(DataError, match="went away"):
        train("mlp", data="breast-cancer", out=tmp_path / "a.safetensors", epochs=1)
    assert "the training is not lost" in caplog.text
    assert load_checkpoint(tmp_path / "a.safetensors").card.steps[-1].name == "train"


def test_a_teacher_of_other_classes_is_refused(trained, tmp_path):
    teacher = tmp_path / "teacher.safetensors"
    network = load_checkpoint(trained.path)
    turned = replace(network.task, labels=tuple(reversed(network.task.labels)))
    save_checkpoint(replace(network, card=replace(network.card, task=turned)), teacher)
    with pytest.raises(DataError, match="both need the same classes in the same order"):
        finetune(str(trained.path), data="digits", distil_from=str(teacher), out=tmp_path / "b.safetensors", epochs=1)


def test_the_zoo_lists_what_is_shipped():
    rows = {row["name"]: row for row in models().document()["models"]}
    assert {"mlp", "cnn"} <= set(rows)
    mlp = rows["mlp"]
    assert mlp["parameters"] == 2114
    assert mlp["quality"][0]["data"] == "breast-cancer@test"
    assert mlp["quality"][0]["value"] >= 0.95
    assert rows["lstm-etth1"]["data"] == "etth1"
    pruned = rows["cnn-pruned"]
    assert pruned["data"] == "cifar10"
    assert [step["name"] for step in pruned["steps"]] == ["train", "prune", "prune", "finetune"]
    assert edgekit.models().document()["models"]


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("mlp", 0.95),
        pytest.param("cnn", 0.86, marks=pytest.mark.needs_data),
        pytest.param("cnn-pruned", 0.8554, marks=pytest.mark.needs_data),
        pytest.param("gru-live", 0.99, marks=pytest.mark.needs_data),
    ],
)
def test_shipped_weights_are_as_good_as_their_card(name, least):
    network = load_checkpoint(shipped()[name])
    (claimed,) = network.card.quality
    measured = module_quality(network, open_data(claimed.data))
    assert measured.value == pytest.approx(claimed.value, abs=1e-12)
    assert measured.value >= least
