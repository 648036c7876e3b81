"""``coco:FILE.json``: where pictures are looked for, what is cut or left out, and what is refused."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgekit.data import open_data
from edgekit.data.boxes import boxes_of
from edgekit.errors import DataError


def document(**changed: Any) -> dict[str, Any]:
    """Two pictures of 60 x 40 (height x width), with two objects and one."""
    whole = {
        "images": [{"id": 7, "file_name": "a.png", "height": 60, "width": 40}, {"id": 3, "file_name": "b.png"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 90, "bbox": [10, 20, 5, 8], "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 2, "bbox": [30, 0, 20, 10], "iscrowd": 1},
            {"id": 3, "image_id": 3, "category_id": 2, "bbox": [1, 2, 0, 4]},
        ],
        "categories": [{"id": 90, "name": "dog"}, {"id": 2, "name": "cat"}],
    }
    return {**whole, **changed}


def written(folder: Path, content: dict[str, Any] | str, pictures: str = "images") -> str:
    place = folder / pictures
    place.mkdir(parents=True, exist_ok=True)
    for name in ("a.png", "b.png"):
        Image.fromarray(np.zeros((60, 40, 3), np.uint8)).save(place / name)
    file = folder / "instances.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return f"coco:{file}"


@pytest.mark.parametrize("pictures", [".", "images"])
def test_boxes_classes_and_what_is_left_out(tmp_path: Path, caplog: Any, pictures: str) -> None:
    with caplog.at_level(logging.WARNING, "edgekit"):
        data = open_data(written(tmp_path, document(), pictures))
    assert (data.kind, data.classes, len(data), data.split) == ("image", ("cat", "dog"), 2, "all")
    first = boxes_of(data, 0)
    assert first.boxes.tolist() == [[10, 20, 15, 28], [30, 0, 40, 10]]  # the second one reached out by 10
    assert (first.labels.tolist(), first.crowd.tolist(), first.size) == ([1, 0], [False, True], (60, 40))
    assert len(boxes_of(data, 1)) == 0
    said = "1 box without a size is left out; 1 box reaches out of its picture and is cut; 1 picture shows no object"
    assert said in caplog.text
    assert data.arrays["image"][0].shape == (60, 40, 3)


def test_a_turned_picture_is_upright(tmp_path: Path) -> None:
    spelled = written(tmp_path, document())
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "images" / "b.png", exif=exif)
    data = open_data(spelled)
    assert boxes_of(data, 1).size == (60, 40) == data.arrays["image"][1].shape[:2]
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "images" / "a.png")
    with pytest.raises(DataError, match=r"a.png is 40 x 60 .height x width, upright., and the file says 60 x 40"):
        boxes_of(open_data(spelled), 0)


def test_a_folder_with_splits(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        written(tmp_path / split, document(), ".")
    data = open_data(f"coco:{tmp_path}")
    assert (data.split, len(data)) == ("test", 2) and open_data(f"coco:{tmp_path}@val").split == "val"
    (tmp_path / "train" / "more.json").write_text("{}")
    with pytest.raises(DataError, match=r"train holds 2 .json files; name the one"):
        open_data(f"coco:{tmp_path}@train")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "has no list 'images', so it is not a COCO instances file"),
        ({"images": []}, "has no list 'annotations'"),
        (document(images=[]), "lists no images"),
        (document(images=[{"id": 7, "file_name": "a.png"}, {"id": 7, "file_name": "b.png"}]), "have the id 7"),
        (document(categories=[]), "its categories are not one or more"),
        (document(categories=[{"id": 2, "name": "a"}, {"id": 2, "name": "b"}]), "an id and a name of its own"),
        (document(categories=[{"id": 2, "name": "cat"}]), "annotation 0 has the category_id 90, which its categories"),
        (
            document(images=[{"id": 7, "file_name": "a.png"}]),
            "annotation 2 has the image_id 3, which its images",
        ),
        (document(images=[{"id": 7, "file_name": "a.png"}, {"id": 3, "file_name": "c.png"}]), "1 of its 2 pictures"),
        (document(images=[{"id": 7, "file_name": "../a.png"}]), "is not named within the folder"),
        (document(images=[{"id": 7}]), r"images\[0\]"),
        (document(annotations=[{"image_id": 7, "category_id": 2, "bbox": [1, 2, 3]}]), "the bbox of annotation 0"),
        (document(annotations=[{"image_id": 7, "category_id": 2, "bbox": [1, 2, 3, "x"]}]), "bbox"),
    ],
)
def test_what_is_not_coco_is_refused(tmp_path: Path, content: dict[str, Any] | str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_data(written(tmp_path, content))
    with pytest.raises(DataError, match="does not exist"):
        open_data(f"coco:{tmp_path}/other.json")
