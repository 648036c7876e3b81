"""``images:DIR``: one folder a class, or ``train/`` and ``test/`` folders that hold them; decoded on access."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from edgekit.data.cache import is_archive, unpacked
from edgekit.data.dataset import Dataset, choose_split, interleaved
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


class ImageFiles(Sequence[Array]):
    """Image files, decoded when they are asked for."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> Any:
        return decode(self.paths[index])


def open_images(name: str, argument: str, split: str, default_split: str) -> Dataset:
    """Reader of ``images:DIR``; an archive stands for the folder it holds.

    Raises:
        DataError: no such folder, fewer than two classes, or a class without images.
    """
    root = Path(argument)
    if not argument or not root.exists():
        raise DataError(f"{argument or 'images:'} does not exist; images:DIR takes a folder with one folder a class")
    if root.is_file():
        if not is_archive(root):
            raise DataError(f"{root} is a file; images:DIR takes a folder (or a .tar.gz or .zip of one)")
        root = unpacked(root)
    own = {part: root / part for part in ("train", "test") if (root / part).is_dir()}
    if len(own) == 2:
        chosen = split or default_split
        parts = [_scan(name, folder) for part, folder in own.items() if chosen in ("all", part)]
        classes = _scan(name, own["train"]).classes
        if any(part.classes != classes for part in parts):
            raise DataError(f"{root}: train and test hold different classes; give both the same folders")
        return _joined(parts, chosen)
    return choose_split(_scan(name, root), split, default_split)


def _scan(name: str, folder: Path) -> Dataset:
    groups = sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    if len(groups) < 2:
        raise DataError(
            f"{folder} holds {len(groups)} class folder{'' if len(groups) == 1 else 's'}, at least 2 are needed: "
            "DIR/CLASS/*.jpg"
        )
    paths: list[Path] = []
    labels: list[int] = []
    for index, group in enumerate(groups):
        found = sorted(p for p in group.iterdir() if p.suffix.lower() in SUFFIXES)
        if not found:
            raise DataError(f"the class folder {group} holds no image ({', '.join(SUFFIXES)})")
        paths += found
        labels += [index] * len(found)
    classes = tuple(group.name for group in groups)
    indices = np.array(labels, np.int64)
    order = interleaved(indices)
    return Dataset(name, "all", "image", {"image": ImageFiles([paths[k] for k in order])}, indices[order], classes)


def _joined(parts: list[Dataset], split: str) -> Dataset:
    paths = [path for part in parts for path in part.arrays["image"].paths]  # type: ignore[union-attr]
    labels = np.concatenate([part.labels for part in parts if part.labels is not None])
    return Dataset(parts[0].name, split, "image", {"image": ImageFiles(paths)}, labels, parts[0].classes)
