"""Checkpoints: what is written comes back; pruned shapes too; damaged files are refused."""

import json
import os
import random
import stat
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from edgekit.data import open_data
from edgekit.errors import LimitError, ModelError, SourceError
from edgekit.model_metadata import card_to_json, encode_card
from edgekit.models.checkpoint import load_checkpoint, read_checkpoint, save_checkpoint, weights_sha256
from edgekit.models.family import WEIGHTS, new_network
from edgekit.models.fit import fit_shapes


@pytest.fixture
def network():
    torch.manual_seed(0)
    return new_network("cnn", open_data("digits@train"), {"width": 8})


def output(module):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        return module.eval()(torch.randn(3, 1, 8, 8, generator=generator)).numpy()


def test_round_trip(network, tmp_path):
    path = tmp_path / "a.safetensors"
    digest = save_checkpoint(network, path)
    again = load_checkpoint(path)
    np.testing.assert_array_equal(output(again.module), output(network.module))
    assert again.card == replace(network.card, source_sha256=digest)
    assert not again.module.training
    assert stat.S_IMODE(os.stat(path).st_mode) & stat.S_IRGRP  # readable like any file
    assert weights_sha256(again.module.state_dict()) == digest
    with torch.no_grad():
        next(again.module.parameters()).add_(1)
    assert weights_sha256(again.module.state_dict()) != digest


