"""Small networks with a real export behind each test: seconds, not minutes, on two cores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekit.adapter import adapt
from edgekit.types import Card, InputSpec, Network, Task


class Small(nn.Module):
    """Convolutions with batch norm, a strided residual and a linear head: what a converter fuses and transposes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.skip = nn.Conv2d(8, 8, 1, 2)
        self.head = nn.Linear(8, 4)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 4)"""
        x = functional.relu(self.stem(image))  # (B, 8, H, W)
        x = self.body(x) + self.skip(x)  # (B, 8, H/2, W/2)
        return self.head(x.mean((2, 3)))


class Twelve(nn.Module):
    """More outputs than a text sort leaves in order, an unused input, 64-bit integers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 4)
        self.heads = nn.ModuleList(nn.Linear(4, 3) for _ in range(11))

    def forward(self, tokens: Tensor, unused: Tensor) -> tuple[Tensor, ...]:
        h = self.embed(tokens).mean(1)
        return (*(head(h) for head in self.heads), tokens + 1)


def build(module: nn.Module, *args: Any, name: str = "net", contract: dict[str, InputSpec] | None = None) -> Network:
    adapted, examples, signature = adapt(module.eval(), args, {})
    return Network(adapted, examples, Card(name, "custom", Task(), signature, contract or {}))


@pytest.fixture(scope="session")
def network_of() -> Callable[..., Network]:
    """Makes a Network of a module and its example inputs."""
    return build


@pytest.fixture(scope="session")
def small() -> Network:
    torch.manual_seed(0)
    module = Small()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):  # statistics that are not the identity, or fusing them proves nothing
            layer.running_mean.uniform_(-0.5, 0.5)
            layer.running_var.uniform_(0.5, 2.0)
    contract = InputSpec("image", "NCHW", (8, 8), 3, 1 / 255, (0.5,) * 3, (0.25,) * 3)
    return build(module, np.zeros((1, 3, 8, 8), np.float32), name="small", contract={"image": contract})


@pytest.fixture(scope="session")
def twelve() -> Network:
    torch.manual_seed(0)
    return build(Twelve(), torch.randint(0, 10, (1, 6)), torch.zeros(1, 2), name="twelve")
