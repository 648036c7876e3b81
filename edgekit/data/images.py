"""``images:DIR``: one folder a class, or ``train/`` and ``test/`` folders that hold them; decoded on access."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekit.data.dataset import Dataset
from edgekit.data.folders import Folders
from edgekit.errors import DataError, RuntimeMissingError
from edgekit.inputs import read_regular
from edgekit.limits import check
from edgekit.reading import reading
from edgekit.types import Array

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm")
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "PPM")
"""What is decoded, whatever the file is called: others of Pillow's formats start programs (EPS: Ghostscript)."""
_ORIENTATION = 0x0112
"""EXIF's tag of how a picture is turned; 5 to 8 exchange its sides."""
_SCAN = b"\xff\xda"
"""Begins a scan of a JPEG file; every scan visits all pixels again."""


def decode(source: Path | bytes) -> Array:
    """One image as uint8, height x width x 3 (RGB), or x 1 for a grey file; upright as its EXIF says, what is
    transparent on white, 16 bits of grey as 8.

    Raises:
        DataError: not an image of :data:`FORMATS`, or cut short.
        LimitError: more pixels than are decoded.
    """
    with _opened(source) as picture:
        pixels = np.asarray(flat(_upright(picture)), np.uint8)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def decode_indices(source: Path) -> Array:
    """A mask: the number of the class of each pixel, (height, width); the index of a palette, or the value of a grey.

    Raises:
        DataError: as :func:`decode`, or a picture in colours.
    """
    with _opened(source) as picture:
        if picture.mode not in ("1", "L", "P", "I", "I;16"):
            raise DataError(
                f"{source} is a picture in {picture.mode}; a mask is grey or has a palette, one class a value"
            )
        return np.asarray(picture).astype(np.int32)


def picture_size(source: Path) -> tuple[int, int]:
    """Height and width of a picture in pixels, upright, from its header.

    Raises:
        DataError: as :func:`decode`.
    """
    with _opened(source) as picture:
        turned = picture.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
        return (picture.width, picture.height) if turned else (picture.height, picture.width)


def flat(picture: Image.Image) -> Image.Image:
    """``picture`` in the mode L or RGB."""
    from PIL import Image

    if picture.mode.startswith("I"):  # 16 bits, or more where the file says so
        values = np.asarray(picture).astype(np.int64)
        return Image.fromarray((values >> 8).clip(0, 255).astype(np.uint8) if values.max(initial=0) > 255
                               else values.clip(0, 255).astype(np.uint8))  # fmt: skip
    if picture.mode in ("LA", "PA", "RGBA") or "transparency" in picture.info:
        over = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", over.size, "white"), over)
    return picture.convert("L" if picture.mode in ("1", "L") else "RGB")


def _upright(picture: Image.Image) -> Image.Image:
    from PIL import ImageOps

    return ImageOps.exif_transpose(picture)


@contextmanager
def _opened(source: Path | bytes) -> Iterator[Image.Image]:
    """The picture, its pixels not yet decoded; what goes wrong inside is an error of this file."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise RuntimeMissingError("reading image files needs Pillow: pip install pillow") from error
    content = source
    if isinstance(content, Path):
        content = read_regular(content, DataError, "an image", "SAMPLE_BYTES")
    name = source if isinstance(source, Path) else "the image"
    known = ", ".join(FORMATS)
    with reading(name, DataError, "an image"), _as_many_pixels_as_allowed():
        try:
            opened = Image.open(io.BytesIO(content), formats=FORMATS)
        except UnidentifiedImageError as error:
            raise DataError(f"{name} cannot be read as an image: it is not one of {known}; convert it") from error
        check("IMAGE_PIXELS", opened.width * opened.height, name)
        if opened.format == "JPEG":
            check("IMAGE_SCANS", content.count(_SCAN), name)
        yield opened


@contextmanager
def _as_many_pixels_as_allowed() -> Iterator[None]:
    """Pillow's own limit, which it checks in ``open`` and is a variable of its module, gives way to edgekit's."""
    from PIL import Image

    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


FOLDERS = Folders("images", "image", SUFFIXES, decode, "image")


def open_images(name: str, argument: str, split: str, default_split: str) -> Dataset:
    """Reader of ``images:DIR``: see :meth:`edgekit.data.folders.Folders.open`."""
    return FOLDERS.open(name, argument, split, default_split)
