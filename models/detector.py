"""``detector``: finds objects in small pictures; one stage, without anchors, in the manner of FCOS (Tian et al. 2019).

Residual blocks bring the picture to an eighth of its size; each cell of that map gives the edges of one box, as
distances from its centre, and a score for each class. The boxes are decoded in the network: what is left to do is to
leave out overlapping ones. Boxes and scores are two outputs, so that each has a range of its own when quantized. Plain
3x3 convolutions, batch normalisation, ReLU and one sigmoid: every runtime quantizes those.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from edgekit.data import Dataset
from edgekit.data.boxes import boxes_of
from edgekit.errors import DataError
from edgekit.models.cnn import ResidualBlock
from edgekit.models.family import Family, Fitted, Hyperparameters, input_shape, measure_contract
from edgekit.types import Network, Signature, Task, TensorSpec

log = logging.getLogger("edgekit")
STRIDE = 8
"""Pixels of the picture to a cell, along each side."""
LONGEST = 192
"""Pixels of the longer side to which larger pictures are brought."""
_SCORE = 0.01
"""Score of every class before training: few cells show one (Lin et al. 2017)."""
_REACH = 12.0
"""Pixels from a cell's centre to each edge of its box before training."""


class Detector(nn.Module):
    """Stem, residual blocks down to an eighth, and a branch of convolutions each for the boxes and for the scores."""

    grid: Tensor

    def __init__(self, channels: int, classes: int, size: tuple[int, int], widths: Sequence[int]) -> None:
        super().__init__()
        first, second, third = widths
        self.stem = nn.Sequential(nn.Conv2d(channels, first, 3, 2, 1, bias=False), nn.BatchNorm2d(first), nn.ReLU())
        self.blocks = nn.Sequential(
            ResidualBlock(first, second, 2), ResidualBlock(second, third, 2), ResidualBlock(third, third, 1)
        )
        self.box_branch = _branch(third)
        self.box_head = nn.Conv2d(third, 4, 1)
        self.score_branch = _branch(third)
        self.score_head = nn.Conv2d(third, classes, 1)
        height, width = size
        rows, columns = torch.meshgrid(torch.arange(height // STRIDE), torch.arange(width // STRIDE), indexing="ij")
        centres = (torch.stack([columns, rows, columns, rows], -1) + 0.5) * STRIDE
        self.register_buffer("grid", centres.reshape(1, -1, 4).float(), persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(B, channels, H, W) -> boxes (B, N, 4): left, top, right, bottom in pixels; scores (B, N, classes), 0 to 1;
        N = H / 8 x W / 8."""
        x = self.blocks(self.stem(image))  # (B, C, H/8, W/8)
        edges = self.box_head(self.box_branch(x))  # (B, 4, H/8, W/8), from the centre of the cell
        logits = self.score_head(self.score_branch(x))  # (B, classes, H/8, W/8)
        boxes = edges.permute(0, 2, 3, 1).flatten(1, 2) + self.grid  # (B, N, 4)
        scores = torch.sigmoid(logits.permute(0, 2, 3, 1).flatten(1, 2))  # (B, N, classes)
        return boxes, scores


def _branch(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())


def detector(
    *,
    channels: int = 3,
    classes: int = 10,
    size: Sequence[int] = (64, 64),
    widths: Sequence[int] = (16, 32, 48),
) -> Detector:
    """A detector for pictures of one size.

    Args:
        channels: colour channels of the picture.
        classes: kinds of objects.
        size: height and width of the picture, each divisible by 8.
        widths: channels at a half, a quarter and an eighth of the size.

    Raises:
        ValueError: a number below 1, not three widths, or a size that is not divisible by 8.
    """
    if min(channels, classes, *size, *widths) < 1 or len(size) != 2 or len(widths) != 3:
        raise ValueError(f"channels, classes, size and three widths must be 1 or more, got {channels}, {classes}, "
                         f"{tuple(size)}, {tuple(widths)}")  # fmt: skip
    if size[0] % STRIDE or size[1] % STRIDE:
        raise ValueError(f"height and width must be divisible by {STRIDE}, got {size[0]} x {size[1]}")
    model = Detector(channels, classes, (size[0], size[1]), widths)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    _rare(model.score_head)
    with torch.no_grad():
        model.box_head.bias.copy_(torch.tensor([-_REACH, -_REACH, _REACH, _REACH]))  # type: ignore[union-attr]
    return model


def _fit(data: Dataset) -> Fitted:
    boxes_of(data, 0)
    if not data.classes:
        raise DataError(
            f"{data.label} does not name its classes; a detector learns the kinds of objects by their names"
        )
    asked = data.params.get("size")
    contract = measure_contract(data, asked or _size(np.asarray(data.arrays["image"][0]).shape))
    if asked and (asked[0] % STRIDE or asked[1] % STRIDE):
        height, width = (max(2, round(side / STRIDE)) * STRIDE for side in asked)
        raise DataError(
            f"detector takes heights and widths that are multiples of {STRIDE}, not {asked[0]} x {asked[1]}; give "
            f"--size {height}x{width}"
        )
    shape = input_shape(contract)
    cells = shape[2] * shape[3] // STRIDE**2
    task = Task("detection", data.classes, "map", {"boxes": "xyxy", "threshold": 0.4, "iou_threshold": 0.5})
    return Fitted(
        {"channels": contract.channels, "classes": len(data.classes), "size": contract.size},
        contract,
        task,
        TensorSpec("image", "float32", shape),
        TensorSpec("boxes", "float32", (1, cells, 4)),
        (TensorSpec("scores", "float32", (1, cells, len(data.classes))),),
    )


def with_classes(network: Network, data: Dataset) -> Network:
    """``network`` for the classes of ``data``: with new scores where these are others than its own.

    Raises:
        DataError: the classes are others, and it is not a detector of the zoo.
    """
    boxes_of(data, 0)
    if not data.classes or data.classes == network.task.labels:
        return network
    if not isinstance(network.module, Detector):
        raise DataError(
            f"{data.label} has the classes {', '.join(data.classes[:5])}, {network.name} knows "
            f"{', '.join(network.task.labels[:5])}; give it a last layer for these in its factory, and their names"
        )
    head = network.module.score_head
    network.module.score_head = _rare(nn.Conv2d(head.in_channels, len(data.classes), 1))
    boxes, scores = network.signature.outputs
    signature = Signature(
        network.signature.inputs, (boxes, replace(scores, shape=(*scores.shape[:2], len(data.classes))))
    )
    config = {**network.card.config, "builder": {**network.card.config["builder"], "classes": len(data.classes)}}
    log.info("new scores for the %d classes of %s", len(data.classes), data.label)
    task = replace(network.task, labels=data.classes)
    return replace(
        network, card=replace(network.card, task=task, signature=signature, config=config, quality=(), selftest=None)
    )


def _rare(head: nn.Conv2d) -> nn.Conv2d:
    """``head`` with fresh weights that give every class the score of a rare one."""
    nn.init.normal_(head.weight, std=0.01)
    nn.init.constant_(head.bias, -math.log(1 / _SCORE - 1))  # type: ignore[arg-type]
    return head


def _size(picture: Sequence[int]) -> tuple[int, int]:
    """Height and width that pictures are brought to: those of the first one, at most 192, divisible by 8."""
    factor = min(1.0, LONGEST / max(picture[:2]))
    height, width = (max(2, round(side * factor / STRIDE)) * STRIDE for side in picture[:2])
    return height, width


FAMILY = Family(
    name="detector",
    build=detector,
    description="one-stage detector without anchors for small pictures; boxes and scores of each class",
    data="digit-scenes",
    kinds=("image",),
    fit=_fit,
    options=Hyperparameters(
        epochs=25, batch=64, lr=4e-3, optimizer="adamw", weight_decay=1e-3, average=0.99, clip=5.0, validation=0.1
    ),
)
