"""Checkpoints: what is written comes back; pruned shapes too; damaged files are refused."""

import os
import stat
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from edgekit.models.checkpoint import fit_shapes, load_checkpoint, read_checkpoint, save_checkpoint, weights_sha256
from edgekit.models.family import new_network
from torch import nn

from edgekit.data import open_data
from edgekit.errors import ModelError, SourceError


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
        (whole[: len(whole) // 2], "cut short"),
        (os.urandom(500), "no safetensors"),
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
