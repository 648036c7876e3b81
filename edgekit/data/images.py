"""``images:DIR``: one folder a class, or ``train/`` and ``test/`` folders that hold them; decoded on access."""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO

import numpy as np

from edgekit.data.dataset import Dataset
from edgekit.data.folders import Folders
from edgekit.errors import DataError
from edgekit.types import Array

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm")


def decode(source: Path | bytes) -> Array:
    """One image as uint8, height x width x 3 (RGB), or x 1 for a grey file.

    Raises:
        DataError: not an image, or cut short.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise DataError("reading image files needs Pillow: pip install pillow") from error
    file: Path | BinaryIO = source if isinstance(source, Path) else io.BytesIO(source)
    name = source if isinstance(source, Path) else "the image"
    try:
        with Image.open(file) as opened:
            mode = "L" if opened.mode in ("1", "L", "I", "I;16") else "RGB"
            pixels = np.asarray(opened.convert(mode), dtype=np.uint8)
    except FileNotFoundError as error:
        raise DataError(f"{name} does not exist; give the path of an image") from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{name} cannot be read as an image: {error}") from error
    return pixels[..., None] if pixels.ndim == 2 else pixels


FOLDERS = Folders("images", "image", SUFFIXES, decode, "image")


def open_images(name: str, argument: str, split: str, default_split: str) -> Dataset:
    """Reader of ``images:DIR``: see :meth:`edgekit.data.folders.Folders.open`."""
    return FOLDERS.open(name, argument, split, default_split)
