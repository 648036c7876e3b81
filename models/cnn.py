"""``cnn``: a residual network of the ResNet-8 class for small images (He et al. 2016; MLPerf Tiny's image classifier).

MLPerf Tiny's ResNet-8 has one block in each of three stages; here the middle stage, where a block costs least for what
it gives, may have more. Plain 3x3 convolutions, batch normalisation and ReLU only: every runtime quantizes those.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgekit.data import Dataset
from edgekit.models.family import Family, Fitted, Hyperparameters, classifier, measure_contract


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; the shortcut is a 1x1 convolution where the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H / stride, W / stride)"""
        y = torch.relu(self.bn1(self.conv1(x)))  # (B, out, H/s, W/s)
        y = self.bn2(self.conv2(y))  # (B, out, H/s, W/s)
        return torch.relu(y + self.shortcut(x))


class ResNet(nn.Module):
    """Stem, stages of residual blocks that double the width and halve the size, global average, linear classifier."""

    def __init__(self, channels: int, classes: int, width: int, blocks: Sequence[int]) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        layers: list[nn.Module] = []
        current = width
        for stage, count in enumerate(blocks):
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(ResidualBlock(current, width * 2**stage, stride))
                current = width * 2**stage
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Linear(current, classes)

    def forward(self, image: Tensor) -> Tensor:
        """(B, channels, H, W) -> logits (B, classes); H and W may be any size from 1."""
        x = self.blocks(self.stem(image))  # (B, C, H/4, W/4) with three stages
        pooled = x.mean((2, 3))  # (B, C); a mean converts with a free batch axis, pooling and flattening do not
        logits: Tensor = self.head(pooled)
        return logits


def cnn(*, channels: int = 3, classes: int = 10, width: int = 16, blocks: Sequence[int] = (1, 2, 1)) -> ResNet:
    """A residual network for images of any size.

    Args:
        channels: colour channels of the image.
        classes: number of classes.
        width: channels of the first stage; each further stage doubles them.
        blocks: residual blocks in each stage; ``(1, 1, 1)`` is ResNet-8, ``(3, 3, 3)`` ResNet-20.

    Raises:
        ValueError: a number below 1.
    """
    if min(channels, classes, width, *blocks) < 1 or not blocks:
        raise ValueError(
            f"channels, classes, width and blocks must be 1 or more, got {channels}, {classes}, {width}, {blocks}"
        )
    model = ResNet(channels, classes, width, blocks)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model


def _fit(data: Dataset) -> Fitted:
    contract = measure_contract(data)
    return classifier(data, contract, {"channels": contract.channels})


FAMILY = Family(
    name="cnn",
    build=cnn,
    description="residual network of the ResNet-8 class for images",
    data="cifar10",
    kinds=("image",),
    fit=_fit,
    options=Hyperparameters(
        epochs=20, batch=128, lr=0.2, weight_decay=3e-4, average=0.998, augment="auto", precision="auto", validation=0.1
    ),
)
