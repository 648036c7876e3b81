"""One small convolutional network as a user's factory, exported once for all tests of export and verify."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.pipeline.export import ExportResult, export

FACTORY = """
import torch
from torch import nn
from torch.nn import functional

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.skip = nn.Conv2d(width, width, 1, 2)

    def forward(self, x):
        return functional.relu(self.norm(self.conv(x))) + self.skip(x)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.block = Block(8)
        self.head = nn.Linear(8, 4)

    def forward(self, image):
        x = self.block(functional.relu(self.stem(image)))
        return {"logits": self.head(x.mean((2, 3)))}

def network():
    return Net().eval(), {"image": torch.randn(1, 3, 8, 8)}

def changed():
    net, inputs = network()
    with torch.no_grad():
        net.block.conv.weight.mul_(1.5)
    return net, inputs

def nan():
    net, inputs = network()
    with torch.no_grad():
        net.head.bias.fill_(float("nan"))
    return net, inputs
"""


@pytest.fixture(scope="session")
def factory(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The spelling of the network's factory; ``factory[:-7] + "changed"`` is the same with other weights."""
    path = tmp_path_factory.mktemp("factory") / "net.py"
    path.write_text(FACTORY)
    return f"{path}:network"


@pytest.fixture(scope="session")
def exported(factory: str, tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    """All three formats, batch dynamic."""
    out = tmp_path_factory.mktemp("exported")
    return export(factory, to=["onnx", "tflite", "pt2"], out=out, dynamic=["image:0=batch"])


@pytest.fixture(scope="session")
def files(exported: ExportResult) -> dict[str, Path]:
    """Format -> the published file."""
    return {str(item.artifact.format): item.artifact.path for item in exported.artifacts}


@pytest.fixture(scope="session")
def mlp(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The shipped multilayer network in both formats."""
    made = export("mlp", to=["onnx", "tflite"], out=tmp_path_factory.mktemp("mlp"))
    return {str(row.artifact.format): row.artifact.path for row in made.artifacts}