def test_other_widths_come_back_from_the_tensors_alone(network, tmp_path):
    """As after pruning: the builder's numbers stand in the card, the widths in the tensors."""
    wide = new_network("cnn", open_data("digits@train"), {"width": 16})
    disguised = replace(wide, card=network.card)
    save_checkpoint(disguised, tmp_path / "a.safetensors")
    again = load_checkpoint(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(output(again.module), output(wide.module))


def test_layers_take_the_shapes_of_their_tensors():
    def build(w):
        return nn.Sequential(
            nn.Conv1d(3, w, 3, bias=False), nn.BatchNorm1d(w), nn.Conv1d(w, w, 3, groups=w), nn.GroupNorm(2, w),
            nn.ConvTranspose1d(w, 2 * w, 3), nn.Flatten(), nn.Linear(8 * 2 * w, w), nn.LayerNorm(w),
        )  # fmt: skip

    small, large = build(4), build(10)
    changed = fit_shapes(large, small.state_dict())
    large.load_state_dict(small.state_dict())
    assert set(changed) == {"0", "1", "2", "3", "4", "6", "7"}
    x = torch.randn(2, 3, 10)
    with torch.no_grad():
        torch.testing.assert_close(large.eval()(x), small.eval()(x), rtol=0, atol=0)
    assert (large[2].groups, large[4].in_channels, large[4].out_channels) == (4, 4, 8)
    assert fit_shapes(large, small.state_dict()) == ()


def test_damaged_and_foreign_files(network, tmp_path):
    path = tmp_path / "a.safetensors"
    save_checkpoint(network, path)
    whole = path.read_bytes()
    for data, words in (
        (b"", "is empty"),
        (whole[: len(whole) // 2], "cannot be read as safetensors"),
        (os.urandom(500), "cannot be read as safetensors"),
    ):
        (tmp_path / "bad.safetensors").write_bytes(data)
        with pytest.raises(ModelError, match=words):
            load_checkpoint(tmp_path / "bad.safetensors")
    with pytest.raises(ModelError, match="does not exist"):
        load_checkpoint(tmp_path / "none.safetensors")
    safetensors.torch.save_file({"w": torch.ones(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ModelError, match="no edgekit card"):
        load_checkpoint(tmp_path / "foreign.safetensors")
    assert read_checkpoint(tmp_path / "foreign.safetensors")[1] is None


def test_weights_of_another_network_are_refused(network, tmp_path):
    other = replace(network, module=nn.Sequential(nn.Linear(2, 2)))
    save_checkpoint(other, tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match="do not fit the network"):
        load_checkpoint(tmp_path / "a.safetensors")


def test_a_users_network_needs_its_factory(network, tmp_path):
    card = replace(network.card, config={"factory": "net.py:make", "sha256": "0"})
    save_checkpoint(replace(network, card=card), tmp_path / "a.safetensors")
    with pytest.raises(SourceError, match=r"net\.py:make"):
        load_checkpoint(tmp_path / "a.safetensors")
    again = load_checkpoint(tmp_path / "a.safetensors", lambda config: new_network(
        "cnn", open_data("digits@train"), {"width": 8}).module)  # fmt: skip
    np.testing.assert_array_equal(output(again.module), output(network.module))


def described(path, **changes):
    """A shipped checkpoint as ``path`` whose card is changed: key -> value, ``.`` goes inside."""
    weights = next(WEIGHTS.glob(f"{path.stem}.safetensors"))
    state, card = read_checkpoint(weights)
    document = json.loads(json.dumps(card_to_json(card)))
    for key, value in changes.items():
        *inner, last = key.split("__")
        place = document
        for name in inner:
            place = place[int(name)] if name.isdigit() else place[name]
        place[last] = value
    safetensors.torch.save_file(state, path, metadata={"edgekit": json.dumps(document)})
    return path


@pytest.mark.parametrize(("family", "changes", "words"), [
    ("cnn", {"config__builder": {"channels": 10**9, "classes": 10}}, "channels = 1000000000"),
    ("cnn", {"config__builder": {"channels": 3, "classes": 10, "width": 5000}}, "EDGEKIT_LIMIT_PARAMETERS"),
    ("cnn", {"config__builder": {"channels": 3, "classes": 10, "blocks": [200, 200]}}, "blocks = .200, 200."),
    ("cnn", {"config__builder": {"channels": 3, "classes": 10, "blocks": [1] * 200}}, "cannot be read as a network"),
    ("cnn", {"config__builder": {"channels": "3", "classes": 10}}, "cannot be read as a network of the family cnn"),
    ("cnn", {"config__builder": {"channels": 3, "depth": 10}}, "unexpected keyword argument 'depth'"),
    ("cnn", {"config__builder": {"channels": [[3]], "classes": 10}}, "channels = "),
    ("cnn", {"config__builder": []}, "card.config.builder is a list"),
    ("cnn", {"config__family": "nothing"}, "of the family 'nothing', which is not known; there are: mlp"),
    ("cnn", {"config__family": 5}, "card.config.family is 5"),
    ("cnn", {"config__skipped": {"": "identity"}}, "cannot be read|has no such block"),
    ("cnn", {"config__skipped": {"blocks.0": 5}}, "card.config.skipped.blocks.0 is 5"),
    ("cnn", {"signature__inputs__0__shape": [1, 3, 30_000, 30_000]}, "EDGEKIT_LIMIT_INPUT_BYTES"),
    ("cnn", {"signature__inputs__0__shape": [1, 3, 4000, 4000]}, "largest result of a layer.*LIMIT_INPUT_BYTES"),
    ("cnn", {"signature__inputs__0__shape": [1, 3, 32]}, "cannot be read as a network"),
    ("cnn", {"signature__inputs__0__dtype": "int8"}, "cannot be read as a network"),
    ("cnn", {"signature__inputs": []}, "cannot be read as a network"),
    ("cnn", {"signature__outputs__0__shape": [1, 11]}, "promises outputs"),
    ("lstm", {"config__builder": {"features": 40, "outputs": 10, "layers": 10**6}}, "layers = 1000000"),
    ("lstm", {"config__builder": {"features": 40, "outputs": 10, "hidden": 100_000}}, "EDGEKIT_LIMIT_PARAMETERS"),
    ("lstm", {"signature__inputs__0__shape": [1, 1_000_000, 40]}, "EDGEKIT_LIMIT_INPUT_BYTES"),
    ("transformer", {"config__builder": {"input": {"words": 10**9, "length": 56}, "classes": 2}}, "input.words = 1000"),
    ("transformer", {"config__builder": {"input": {"words": 7201}, "classes": 2}}, "'length' is missing"),
    ("transformer", {"signature__inputs__0__shape": [1, 100_000]}, "cannot be read as a network|LIMIT_INPUT_BYTES"),
    ("gan", {"config__builder": {"latent": 64, "size": 1 << 16}}, "EDGEKIT_LIMIT_PARAMETERS"),
    ("autoencoder", {"config__builder": {"shape": [1, 1 << 15, 1 << 15], "bottleneck": 8}}, "EDGEKIT_LIMIT|promises"),
])  # fmt: skip
def test_numbers_of_a_card_cost_nothing_but_a_message(tmp_path, family, changes, words):
    with pytest.raises((ModelError, LimitError), match=words):
        load_checkpoint(described(tmp_path / f"{family}.safetensors", **changes))


@pytest.mark.parametrize("family", [path.stem for path in sorted(WEIGHTS.glob("*.safetensors"))])
def test_every_shipped_checkpoint_opens(tmp_path, family):
    again = load_checkpoint(described(tmp_path / f"{family}.safetensors"))
    assert again.card == load_checkpoint(WEIGHTS / f"{family}.safetensors").card


@pytest.mark.parametrize("family", ["cnn-pruned", "lstm", "transformer"])
def test_tensors_of_other_shapes_are_a_model_error(tmp_path, family):
    state, card = read_checkpoint(WEIGHTS / f"{family}.safetensors")
    card = encode_card(card).decode()
    dice = random.Random(family)
    made = (
        torch.zeros(()),
        torch.zeros(0),
        torch.zeros(1, 1),
        torch.zeros(3, 2, 1, 1, 1),
        torch.zeros(4, dtype=torch.int8),
    )
    refused = 0
    for _ in range(12):
        name = dice.choice(list(state))
        own = state[name]
        spoiled = {**state, name: dice.choice((*made, own.reshape(-1)[:1].clone(), own.double(), own[None].clone()))}
        if dice.random() < 0.3:
            del spoiled[dice.choice(list(state))]
        safetensors.torch.save_file(spoiled, tmp_path / "a.safetensors", metadata={"edgekit": card})
        try:
            load_checkpoint(tmp_path / "a.safetensors")
        except ModelError:
            refused += 1
    assert refused > 0  # else nothing was damaged


def test_damaged_headers_are_a_model_error(tmp_path):
    whole = (WEIGHTS / "mlp.safetensors").read_bytes()
    dice = random.Random(3)
    refused = 0
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(dice.choice((1, 1, 2, 8))):
            data[dice.randrange(2000)] = dice.choice((0, 34, 44, 57, 91, 123, 125, 255, dice.randrange(256)))
        (tmp_path / "a.safetensors").write_bytes(data)
        try:
            load_checkpoint(tmp_path / "a.safetensors")
        except ModelError:
            refused += 1
        except LimitError:
            refused += 1
    assert refused > 0  # else nothing was damaged
