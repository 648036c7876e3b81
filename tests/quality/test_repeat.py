"""A network that gives other outputs for the same input is told so, and no layer is blamed."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.errors import ParityError
from edgekit.pipeline.export import export

pytestmark = pytest.mark.usefixtures("kept_workers")

SOURCE = """
import torch
from torch import nn

class Noise(nn.Module):
    def forward(self, x):
        return x + torch.rand_like(x)

class Count(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls += 1
        return x * self.calls

class Python(nn.Module):
    calls = 0

    def forward(self, x):
        self.calls += 1
        return x * self.calls

random = lambda: (nn.Sequential(nn.Linear(4, 4), Noise()), torch.randn(1, 4))
count = lambda: (nn.Sequential(nn.Linear(4, 4), Count()), torch.randn(1, 4))
python = lambda: (nn.Sequential(nn.Linear(4, 4), Python()), torch.randn(1, 4))
"""


@pytest.mark.parametrize(
    ("factory", "to", "said"),
    [
        ("random", "onnx", r"draws random numbers \(rand_like in 1\)"),
        ("count", "onnx", r"changes its own buffers \(1\.calls\)"),
        ("count", "tflite", r"changes its own buffers \(1\.calls\)"),
        ("python", "onnx", "keeps state between calls"),
    ],
)
def test_it_is_said_and_nothing_is_published(tmp_path: Path, factory: str, to: str, said: str) -> None:
    (tmp_path / "nets.py").write_text(SOURCE)
    wanted = f"gives different outputs when it is run again on the same input.*{said}"
    with pytest.raises(ParityError, match=wanted) as found:
        export(f"{tmp_path / 'nets.py'}:{factory}", to=to, out=tmp_path / "out")
    assert "First to differ" not in str(found.value)
    assert not (tmp_path / "out").exists()
