"""``yolo:DIR``: its layouts of folders, boxes in pixels, outlines, and what is refused."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgekit.data import open_data
from edgekit.data.boxes import boxes_of
from edgekit.errors import DataError

NAMES = "labels.txt", "cat\ndog\n"


def picture(images: Path, name: str, text: str | None, labels: Path | None = None) -> None:
    images.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((60, 40, 3), np.uint8)).save(images / f"{name}.png")
    labels = labels or images.parent / "labels"
    labels.mkdir(parents=True, exist_ok=True)
    if text is not None:
        (labels / f"{name}.txt").write_text(text)


def test_boxes_in_pixels_and_outlines(tmp_path: Path, caplog: Any) -> None:
    picture(tmp_path / "images", "a", "1 0.5 0.5 0.5 0.5\n0 0.1 0.1 0.3 0.1 0.3 0.2\n\n")
    picture(tmp_path / "images", "b", "0 0.9 0.9 0.4 0.4")
    picture(tmp_path / "images", "c", "")
    picture(tmp_path / "images", "d", None)
    (tmp_path / "labels" / "old.txt").write_text("0 0.5 0.5 1 1")
    (tmp_path / NAMES[0]).write_text(NAMES[1])
    with caplog.at_level(logging.WARNING, "edgekit"):
        data = open_data(f"yolo:{tmp_path}")
    first = boxes_of(data, 0)
    np.testing.assert_allclose(first.boxes, [[10, 15, 30, 45], [4, 6, 12, 12]], atol=1e-4)
    assert (first.labels.tolist(), first.size, data.classes) == ([1, 0], (60, 40), ("cat", "dog"))
    np.testing.assert_allclose(boxes_of(data, 1).boxes, [[28, 42, 40, 60]], atol=1e-4)
    assert [len(boxes_of(data, k)) for k in (2, 3)] == [0, 0]
    said = "1 box reaches out of its picture and is cut; 2 pictures show no object; no picture is called like old"
    assert said in caplog.text


@pytest.mark.parametrize("outer", ["images", "split"])
def test_splits(tmp_path: Path, outer: str) -> None:
    for split, count in (("train", 3), ("val", 2), ("test", 1)):
        for k in range(count):
            if outer == "images":
                place = tmp_path / "images" / split, tmp_path / "labels" / split
            else:
                place = tmp_path / split / "images", tmp_path / split / "labels"
            picture(place[0], f"p{k}", "0 0.5 0.5 0.2 0.2", place[1])
    (tmp_path / "data.yaml").write_text("path: elsewhere\ntrain: images/train\nnames:\n  0: cat\n  1: dog\n")
    data = open_data(f"yolo:{tmp_path}")
    assert (data.split, len(data), data.classes) == ("test", 1, ("cat", "dog"))
    assert [len(open_data(f"yolo:{tmp_path}@{split}")) for split in ("train", "val")] == [3, 2]
    assert len(open_data(f"yolo:{tmp_path}/data.yaml")) == 1
    with pytest.raises(DataError, match="has no split 'all'; it has: test, val, train"):
        open_data(f"yolo:{tmp_path}@all")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2 0.5 0.5 0.2 0.2", "a.txt:1 has the class 2, and 2 are named"),
        ("-1 0.5 0.5 0.2 0.2", "has the class -1"),
        ("0.5 0.5 0.5 0.2 0.2", r"has the class 0\.5"),
        ("0 0.5 0.5 0.2", "a line is a class's number and the centre x"),
        ("0 0.5 0.5 0.2 0.2 0.9", "a line is a class's number"),
        ("cat 0.5 0.5 0.2 0.2", "is 'cat 0.5 0.5 0.2 0.2'; a line is"),
        ("0 nan 0.5 0.2 0.2", "a line is a class's number"),
        ("0 20 30 10 10", "has the value 30; give shares of the picture, 0 to 1"),
        ("0 0.5 0.5 0 0.2", "a.txt:1 is a box of 0 x 0.2, which has no size"),
        ("", "names no object for any of the 1 pictures"),
    ],
)
def test_lines_that_are_not_objects_are_refused(tmp_path: Path, line: str, message: str) -> None:
    picture(tmp_path / "images", "a", line)
    (tmp_path / NAMES[0]).write_text(NAMES[1])
    with pytest.raises(DataError, match=message):
        open_data(f"yolo:{tmp_path}")


def test_folders_that_are_not_the_layout_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder; yolo:DIR takes one with images/ and labels/"):
        open_data(f"yolo:{tmp_path}/none")
    picture(tmp_path / "images", "a", "0 0.5 0.5 0.2 0.2")
    with pytest.raises(DataError, match=r"names the classes; write labels.txt, one a line, or data.yaml"):
        open_data(f"yolo:{tmp_path}")
    for content, message in (("names: {1: a}", "has no 'names' that number all"), ("a: [", "cannot be read as YAML")):
        (tmp_path / "data.yaml").write_text(content)
        with pytest.raises(DataError, match=message):
            open_data(f"yolo:{tmp_path}")
    (tmp_path / "data.yaml").write_text("names: [cat]")
    assert open_data(f"yolo:{tmp_path}").classes == ("cat",)
    (tmp_path / "images" / "a.png").unlink()
    with pytest.raises(DataError, match="holds no picture"):
        open_data(f"yolo:{tmp_path}")
