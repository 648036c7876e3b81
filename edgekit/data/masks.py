"""``masks:DIR``: pictures in ``DIR/images`` and their index masks in ``DIR/masks``, perhaps a pair of them a split."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit.data.dataset import Dataset, choose_split
from edgekit.data.folders import Files, chosen_split, split_folders
from edgekit.data.images import SUFFIXES, decode, decode_indices, picture_size
from edgekit.errors import DataError
from edgekit.iospec import read_labels

MASKS = (".png", ".bmp", ".gif")
"""Without loss: the value of a pixel is the number of its class."""


def open_masks(name: str, argument: str, split: str, default_split: str) -> Dataset:
    """The data set in ``argument``; ``labels.txt`` in it names the classes.

    Raises:
        DataError: no such folder, a picture without its mask, or a mask of another size.
    """
    root = Path(argument)
    if not root.is_dir():
        raise DataError(f"{argument or 'masks:'} is not a folder; masks:DIR takes one with images/ and masks/ in it")
    own = split_folders(root)
    if not own:
        return choose_split(_pairs(name, root, root), split, default_split)
    chosen = chosen_split(root, own, split, default_split)
    return replace(_pairs(name, own[chosen], root), split=chosen)


def _pairs(name: str, folder: Path, root: Path) -> Dataset:
    for part in ("images", "masks"):
        if not (folder / part).is_dir():
            raise DataError(f"{folder} has no folder {part!r}; masks:DIR takes images/NAME.jpg and masks/NAME.png")
    pictures = sorted(p for p in (folder / "images").iterdir() if p.suffix.lower() in SUFFIXES and p.name[0] != ".")
    masks = {p.stem: p for p in sorted((folder / "masks").iterdir()) if p.suffix.lower() in MASKS and p.name[0] != "."}
    lacking = [p.name for p in pictures if p.stem not in masks]
    if lacking:
        count = "1 picture has" if len(lacking) == 1 else f"{len(lacking)} pictures have"
        raise DataError(f"{folder}: {count} no mask of the same name in masks/, the first is {lacking[0]}")
    if not pictures:
        raise DataError(f"{folder / 'images'} holds no picture ({', '.join(SUFFIXES)})")
    named = root / "labels.txt"
    classes = read_labels(named) if named.is_file() else ()
    answers = _Masks([masks[p.stem] for p in pictures], pictures)
    return Dataset(name, "all", "image", {"image": Files(pictures, decode)}, classes=classes, answers=answers)


class _Masks(Files):
    """The mask of each picture; that it is as large as its picture is seen when it is asked for."""

    def __init__(self, masks: list[Path], pictures: list[Path]) -> None:
        super().__init__(masks, decode_indices)
        self._pictures = pictures

    def __getitem__(self, index: Any) -> Any:
        mask, size = super().__getitem__(index), picture_size(self._pictures[index])
        if mask.shape != size:
            raise DataError(
                f"{self.paths[index]} is {mask.shape[0]} x {mask.shape[1]} (height x width), its picture "
                f"{self._pictures[index].name} {size[0]} x {size[1]} upright; a mask has a class for every "
                "pixel of its picture"
            )
        return mask
