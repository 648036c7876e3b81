"""TFLite files with dynamic sizes: flatten, linear layers, means, heads of attention, pixel shuffle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import edgekit
from edgekit.converters.base import Capture, ConversionOptions
from edgekit.converters.torch_to_tflite import TorchToTflite
from edgekit.types import Network


class Pooled(nn.Module):
    """A reduction that keeps its axes, one that does not, a division, a subtraction."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C)"""
        centred = x - x.mean((2, 3), keepdim=True)
        return (centred * centred).mean((2, 3)) / 3.0


class Heads(nn.Module):
    """(B, T, 8) in two heads and back, with -1 for a size."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        return self.project(x).view(b, t, 2, 4).transpose(1, 2).reshape(b, -1, 4) * 0.5


IMAGE = torch.randn(1, 3, 8, 8)
NETWORKS = {
    "linear": (nn.Linear(6, 3), torch.randn(1, 6), {0: "batch"}),
    "classifier": (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)), IMAGE, {0: "batch"},
    ),
    "flatten": (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 2)), IMAGE, {0: "batch"}),
    "unflatten": (nn.Sequential(nn.Linear(6, 32), nn.Unflatten(1, (2, 4, 4))), torch.randn(1, 6), {0: "batch"}),
    "pooled": (Pooled(), IMAGE, {0: "batch"}),
    "heads": (Heads(), torch.randn(1, 5, 8), {0: "batch"}),
    "shuffle": (nn.PixelShuffle(2), torch.randn(1, 4, 5, 6), {2: "height", 3: "width"}),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_every_size_gives_what_the_network_gives(name: str, network_of: Callable[..., Network], tmp_path: Path) -> None:
    module, example, axes = NETWORKS[name]
    network = network_of(module, example)
    spec = network.signature.inputs[0]
    capture, path = Capture(network, ConversionOptions({spec.name: axes})), tmp_path / "m.tflite"
    TorchToTflite().convert(capture, path)
    random = np.random.default_rng(0)
    with edgekit.load(path) as runner:
        for size in (2, 1, 7):  # up and down: a file that remembers a size would show
            shape = [size if axis in axes else int(n) for axis, n in enumerate(example.shape)]
            feed = {spec.name: random.normal(size=shape).astype(np.float32)}
            got, wanted = next(iter(runner.run(feed).values())), capture.reference(feed)["output"]
            assert got.shape == wanted.shape
            assert np.abs(got - wanted).max() < 1e-5  # at most 144 products of values near 1 in float32
