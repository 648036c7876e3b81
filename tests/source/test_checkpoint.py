"""Checkpoints: the code that a card names is run where the user names it, and never because a file does."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from edgekit.errors import FactoryNeededError, InputError, SourceError, UsageError
from edgekit.models.checkpoint import save_checkpoint
from edgekit.source import builder_of, resolve
from edgekit.types import Card, Network, Signature, Task, TensorSpec

pytestmark = pytest.mark.usefixtures("kept_workers")

CODE = """
import pathlib
import torch

pathlib.Path({marker!r}).touch()

class Own(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)
    def forward(self, x):
        return self.layer(x)

def make():
    return Own(), torch.zeros(1, 4)
"""


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """What comes to be where the user's code runs."""
    return tmp_path / "ran"


@pytest.fixture
def code(tmp_path: Path, marker: Path) -> Path:
    path = tmp_path / "net.py"
    path.write_text(CODE.format(marker=str(marker)))
    return path


@pytest.fixture
def mine(code: Path, tmp_path: Path, marker: Path) -> Path:
    """A checkpoint of the network in ``net.py``, whose code has not run since."""
    network = resolve(f"{code}:make")
    with torch.no_grad():
        network.module.layer.weight.fill_(0.25)
    path = tmp_path / "mine.safetensors"
    save_checkpoint(network, path)
    marker.unlink()
    return path


def forged(path: Path, factory: object) -> Path:
    """A checkpoint whose card names ``factory`` as the source of its network."""
    signature = Signature((TensorSpec("x", "float32", (1, 4)),), (TensorSpec("y", "float32", (1, 2)),))
    card = Card("net", "custom", Task(), signature, config={"factory": factory})
    save_checkpoint(Network(torch.nn.Linear(4, 2), {"x": np.zeros((1, 4), np.float32)}, card), path)
    return path


def test_its_code_does_not_run_until_the_user_names_it(mine: Path, code: Path, marker: Path) -> None:
    with pytest.raises(FactoryNeededError, match="runs no code because a file names it") as refusal:
        resolve(str(mine))
    assert refusal.value.option == "--factory" and refusal.value.factory == f"{code}:make"
    assert f"--factory {code}:make" in str(refusal.value) and f"factory='{code}:make'" in str(refusal.value)
    assert not marker.exists()
    network = resolve(str(mine), factory=f"{code}:make")
    assert marker.exists()
    assert network.module.layer.weight.unique().tolist() == [0.25]


def test_a_changed_source_is_said_and_the_card_keeps_the_new_one(
    mine: Path, code: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = resolve(str(mine), factory=f"{code}:make").card.config
    assert not caplog.records
    moved = tmp_path / "moved.py"
    moved.write_text(code.read_text())
    with caplog.at_level(logging.WARNING, "edgekit"):
        same = resolve(str(mine), factory=f"{moved}:make").card.config
    assert not caplog.records  # the same code in another place
    assert same == {**before, "factory": f"{moved}:make"}
    moved.write_text(code.read_text() + "\n# a comment\n")
    with caplog.at_level(logging.WARNING, "edgekit"):
        changed = resolve(str(mine), factory=f"{moved}:make").card.config
    assert "moved.py has changed since the checkpoint was made from it" in caplog.text
    assert changed["sha256"] != before["sha256"]


def test_a_module_of_a_package_is_code_too(
    mine: Path, tmp_path: Path, marker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "net", raising=False)  # of another test, from another folder
    with pytest.raises(FactoryNeededError):
        resolve(str(forged(tmp_path / "other.safetensors", "net:make")))
    assert not marker.exists()
    assert resolve(str(mine), factory="net:make").card.config["factory"] == "net:make"


def test_no_source_of_a_card_runs_or_recurs(tmp_path: Path, code: Path, mine: Path, marker: Path) -> None:
    program = tmp_path / "p.pt2"
    torch.export.save(torch.export.export(torch.nn.Linear(4, 2), (torch.ones(1, 4),)), program)
    own = [f"{code}:make", "os:abort", "os:getcwd", "subprocess:run"]
    files = [mine, tmp_path / "self.safetensors", program]
    for factory in (*own, *map(str, files)):
        with pytest.raises(FactoryNeededError):
            resolve(str(forged(tmp_path / "self.safetensors", factory)))
    with pytest.raises(FactoryNeededError, match=r"--factory 'a.py:make; touch x' \("):  # as a shell has to be told
        resolve(str(forged(tmp_path / "self.safetensors", "a.py:make; touch x")))
    for factory in (
        "",
        "banana",
        "/etc/passwd",
        "hf:../../..",
        "hf:/etc",
        "timm:local-dir:/etc",
        ["net.py:make"],
        None,
    ):
        with pytest.raises(InputError):
            resolve(str(forged(tmp_path / "self.safetensors", factory)))
    assert not marker.exists()


def test_a_factory_that_is_not_needed_is_an_error(tmp_path: Path, code: Path, mine: Path, marker: Path) -> None:
    save_checkpoint(resolve("mlp"), tmp_path / "zoo.safetensors")
    with pytest.raises(UsageError, match="is a mlp of the zoo; leave --factory out"):
        resolve(str(tmp_path / "zoo.safetensors"), factory=f"{code}:make")
    with pytest.raises(UsageError, match=r"--factory goes with a checkpoint \(.safetensors\); mlp is not a checkpoint"):
        resolve("mlp", factory=f"{code}:make")
    with pytest.raises(UsageError, match="name the code that makes the network"):
        resolve(str(mine), factory=str(mine))
    assert not marker.exists()
    with pytest.raises(SourceError, match="did you mean 'make'"):
        resolve(str(mine), factory=f"{code}:mke")


def test_checkpoints_of_the_zoo_open_as_before(tmp_path: Path) -> None:
    network = resolve("mlp")
    save_checkpoint(network, tmp_path / "zoo.safetensors")
    again = resolve(str(tmp_path / "zoo.safetensors"))
    assert again.card.config == network.card.config


def test_builder_of(code: Path, mine: Path) -> None:
    """What later steps need to open what was made from a source."""
    assert builder_of(f"{code}:make", None) == f"{code}:make"
    assert builder_of(str(mine), f"{code}:make") == f"{code}:make"
    assert builder_of(str(mine), None) is builder_of("mlp", None) is builder_of("timm:resnet18", None) is None


def test_a_card_of_images_names_no_code(tmp_path: Path, code: Path, mine: Path, marker: Path) -> None:
    """Generated images are compared in the features of a network that the card names."""
    from edgekit.quality.frechet import FeatureNetwork

    for name in (f"{code}:make", "os:abort", "hf:x/y", "timm:resnet18"):
        with pytest.raises(SourceError, match="opens no other file that a card names"):
            FeatureNetwork(name)
    with pytest.raises(FactoryNeededError):
        FeatureNetwork(str(mine))
    assert not marker.exists()


def test_what_an_architecture_of_transformers_may_be(tmp_path: Path) -> None:
    """A configuration names the class that is called: a model, not anything that transformers has."""
    pytest.importorskip("transformers")
    folder = tmp_path / "model"
    folder.mkdir()
    small = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "intermediate_size": 8,
        "vocab_size": 20,
    }
    config = {"model_type": "bert", "architectures": ["pipeline", "Trainer", "os"], **small}
    (folder / "config.json").write_text(json.dumps(config))
    assert resolve(f"hf:{folder}").card.config["architecture"] == "BertModel"


def test_tensors_without_a_card(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "bare.safetensors")
    with pytest.raises(InputError, match="no edgekit card"):
        resolve(str(tmp_path / "bare.safetensors"))
