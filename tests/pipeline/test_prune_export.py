"""Pruned networks of every kind go on into both formats, proved there, from their checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import edgekit
from edgekit.pipeline.prune import prune
from edgekit.source import builder_of, resolve

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

def make():
    return Net(), torch.zeros(1, 9, 6)
"""


@pytest.mark.parametrize("source", ["transformer", "autoencoder", "mine.py:make"])
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
