"""The ``image`` kind: pixels become normalised tensors of the contract's size and layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgekit.data.images import SUFFIXES, decode
from edgekit.data.kind import Kind, affine
from edgekit.errors import DataError
from edgekit.types import Array, InputContract


def encode(raw: Sequence[Array] | Array, contract: InputContract) -> Array:
    """uint8 images, height x width x channels each -> float32 (N, C, H, W), (N, H, W, C) or (N, H, W * C)."""
    pixels = _as_images(raw, contract)
    factor, offset = affine(contract, pixels.shape[-1])
    batch: Array = pixels.astype(np.float32) * factor + offset
    if contract.layout == "NCHW":
        return np.ascontiguousarray(batch.transpose(0, 3, 1, 2))
    if contract.layout == "NHW":
        return batch.reshape(*batch.shape[:2], -1)
    return batch


def _as_images(raw: Sequence[Array] | Array, contract: InputContract) -> Array:
    """uint8 (N, height, width, channels) of the contract's size and channels."""
    if isinstance(raw, np.ndarray) and raw.ndim == 4 and _fits(raw[0], contract):
        return raw
    return np.stack([_fit_image(np.asarray(image), contract) for image in raw])


def _fits(image: Array, contract: InputContract) -> bool:
    return (contract.size in (None, image.shape[:2])) and contract.channels in (0, image.shape[-1])


def _fit_image(image: Array, contract: InputContract) -> Array:
    if image.ndim != 3 or image.shape[-1] not in (1, 3):
        raise DataError(f"an image is height x width x 1 or 3, got shape {image.shape}")
    if _fits(image, contract):
        return image
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError(
            f"the image is {image.shape}, the model takes {contract.size} x {contract.channels}, and resizing needs "
            "Pillow: pip install pillow"
        ) from error
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    if contract.channels in (1, 3):
        picture = picture.convert("L" if contract.channels == 1 else "RGB")
    if contract.size is not None and picture.size != contract.size[::-1]:
        picture = picture.resize(contract.size[::-1], Image.Resampling.BILINEAR)
    pixels = np.asarray(picture, dtype=np.uint8)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def read(given: str) -> Array:
    """One image file as uint8, height x width x channels."""
    return decode(Path(given))


KIND = Kind(encode, read, SUFFIXES)
