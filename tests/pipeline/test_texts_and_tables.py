"""Texts, image patches and tables all the way: trained, exported, measured and run as a user does."""

from __future__ import annotations

import logging
import random
from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.artifact import read_card
from edgekit.data import open_data
from edgekit.errors import DataError
from edgekit.models.checkpoint import load_checkpoint
from edgekit.models.family import family
from edgekit.pipeline.finetune import finetune
from edgekit.pipeline.train import module_quality, train

pytestmark = pytest.mark.usefixtures("kept_workers")

GOOD, BAD = ("good", "fine", "great", "lovely"), ("bad", "dull", "poor", "awful")
REST = ("the", "a", "film", "movie", "story", "plot", "is", "was", "very", "and", "with")


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> str:
    """300 sentences in which one word decides."""
    chance = random.Random(0)
    lines = ["sentence\tlabel"]
    for k in range(300):
        words = chance.choices(REST, k=chance.randint(3, 10))
        words.insert(chance.randrange(len(words)), chance.choice((BAD, GOOD)[k % 2]))
        lines.append(f"{' '.join(words)}\t{('no', 'yes')[k % 2]}")
    file = tmp_path_factory.mktemp("reviews") / "reviews.tsv"
    file.write_text("\n".join(lines), encoding="utf-8")
    return f"text:{file}"


