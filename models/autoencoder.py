"""``autoencoder``: learns to give back normal samples; what it gives back badly is an anomaly.

A network that must pass its input through a bottleneck (Hinton and Salakhutdinov, 2006) learns what its training
samples have in common. It is trained on all classes but one, and its mean squared error on a sample is the sample's
anomaly score (Sakurada and Yairi, 2014).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from torch import Tensor, nn

from edgekit.data import Dataset
from edgekit.errors import DataError
from edgekit.models.family import Family, Fitted, Hyperparameters, input_shape, measure_contract, require_labels
from edgekit.types import Task, TensorSpec

log = logging.getLogger("edgekit")
HELD_OUT = {"breast-cancer": "malignant"}
"""The class that stands for anomalies where the user names none; of other data the last class."""
SMALL = 256
"""Pixels up to which 8 values do for the bottleneck: on digits (64 pixels) 6 and 12 told anomalies less well."""
PERCENTILE = 95.0
"""Share of unseen normal samples, in per cent, whose score is below the threshold."""


class Autoencoder(nn.Module):
    """An encoder and a decoder; what the decoder gives too much of on the last two axes is cut off."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, shape: Sequence[int]) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.shape = tuple(shape)

    def forward(self, x: Tensor) -> Tensor:
        """(B, *shape) -> its reconstruction (B, *shape)"""
        y: Tensor = self.decoder(self.encoder(x))
        if len(self.shape) == 3 and y.shape[2:] != self.shape[1:]:
            return y[:, :, : self.shape[1], : self.shape[2]]
        return y


def dense_autoencoder(*, shape: Sequence[int], widths: Sequence[int], bottleneck: int) -> Autoencoder:
    """Linear layers with ReLU down to ``bottleneck`` values, and the same way back up.

    Args:
        shape: of one sample, of any rank; the encoder flattens it.
        widths: of the hidden layers of the encoder, outermost first.
        bottleneck: values in the middle, without activation.
    """
    sizes = [math.prod(shape), *widths, bottleneck]
    return Autoencoder(
        nn.Sequential(nn.Flatten(), *_linear(sizes)),
        nn.Sequential(*_linear(sizes[::-1]), nn.Unflatten(1, tuple(shape))),
        shape,
    )


def _linear(sizes: Sequence[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for inner, outer in pairwise(sizes):
        layers += [nn.Linear(inner, outer), nn.ReLU()]
    return layers[:-1]


def conv_autoencoder(*, shape: Sequence[int], widths: Sequence[int], bottleneck: int) -> Autoencoder:
    """Convolutions of stride 2, a linear bottleneck, and transposed convolutions of stride 2.

    Args:
        shape: channels, height, width of one image; any height and width from 1.
        widths: channels after each halving (rounded up) of height and width.
        bottleneck: values in the middle; 0 for none, the last feature map is then the code.
    """
    channels, height, width = shape
    down: list[nn.Module] = []
    current = channels
    for size in widths:
        down += [nn.Conv2d(current, size, 3, 2, 1, bias=False), nn.BatchNorm2d(size), nn.ReLU()]
        current, height, width = size, -(-height // 2), -(-width // 2)
    up: list[nn.Module] = []
    if bottleneck:
        flat = current * height * width
        down += [nn.Flatten(), nn.Linear(flat, bottleneck)]
        up += [nn.Linear(bottleneck, flat), nn.ReLU(), nn.Unflatten(1, (-1, height, width))]
    for size in reversed(widths[:-1]):
        # 4x4 at stride 2 doubles exactly, which TFLite's TRANSPOSE_CONV has; 3x3 with output padding it has not
        up += [nn.ConvTranspose2d(current, size, 4, 2, 1, bias=False), nn.BatchNorm2d(size), nn.ReLU()]
        current = size
    up.append(nn.ConvTranspose2d(current, channels, 4, 2, 1))
    return Autoencoder(nn.Sequential(*down), nn.Sequential(*up), shape)


def autoencoder(
    *, shape: Sequence[int], layers: str = "conv", widths: Sequence[int] = (32, 64), bottleneck: int = 16
) -> Autoencoder:
    """An autoencoder of samples of ``shape``: ``conv`` for images (channels, height, width), ``dense`` for any shape.

    Raises:
        ValueError: a number below 1 (``bottleneck`` of ``conv`` may be 0), or, for ``conv``, a shape that is
            not that of an image.
    """
    if not widths or min(*shape, *widths) < 1 or bottleneck < (0 if layers == "conv" else 1):
        raise ValueError(f"shape, widths and bottleneck must be 1 or more, got {shape}, {widths}, {bottleneck}")
    if layers == "conv":
        if len(shape) != 3:
            raise ValueError(f"conv takes images (channels, height, width), got the shape {tuple(shape)}; use dense")
        return conv_autoencoder(shape=shape, widths=widths, bottleneck=bottleneck)
    if layers != "dense":
        raise ValueError(f"layers is conv or dense, got {layers!r}")
    return dense_autoencoder(shape=shape, widths=widths, bottleneck=bottleneck)


def normal_only(data: Dataset, held_out: str) -> Dataset:
    """The samples that are not of the class ``held_out``.

    Raises:
        DataError: no labels, no such class, or nothing else.
    """
    require_labels(data)
    if held_out not in data.classes:
        raise DataError(f"{data.label} has no class {held_out!r} to hold out; it has: {', '.join(data.classes)}")
    assert data.labels is not None
    kept = np.flatnonzero(data.labels != data.classes.index(held_out))
    return data.subset(kept)


def _fit(data: Dataset) -> Fitted:
    require_labels(data)
    held_out = str(data.params.get("held_out") or HELD_OUT.get(data.name, data.classes[-1]))
    normal = normal_only(data, held_out)
    contract = measure_contract(normal)
    shape = input_shape(contract)
    small = math.prod(shape[2:]) <= SMALL
    layers: dict[str, object] = {"layers": "conv", "widths": (32, 64), "bottleneck": 8 if small else 64}
    if contract.kind == "table":
        widths = (max(shape[1], 8), max(shape[1] // 2, 4))
        layers = {"layers": "dense", "widths": widths, "bottleneck": max(shape[1] // 4, 2)}
    log.info("class %r of %s is held out: its samples are the anomalies", held_out, data.name)
    return Fitted(
        {"shape": shape[1:], **layers},
        contract,
        Task("anomaly", metric="roc_auc", params={"held_out": held_out, "percentile": PERCENTILE}),
        TensorSpec(contract.kind, "float32", shape),
        TensorSpec("reconstruction", "float32", shape),
    )


FAMILY = Family(
    name="autoencoder",
    build=autoencoder,
    description="autoencoder for images or tables; its reconstruction error is an anomaly score",
    data="digits",
    kinds=("image", "table"),
    fit=_fit,
    options=Hyperparameters(
        epochs=150, batch=32, lr=3e-3, optimizer="adamw", weight_decay=1e-4, average=0.99, validation=0.1
    ),
)
