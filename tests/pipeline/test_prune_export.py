"""Pruned networks of every kind go on into both formats, proved there, from their checkpoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import edgekit
from edgekit.pipeline.prune import prune
from edgekit.source import builder_of, resolve

pytestmark = pytest.mark.usefixtures("kept_workers")

MINE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(6, 24, 3, padding=1)
        self.gru = nn.GRU(24, 32, 2, batch_first=True, bidirectional=True)
        self.norm, self.head = nn.LayerNorm(64), nn.Linear(64, 4)

    def forward(self, x):
        states, _ = self.gru(torch.relu(self.conv(x.transpose(1, 2))).transpose(1, 2))
        return self.head(self.norm(states).mean(1))

class Voice(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.utils.weight_norm(nn.Conv1d(6, 32, 3, padding=1))
        self.b = nn.utils.parametrizations.weight_norm(nn.Conv1d(32, 32, 3, padding=1))
        self.up, self.head = nn.utils.weight_norm(nn.ConvTranspose1d(32, 16, 4, 2, 1)), nn.Linear(9 * 16 * 2, 4)

    def forward(self, x):
        y = torch.relu(self.b(torch.relu(self.a(x.transpose(1, 2)))))
        return self.head(torch.relu(self.up(y)).transpose(1, 2).flatten(1))

def make():
    return Net(), torch.zeros(1, 9, 6)

def voice():
    return Voice(), torch.zeros(1, 9, 6)
"""


@pytest.mark.parametrize("source", ["transformer", "autoencoder", "mine.py:make", "mine.py:voice"])
def test_into_both_formats(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    result = prune(source, amount=0.5, out="p.safetensors")
    assert result.document()["macs"]["removed"] >= 0.5
    torch.manual_seed(1)  # the factory's fresh weights are of no matter: the checkpoint has them all
    factory = builder_of(source, None)
    again = resolve("p.safetensors", factory=factory).module.state_dict()
    assert all(torch.equal(again[name], value) for name, value in result.network.module.state_dict().items())
    made = edgekit.export("p.safetensors", to=["onnx", "tflite"], out=".", name="n", factory=factory)
    assert [str(row.artifact.format) for row in made.artifacts if row.parity.passed] == ["onnx", "tflite"]


@pytest.mark.parametrize("method", ["channels", "magnitude"])
def test_normalised_weights_are_fine_tuned_in_steps(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    rng = np.random.default_rng(0)
    np.savez("data.npz", inputs=rng.standard_normal((40, 9, 6)).astype(np.float32), labels=rng.integers(0, 4, 40))
    importance = "taylor" if method == "channels" else "magnitude"
    result = prune("mine.py:voice", amount=0.5, out="p.safetensors", method=method, data="npz:data.npz", epochs=2,
                   steps=2, importance=importance)  # fmt: skip
    assert [step.name for step in result.network.card.steps] == ["prune", "finetune"] * 2
    assert {"a.weight_v", "b.parametrizations.weight.original1"} <= resolve(
        "p.safetensors", factory="mine.py:voice"
    ).module.state_dict().keys()