@pytest.fixture(scope="module")
def reviewer(reviews: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("reviewer") / "reviewer.safetensors"
    small = {"width": 16, "depth": 1, "heads": 2, "dropout": [0.1, 0.0, 0.0]}
    result = train(
        "transformer", data=reviews, out=place, epochs=16, builder=small, overrides={"lr": 1e-2, "weight_decay": 0.0}
    )
    assert result.quality is not None and result.quality.value > 0.9  # one word decides; chance is 0.5
    return place


@pytest.mark.slow
def test_a_sentence_is_answered(reviews: str, reviewer: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    out = edgekit.export(reviewer, to=["onnx", "tflite"], out=tmp_path, name="reviewer", data=reviews)
    for item in out.artifacts:
        kinds = {case.kind for case in item.parity.cases}
        assert item.parity.passed and {"zeros", "random", "sample"} <= kinds  # zeros are padding only
    module = module_quality(load_checkpoint(reviewer), open_data(f"{reviews}@test"))
    for file in (tmp_path / "reviewer.onnx", tmp_path / "reviewer.tflite"):
        card = read_card(file)
        assert card is not None and card.signature.inputs[0].dtype == "int32"
        assert "lovely" in card.contract["text"].params["vocabulary"].split()
        assert edgekit.evaluate(file, data=f"{reviews}@test").evaluation.value == module.value
        caplog.clear()
        with caplog.at_level(logging.INFO, "edgekit"):
            answers = edgekit.run(file, ["A lovely film!", "the plot is awful", "goodness was xyz"]).answers
        assert [answer.top[0].label for answer in answers][:2] == ["yes", "no"]
        assert "2 of 3 words are not among the" in caplog.text and ": goodness, xyz" in caplog.text
        with pytest.raises(DataError, match="holds no word"):
            edgekit.run(file, "")
        assert edgekit.verify(file, against=reviewer, data=reviews).passed


def test_a_free_batch(reviews: str, reviewer: Path, tmp_path: Path) -> None:
    out = edgekit.export(reviewer, to="onnx", out=tmp_path, name="free", dynamic=["text:0=batch"])
    assert {"batch=1", "batch=5"} <= {case.kind for case in out.artifacts[0].parity.cases}
    assert edgekit.evaluate(tmp_path / "free.onnx", data=reviews).evaluation.value > 0.9


def test_own_texts_keep_the_vocabulary_and_get_their_classes(reviewer: Path, tmp_path: Path) -> None:
    file = tmp_path / "stars.tsv"
    rows = [f"{word} {rest} film\t{stars}" for word, stars in (("good", 4), ("bad", 1), ("the", 3)) for rest in REST]
    file.write_text("\n".join(rows), encoding="utf-8")
    result = finetune(reviewer, data=f"text:{file}", out=tmp_path / "stars.safetensors", epochs=1)
    again = load_checkpoint(result.path)
    assert again.task.labels == ("1", "3", "4")
    assert again.card.contract == load_checkpoint(reviewer).card.contract


OWN = """
import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.head = torch.nn.Embedding(9, 4), torch.nn.Linear(4, 2)
    def forward(self, ids):
        return self.head(self.words(ids).mean(1))
def text():
    return Net(), torch.zeros(1, 6, dtype=torch.int64)
def image():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6, 2)), torch.zeros(1, 6)
"""


def test_a_network_of_ones_own_gets_a_vocabulary_that_fits_it(reviews: str, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN, encoding="utf-8")
    result = finetune(f"{tmp_path / 'own.py'}:text", data=reviews, out=tmp_path / "own.safetensors", epochs=1)
    (contract,) = result.network.card.contract.values()
    assert contract.params["length"] == 6
    assert len(contract.params["vocabulary"].split()) == 7  # nine rows, of which padding and unknown take two
    with pytest.raises(DataError, match="a network for text takes integers"):
        finetune(f"{tmp_path / 'own.py'}:image", data=reviews, out=tmp_path / "no.safetensors", epochs=1)


@pytest.mark.slow
def test_digits_as_patches(tmp_path: Path) -> None:
    small = {"width": 16, "depth": 1, "heads": 2}
    place = tmp_path / "patches.safetensors"
    result = train("transformer", data="digits", out=place, epochs=15, builder=small, overrides={"lr": 1e-2})
    assert result.quality is not None and result.quality.value > 0.6  # chance is 0.1
    out = edgekit.export(place, to=["onnx", "tflite"], out=tmp_path, name="patches")
    for item in out.artifacts:
        assert item.parity.passed
        assert edgekit.evaluate(item.artifact.path, data="digits@test").evaluation.value == result.quality.value


@pytest.fixture
def table(tmp_path: Path) -> str:
    rng = np.random.default_rng(0)
    lines = ["width,height,kind"]
    for k in range(200):
        centre = 10 * (k % 2)
        lines.append(f"{rng.normal(centre, 2):.3f},{rng.normal(-centre, 2):.3f},{('cat', 'dog')[k % 2]}")
    (tmp_path / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    return f"table:{tmp_path / 't.csv'}"


def test_a_table_of_ones_own(table: str, tmp_path: Path) -> None:
    place = tmp_path / "pets.safetensors"
    trained = train("mlp", data=table, out=place, epochs=10)
    assert trained.quality is not None and trained.quality.value > 0.95  # five deviations apart in both columns
    edgekit.export(place, to="onnx", out=tmp_path, name="pets", data=table)
    assert edgekit.evaluate(tmp_path / "pets.onnx", data=table).evaluation.value > 0.95
    rows = {"row.csv": "height,width\n-10,10\n", "bare.csv": "0,0\n", "named.csv": "width,kind,height\n9,dog,-9\n"}
    for name, text in rows.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    answers = edgekit.run(tmp_path / "pets.onnx", [tmp_path / name for name in rows]).answers
    assert [answer.top[0].label for answer in answers] == ["dog", "cat", "dog"]
    tuned = finetune(place, data=table, out=tmp_path / "again.safetensors", epochs=1)
    assert tuned.quality is not None and tuned.quality.value > 0.95
    with pytest.raises(DataError, match="cnn takes image data"):
        train("cnn", data=table, out=tmp_path / "no.safetensors", epochs=1)


@pytest.mark.needs_data
@pytest.mark.slow
def test_the_shipped_transformer(tmp_path: Path) -> None:
    """78% of sst2@dev is the bar; the figures are of splits that training never sees, and hold in both files."""
    network = load_checkpoint(family("transformer").weights)
    claimed = {quality.data: quality for quality in network.card.quality}
    assert set(claimed) == {"sst2@dev", "sst2@test"}
    assert claimed["sst2@dev"].value >= 0.78
    assert network.card.steps[0].params["data"] == "sst2@train"
    out = edgekit.export("transformer", to=["onnx", "tflite"], out=tmp_path, data="sst2@dev")
    for item in out.artifacts:
        found = edgekit.evaluate(item.artifact.path, data="sst2@dev").evaluation
        assert found.value == pytest.approx(claimed["sst2@dev"].value, abs=1.5 / 872)  # one sentence on the edge
        answers = edgekit.run(item.artifact.path, ["a fine film", "It isn't funny, it's dull and boring."]).answers
        assert [answer.top[0].label for answer in answers] == ["positive", "negative"]
