"""``gan``: the DCGAN generator and discriminator (Radford, Metz and Chintala, 2016).

The generator is the network that is saved and exported; the discriminator is needed for training only, which
:mod:`edgekit.models.adversarial` does.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TypeVar

from torch import Tensor, nn

from edgekit.data import Dataset
from edgekit.errors import DataError
from edgekit.models.family import Family, Fitted, Hyperparameters
from edgekit.types import InputSpec, Task, TensorSpec

Model = TypeVar("Model", bound=nn.Module)
SIZE = 32
"""Height and width of the images; the data's are brought to it."""
LATENT = 64
FEATURES = "cnn"
"""The network in whose features images are compared (see :mod:`edgekit.quality.frechet`)."""


class Generator(nn.Module):
    """Transposed convolutions that double the size and halve the width, from a 4x4 map to the image."""

    def __init__(self, latent: int, channels: int, widths: list[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Unflatten(1, (latent, 1, 1)),
            nn.ConvTranspose2d(latent, widths[0], 4, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(),
        ]
        for inner, outer in pairwise(widths):
            layers += [nn.ConvTranspose2d(inner, outer, 4, 2, 1, bias=False), nn.BatchNorm2d(outer), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(widths[-1], channels, 4, 2, 1), nn.Tanh())

    def forward(self, noise: Tensor) -> Tensor:
        """(B, latent), standard normal -> images (B, channels, size, size) in -1..1"""
        image: Tensor = self.layers(noise)
        return image


class Discriminator(nn.Module):
    """Convolutions that halve the size and double the width, down to one logit an image."""

    def __init__(self, channels: int, widths: list[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 4, 2, 1), nn.LeakyReLU(0.2)]
        for inner, outer in pairwise(widths):
            layers += [nn.Conv2d(inner, outer, 4, 2, 1, bias=False), nn.BatchNorm2d(outer), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4), nn.Flatten(0))

    def forward(self, image: Tensor) -> Tensor:
        """(B, channels, size, size) in -1..1 -> logits (B,), above 0 for images taken for real"""
        logits: Tensor = self.layers(image)
        return logits


def generator(*, latent: int = LATENT, channels: int = 1, width: int = 32, size: int = SIZE) -> Generator:
    """The DCGAN generator.

    Args:
        latent: values of noise.
        channels: colour channels of the image.
        width: channels before the last layer; each layer before has twice as many.
        size: height and width of the image: 8, 16, 32, 64, ...

    Raises:
        ValueError: a number below 1, or a size that is not a power of two from 8.
    """
    model = Generator(latent, channels, _widths(width, size, latent, channels)[::-1])
    return _initialised(model)


def discriminator(*, channels: int = 1, width: int = 32, size: int = SIZE) -> Discriminator:
    """The DCGAN discriminator; arguments as in :func:`generator`.

    Raises:
        ValueError: see :func:`generator`.
    """
    return _initialised(Discriminator(channels, _widths(width, size, channels)))


def _widths(width: int, size: int, *counts: int) -> list[int]:
    """Channels of the layers, narrowest first: one layer a doubling from 4 to ``size``."""
    if min(width, *counts) < 1:
        raise ValueError(f"width, channels and latent must be 1 or more, got {(width, *counts)}")
    if size < 8 or size & (size - 1):
        raise ValueError(f"size must be 8, 16, 32, 64, ... (a power of two), got {size}")
    return [width * 2**k for k in range(size.bit_length() - 3)]


def _initialised(model: Model) -> Model:
    """Weights N(0, 0.02), as in the paper; scales of normalisation N(1, 0.02)."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, 0.02)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)
    return model


def _fit(data: Dataset) -> Fitted:
    first = data.arrays["image"][0]
    if first.ndim != 3 or first.shape[-1] not in (1, 3):
        raise DataError(f"{data.label} holds samples of shape {first.shape}; images are height x width x 1 or 3")
    channels = int(first.shape[-1])
    size, *other = dict.fromkeys(data.params.get("size", (SIZE, SIZE)))
    if other or size < 8 or size & (size - 1):
        raise DataError(f"the images of a gan are square, of 8, 16, 32, 64, ... pixels; give --size {SIZE}")
    width = 32 if channels == 1 else 64
    return Fitted(
        {"latent": LATENT, "channels": channels, "width": width, "size": size},
        InputSpec("noise"),
        Task(
            "generation",
            metric="frechet",
            params={"range": (-1.0, 1.0), "channels": channels, "size": (size, size), "features": FEATURES},
        ),
        TensorSpec("noise", "float32", (1, LATENT)),
        TensorSpec("image", "float32", (1, channels, size, size)),
    )


FAMILY = Family(
    name="gan",
    build=generator,
    description="DCGAN: images from noise",
    data="digits",
    kinds=("image",),
    fit=_fit,
    options=Hyperparameters(
        epochs=200,
        batch=64,
        lr=4e-4,
        optimizer="adam",
        momentum=0.5,
        weight_decay=0.0,
        average=0.998,
        augment="shift",
        validation=0.0,
    ),
)
