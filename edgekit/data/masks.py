"""``masks:DIR``: pictures in ``DIR/images`` and their index masks in ``DIR/masks``, perhaps a pair of them a split."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgekit.data.dataset import Dataset, choose_split
from edgekit.data.folders import Files, split_folders
from edgekit.data.images import SUFFIXES, decode, decode_indices
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
    chosen = split or (default_split if default_split in own else next(iter(own)))
    if chosen == "all":
        raise DataError(f"{root} has splits of its own ({', '.join(own)}); name one: {name}@{next(iter(own))}")
    if chosen not in own:
        raise DataError(f"{root} has no split {chosen!r}; it has: {', '.join(own)}")
    return replace(_pairs(name, own[chosen], root), split=chosen)


def _pairs(name: str, folder: Path, root: Path) -> Dataset:
    for part in ("images", "masks"):
        if not (folder / part).is_dir():
            raise DataError(f"{folder} has no folder {part!r}; masks:DIR takes images/NAME.jpg and masks/NAME.png")
    pictures = sorted(p for p in (folder / "images").iterdir() if p.suffix.lower() in SUFFIXES and p.name[0] != ".")
    masks = {p.stem: p for p in sorted((folder / "masks").iterdir()) if p.suffix.lower() in MASKS and p.name[0] != "."}
    lacking = [p.name for p in pictures if p.stem not in masks]
    if lacking:
        raise DataError(f"{folder}: {len(lacking)} pictures have no mask of their name, the first is {lacking[0]}")
    if not pictures:
        raise DataError(f"{folder / 'images'} holds no picture ({', '.join(SUFFIXES)})")
    named = root / "labels.txt"
    classes = read_labels(named) if named.is_file() else ()
    answers = Files([masks[p.stem] for p in pictures], decode_indices)
    return Dataset(name, "all", "image", {"image": Files(pictures, decode)}, classes=classes, answers=answers)
