"""``coco:FILE.json``: pictures with boxes as COCO's instances files have them (https://cocodataset.org/#format-data).

The pictures lie beside the file, in ``images/`` beside it, or in the folder above it, as COCO's own are published.
Boxes are of the picture as it is shown: turned as its EXIF says.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, TypedDict

import numpy as np

from edgekit.data.boxes import Boxes, Remarks, cut_to_picture
from edgekit.data.dataset import Dataset, choose_split
from edgekit.data.folders import Files, chosen_split, split_folders
from edgekit.data.images import decode, picture_size
from edgekit.documents import parse_json, typed
from edgekit.errors import DataError
from edgekit.inputs import read_regular

_SHOWN = 3
"""Names of pictures in a message."""


class _Picture(TypedDict):
    id: int | str
    file_name: str


class _Annotation(TypedDict):
    image_id: int | str
    category_id: int
    bbox: tuple[float, ...]


class _Category(TypedDict):
    id: int
    name: str


def open_coco(name: str, argument: str, split: str, default_split: str) -> Dataset:
    """The pictures and boxes that ``argument`` lists; a folder stands for one .json file in it, or in each of its
    folders train, valid and test.

    Raises:
        DataError: not such a file, an annotation of a category or picture that it does not list, or a picture that is
            not there.
    """
    place = Path(argument)
    if argument and place.is_dir():
        own = split_folders(place)
        if not own:
            return choose_split(_read(name, _only_file(place)), split, default_split)
        chosen = chosen_split(place, own, split, default_split)
        return replace(_read(name, _only_file(own[chosen])), split=chosen)
    return choose_split(_read(name, place), split, default_split)


def _only_file(folder: Path) -> Path:
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() == ".json" and p.name[0] != ".")
    if len(found) != 1:
        raise DataError(f"{folder} holds {len(found)} .json files; name the one to read: coco:{folder}/FILE.json")
    return found[0]


def _read(name: str, file: Path) -> Dataset:
    content = read_regular(file, DataError, "a COCO instances file (.json)", "DOCUMENT_BYTES")
    document = parse_json(content, DataError, file)
    pictures, annotations, categories = (
        _records(file, document, key, kind)
        for key, kind in (("images", _Picture), ("annotations", _Annotation), ("categories", _Category))
    )
    categories = sorted(categories, key=lambda one: one["id"])
    classes = tuple(one["name"] for one in categories)
    place = {one["id"]: k for k, one in enumerate(categories)}
    if not categories or len(place) < len(categories) or len(set(classes)) < len(classes):
        raise DataError(f"{file}: its categories are not one or more, each with an id and a name of its own")
    rows = {one["id"]: k for k, one in enumerate(pictures)}
    if not pictures:
        raise DataError(f"{file} lists no images")
    if len(rows) < len(pictures):
        ids = [one["id"] for one in pictures]
        twice = next(one for k, one in enumerate(ids) if one in ids[:k])
        raise DataError(f"{file}: two of its images have the id {twice!r}; each needs one of its own")
    paths = _found(file, [one["file_name"] for one in pictures])
    of: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for index, one in enumerate(annotations):
        for key, known, what in (("category_id", place, "categories"), ("image_id", rows, "images")):
            if one[key] not in known:
                raise DataError(f"{file}: annotation {index} has the {key} {one[key]!r}, which its {what} do not list")
        if len(one["bbox"]) != 4:
            raise DataError(f"{file}: the bbox of annotation {index} is not x, y, width, height")
        of[rows[one["image_id"]]].append(one)
    found = [_boxes(of[k], picture, paths[k], place) for k, picture in enumerate(pictures)]
    every = [one for one, _, _ in found]
    Remarks(
        sum(count for _, count, _ in found), sum(count for *_, count in found), sum(not len(one) for one in every)
    ).say(file)
    images = Files(paths, decode)
    return Dataset(name, "all", "image", {"image": images}, classes=classes, answers=_Answers(file, paths, every))


class _Answers(Sequence[Boxes]):
    """The objects of each picture; that it is as large as the file says is seen when they are asked for."""

    def __init__(self, file: Path, paths: Sequence[Path], every: Sequence[Boxes]) -> None:
        self._file, self._paths, self._every = file, paths, every

    def __len__(self) -> int:
        return len(self._every)

    def __getitem__(self, index: Any) -> Any:
        answer, size = self._every[index], picture_size(self._paths[index])
        if answer.size != size:
            raise DataError(
                f"{self._file}: {self._paths[index].name} is {size[0]} x {size[1]} (height x width, upright), and the "
                f"file says {' x '.join(map(str, answer.size or ()))}; its boxes would lie elsewhere"
            )
        return answer


def _records(file: Path, document: Any, key: str, kind: type[Any]) -> list[Any]:
    if not isinstance(document, dict) or not isinstance(document.get(key), list):
        there = ", ".join(document) if isinstance(document, dict) else f"a {type(document).__name__}"
        raise DataError(f"{file} has no list {key!r}, so it is not a COCO instances file; it has: {there[:80]}")
    try:
        return [typed(kind, one, f"{key}[{index}]") for index, one in enumerate(document[key])]
    except ValueError as error:
        raise DataError(f"{file}: {error}") from error


def _found(file: Path, names: Sequence[str]) -> list[Path]:
    """The file of each picture, looked for where the first one is.

    Raises:
        DataError: some are not there, or a name leaves the folder.
    """
    for one in names:
        if "\0" in one or ".." in PurePosixPath(one).parts or PurePosixPath(one).is_absolute():
            raise DataError(f"{file}: the picture {one!r} is not named within the folder of the pictures")
    split = file.stem.rpartition("_")[2]
    above = file.parent.parent
    places = [file.parent, file.parent / "images", above / "images", above / split, above / "images" / split, above]
    counts = [sum((place / one).is_file() for one in names[:50]) for place in places]
    root = places[int(np.argmax(counts))]
    paths = [root / one for one in names]
    lacking = [path.name for path in paths if not path.is_file()]
    if lacking:
        verb = "is" if len(lacking) == 1 else "are"
        raise DataError(
            f"{file}: {len(lacking):,} of its {len(paths):,} pictures {verb} not in {root}: "
            f"{', '.join(lacking[:_SHOWN])}{' …' if len(lacking) > _SHOWN else ''}; put them beside the file, or into "
            "images/ beside it"
        )
    return paths


def _boxes(
    annotations: Sequence[Mapping[str, Any]], picture: Mapping[str, Any], path: Path, place: Mapping[int, int]
) -> tuple[Boxes, int, int]:
    """The objects of one picture, how many have no size in it and are left out, and how many are cut at its edges."""
    height, width = picture.get("height"), picture.get("width")
    if not (isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0):
        height, width = picture_size(path)
    raw = np.array([one["bbox"] for one in annotations], np.float64).reshape(-1, 4)
    boxes, cut = cut_to_picture(raw + np.pad(raw[:, :2], ((0, 0), (2, 0))), height, width)
    sized = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    labels = np.array([place[one["category_id"]] for one in annotations], np.int64)
    crowd = np.array([bool(one.get("iscrowd", 0)) for one in annotations], bool)
    kept = Boxes(boxes[sized].astype(np.float32), labels[sized], crowd[sized], (height, width))
    return kept, int((~sized).sum()), int((cut & sized).sum())
