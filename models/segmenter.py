"""``segmenter``: a small U-Net, which gives the class of every pixel (Ronneberger et al. 2015).

3x3 convolutions, batch normalisation, ReLU, 2x2 max pooling, and enlarging by repeating pixels: every runtime quantizes
those, and the last computes the same in each. The widths stop doubling early, since most of the weights of a U-Net lie
where the picture is smallest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgekit.data import Dataset
from edgekit.data.pixel_classes import IGNORED
from edgekit.errors import DataError
from edgekit.models.family import Family, Fitted, Hyperparameters, input_shape, measure_contract
from edgekit.types import Task, TensorSpec

WIDTHS = (16, 24, 48, 64)
"""Channels of each level, the finest first; each further one has half the height and width."""


def _convolution(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, 1, 1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU()
    )


class UNet(nn.Module):
    """A way down of two convolutions a level, and a way up of one that sees the same level of the way down."""

    def __init__(self, channels: int, classes: int, widths: Sequence[int]) -> None:
        super().__init__()
        above = (channels, *widths[:-1])
        self.down = nn.ModuleList(
            nn.Sequential(_convolution(before, width), _convolution(width, width))
            for before, width in zip(above, widths, strict=True)
        )
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ModuleList(
            _convolution(widths[level + 1] + widths[level], widths[level]) for level in reversed(range(len(widths) - 1))
        )
        self.head = nn.Conv2d(widths[0], classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """(B, channels, H, W) -> scores (B, classes, H, W); H and W are multiples of 2 ** (levels - 1)."""
        levels: list[Tensor] = []
        x = image
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else self.pool(x))  # (B, widths[level], H / 2^level, W / 2^level)
            levels.append(x)
        for block, beside in zip(self.up, reversed(levels[:-1]), strict=True):
            x = block(torch.cat([F.interpolate(x, scale_factor=2.0, mode="nearest"), beside], 1))
        scores: Tensor = self.head(x)
        return scores


def segmenter(*, channels: int = 3, classes: int = 2, widths: Sequence[int] = WIDTHS) -> UNet:
    """A U-Net for images whose height and width are multiples of its stride, ``2 ** (len(widths) - 1)``.

    Args:
        channels: colour channels of the image.
        classes: number of classes, the background among them.
        widths: channels of each level, the finest first.

    Raises:
        ValueError: a number below 1, or fewer than two levels.
    """
    if len(widths) < 2 or min(channels, classes, *widths) < 1:
        raise ValueError(
            f"channels, classes and two widths or more must be 1 or more, got {channels}, {classes}, {widths}"
        )
    model = UNet(channels, classes, widths)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model


def mask_classes(data: Dataset) -> tuple[str, ...]:
    """The classes of the pixels of ``data``: those it names, else the numbers up to the largest in its masks.

    Raises:
        DataError: it has no masks, or those of one class.
    """
    if data.answers is None:
        raise DataError(f"{data.label} has no masks, which a segmenter learns from; give masks:DIR or digit-masks")
    if data.classes:
        return data.classes
    largest = 0
    for mask in data.answers:
        values = np.asarray(mask)
        largest = max(largest, int(values[values != IGNORED].max(initial=0)))
    if largest == 0:
        raise DataError(f"the masks of {data.label} hold no class but 0; give masks of at least 2 classes")
    return tuple(map(str, range(largest + 1)))


def _fit(data: Dataset) -> Fitted:
    classes = mask_classes(data)
    contract = measure_contract(data)
    assert contract.size is not None
    stride = 2 ** (len(WIDTHS) - 1)
    if any(side % stride for side in contract.size):
        height, width = (max(stride, round(side / stride) * stride) for side in contract.size)
        raise DataError(
            f"segmenter takes heights and widths that are multiples of {stride}, the first picture of {data.label} has "
            f"{contract.size[0]} x {contract.size[1]}; give --size {height}x{width}"
        )
    shape = input_shape(contract)
    return Fitted(
        {"channels": contract.channels, "classes": len(classes)},
        contract,
        Task("segmentation", classes, "miou"),
        TensorSpec("image", "float32", shape),
        TensorSpec("scores", "float32", (1, len(classes), *shape[2:])),
    )


FAMILY = Family(
    name="segmenter",
    build=segmenter,
    description="U-Net for images; gives the class of every pixel",
    data="digit-masks",
    kinds=("image",),
    fit=_fit,
    options=Hyperparameters(
        epochs=14,
        batch=32,
        lr=5e-3,
        optimizer="adamw",
        weight_decay=1e-3,
        average=0.99,
        augment="shift",
        validation=0.05,
    ),
)
