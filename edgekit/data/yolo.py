"""``yolo:DIR``: pictures in ``images``, and for each a text file in ``labels`` with a line an object: the number of its
class, then the centre and the size of its box as shares of the picture (Ultralytics' format).

``data.yaml`` or ``labels.txt`` names the classes. A picture without a file, or with an empty one, shows no object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.data.boxes import Boxes, Remarks, cut_to_picture
from edgekit.data.dataset import Dataset, choose_split
from edgekit.data.folders import Files, chosen_split, split_folders
from edgekit.data.images import SUFFIXES, decode, picture_size
from edgekit.errors import DataError, RuntimeMissingError
from edgekit.inputs import read_regular
from edgekit.iospec import read_labels
from edgekit.limits import check
from edgekit.reading import reading
from edgekit.types import Array


def open_yolo(name: str, argument: str, split: str, default_split: str) -> Dataset:
    """The data set in the folder ``argument``; splits are ``images/train`` … or ``train/images`` ….

    Raises:
        DataError: no such folder or split, no names of classes, or a line that is not an object.
    """
    root = Path(argument)
    if root.is_file() and root.suffix in (".yaml", ".yml"):
        root = root.parent
    if not argument or not root.is_dir():
        raise DataError(f"{argument or 'yolo:'} is not a folder; yolo:DIR takes one with images/ and labels/ in it")
    classes = _classes(root)
    images = root / "images"
    inside = split_folders(images) if images.is_dir() else {}
    own = {part: (folder, root / "labels" / folder.name) for part, folder in inside.items()}
    own = own or {part: (folder / "images", folder / "labels") for part, folder in split_folders(root).items()}
    if not own:
        return choose_split(_pairs(name, images, root / "labels", classes), split, default_split)
    chosen = chosen_split(root, own, split, default_split)
    return replace(_pairs(name, *own[chosen], classes), split=chosen)


def _pairs(name: str, images: Path, labels: Path, classes: tuple[str, ...]) -> Dataset:
    for folder in (images, labels):
        if not folder.is_dir():
            raise DataError(f"{folder} is not there; yolo:DIR takes images/NAME.jpg and labels/NAME.txt")
    pictures = sorted(p for p in images.iterdir() if p.suffix.lower() in SUFFIXES and p.name[0] != ".")
    if not pictures:
        raise DataError(f"{images} holds no picture ({', '.join(SUFFIXES)})")
    files = {p.stem: p for p in labels.iterdir() if p.suffix.lower() == ".txt" and p.name[0] != "."}
    strange = sorted(files.keys() - {p.stem for p in pictures} - {"classes", "labels"})
    objects = [_objects(files[p.stem], classes) if p.stem in files else np.zeros((0, 5)) for p in pictures]
    cut = [_cut(one) for one in objects]
    if not any(len(one) for one in objects):
        raise DataError(f"{labels} names no object for any of the {len(pictures):,} pictures in {images}")
    alone = f"no picture is called like {', '.join(strange[:3])}" if strange else ""
    Remarks(0, sum(count for _, count in cut), sum(not len(one) for one in objects)).say(labels, alone)
    answers = _Answers(pictures, [one for one, _ in cut])
    return Dataset(name, "all", "image", {"image": Files(pictures, decode)}, classes=classes, answers=answers)


class _Answers(Sequence[Boxes]):
    """The objects of each picture in its pixels, whose number is read off the picture's header when it is asked for."""

    def __init__(self, pictures: Sequence[Path], objects: Sequence[Array]) -> None:
        self._pictures, self._objects = pictures, objects

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: Any) -> Any:
        height, width = picture_size(self._pictures[index])
        objects = self._objects[index]
        boxes = (objects[:, 1:] * np.array([width, height, width, height])).astype(np.float32)
        labels = objects[:, 0].astype(np.int64)
        return Boxes(boxes, labels, np.zeros(len(labels), bool), (height, width))


def _objects(file: Path, classes: tuple[str, ...]) -> Array:
    """Class, left, top, right, bottom of each line, float64 (K, 5), as shares of the picture; of the outline of an
    object (class, x, y, x, y, …) the box around it.

    Raises:
        DataError: a line is something else.
    """
    content = read_regular(file, DataError, "the objects of a picture, one a line", "TEXT_BYTES")
    rows = []
    with reading(file, DataError, "text"):
        lines = content.decode("utf-8-sig").splitlines()
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        try:
            values = [float(word) for word in words]
        except ValueError:
            values = []
        if len(values) < 5 or (len(values) > 5 and len(values) % 2 == 0) or not np.isfinite(values).all():
            raise DataError(
                f"{file}:{number} is {line[:60]!r}; a line is a class's number and the centre x, centre y, width and "
                "height of its box, each 0 to 1"
            )
        if values[0] != int(values[0]) or not 0 <= values[0] < len(classes):
            raise DataError(f"{file}:{number} has the class {words[0]}, and {len(classes)} are named (from 0 on)")
        if max(map(abs, values[1:])) > 2:
            raise DataError(f"{file}:{number} has the value {max(values[1:]):g}; give shares of the picture, 0 to 1")
        rows.append((values[0], *_corners(values[1:], f"{file}:{number}")))
    return np.array(rows, np.float64).reshape(-1, 5)


def _corners(values: Sequence[float], where: str) -> tuple[float, float, float, float]:
    if len(values) > 4:
        x, y = values[::2], values[1::2]
        return min(x), min(y), max(x), max(y)
    x_centre, y_centre, width, height = values
    if width <= 0 or height <= 0:
        raise DataError(f"{where} is a box of {width:g} x {height:g}, which has no size")
    return x_centre - width / 2, y_centre - height / 2, x_centre + width / 2, y_centre + height / 2


def _cut(objects: Array) -> tuple[Array, int]:
    """Objects with their boxes cut off at the picture's edges, those outside left out, and how many were cut."""
    boxes, cut = cut_to_picture(objects[:, 1:], 1, 1)
    sized = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    return np.concatenate([objects[sized, :1], boxes[sized]], axis=1), int(cut.sum())


def _classes(root: Path) -> tuple[str, ...]:
    """Names of the classes in the order of their numbers.

    Raises:
        DataError: no file names them, or not all of them.
    """
    for one in ("labels.txt", "classes.txt"):
        if (root / one).is_file():
            return read_labels(root / one)
    yaml_files = sorted(p for p in root.iterdir() if p.suffix in (".yaml", ".yml") and p.name[0] != ".")
    if len(yaml_files) != 1:
        raise DataError(f"nothing in {root} names the classes; write labels.txt, one a line, or data.yaml")
    file = yaml_files[0]
    try:
        import yaml
    except ImportError as error:
        raise RuntimeMissingError(
            f"reading {file} needs PyYAML: pip install pyyaml; or write the names into labels.txt, one a line"
        ) from error
    content = read_regular(file, DataError, "a data.yaml", "DOCUMENT_BYTES")
    with reading(file, DataError, "YAML", yaml.YAMLError):
        document = yaml.safe_load(content)
    names = document.get("names") if isinstance(document, dict) else None
    if isinstance(names, dict) and sorted(names, key=str) == sorted(range(len(names)), key=str):
        names = [names[k] for k in range(len(names))]
    if not isinstance(names, list) or not names:
        raise DataError(f"{file} has no 'names' that number all classes from 0 on")
    check("CLASSES", len(names), file)
    return tuple(str(one) for one in names)
