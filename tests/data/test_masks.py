"""``masks:DIR``, and what a mask goes through beside its picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgekit.data import open_data
from edgekit.data.images import decode, decode_indices
from edgekit.data.pixels import fit_mask
from edgekit.errors import DataError
from edgekit.types import Array, InputSpec


def pair(folder: Path, name: str, mask: Array) -> None:
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*mask.shape, 3), 100, np.uint8)).save(folder / "images" / f"{name}.jpg")
    Image.fromarray(mask).save(folder / "masks" / f"{name}.png")


def test_splits_and_labels(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("valid", 2), ("test", 1)):
        for k in range(count):
            pair(tmp_path / split, f"p{k}", np.full((4, 6), k, np.uint8))
    (tmp_path / "test" / "images" / "._p0.jpg").write_bytes(b"of macOS")
    (tmp_path / "labels.txt").write_text("sky\nroad\ntree\n")
    data = open_data(f"masks:{tmp_path}")
    assert (data.split, len(data), data.classes) == ("test", 1, ("sky", "road", "tree"))
    valid = open_data(f"masks:{tmp_path}@val")
    assert len(valid) == 2 and valid.answers is not None and valid.answers[1].max() == 1
    with pytest.raises(DataError, match="has no split 'all'; it has: test, val, train"):
        open_data(f"masks:{tmp_path}@all")


def test_a_folder_without_splits_is_divided(tmp_path: Path) -> None:
    for k in range(10):
        pair(tmp_path, f"p{k}", np.zeros((4, 4), np.uint8))
    assert [len(open_data(f"masks:{tmp_path}@{split}")) for split in ("train", "test", "all")] == [8, 2, 10]


def test_what_is_lacking_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no folder 'images'"):
        open_data(f"masks:{tmp_path}")
    pair(tmp_path, "p0", np.zeros((4, 4), np.uint8))
    (tmp_path / "masks" / "p0.png").unlink()
    with pytest.raises(DataError, match=r"1 picture has no mask of the same name in masks/, the first is p0\.jpg"):
        open_data(f"masks:{tmp_path}")


def test_a_mask_of_another_size_than_its_picture_is_refused(tmp_path: Path) -> None:
    pair(tmp_path, "p0", np.zeros((4, 6), np.uint8))
    pair(tmp_path, "p1", np.zeros((4, 6), np.uint8))
    Image.fromarray(np.zeros((6, 4), np.uint8)).save(tmp_path / "masks" / "p1.png")
    data = open_data(f"masks:{tmp_path}")
    assert data.answers is not None and data.answers[0].shape == (4, 6)
    with pytest.raises(DataError, match=r"p1\.png is 6 x 4 \(height x width\), its picture p1\.jpg 4 x 6 upright"):
        data.answers[1]


def test_a_mask_is_resized_and_cut_as_its_picture_is() -> None:
    mask = np.zeros((8, 16), np.uint8)
    mask[:, 8:] = 5
    squashed = fit_mask(mask, (4, 4), InputSpec("image", "NCHW", (4, 4), 3))
    assert squashed.tolist() == [[0, 0, 5, 5]] * 4
    centre = fit_mask(mask, (4, 4), InputSpec("image", "NCHW", (4, 4), 3, params={"shorter": 4}))
    assert centre.tolist() == [[0, 0, 5, 5]] * 4
    left = mask.copy()
    left[:, :4] = 2  # what the centre does not hold
    assert 2 not in fit_mask(left, (4, 4), InputSpec("image", "NCHW", (4, 4), 3, params={"shorter": 4}))
    assert set(np.unique(fit_mask(mask, (3, 5), None))) == {0, 5}  # never a class between two


def test_masks_are_numbers_and_not_colours(tmp_path: Path) -> None:
    palette = Image.fromarray(np.array([[0, 1], [2, 255]], np.uint8)).convert("P")
    palette.putdata([0, 1, 2, 255])
    palette.putpalette([9, 9, 9] * 256)
    palette.save(tmp_path / "palette.png")
    assert decode_indices(tmp_path / "palette.png").tolist() == [[0, 1], [2, 255]]
    Image.new("RGB", (2, 2)).save(tmp_path / "rgb.png")
    with pytest.raises(DataError, match="a picture in RGB; a mask is grey"):
        decode_indices(tmp_path / "rgb.png")


def test_pictures_of_other_kinds(tmp_path: Path) -> None:
    deep = np.array([[0, 256 * 100], [256 * 200, 65535]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert decode(tmp_path / "deep.png")[..., 0].tolist() == [[0, 100], [200, 255]]
    Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert decode(tmp_path / "clear.png")[0, 0].tolist() == [255, 255, 255]
    turned = Image.new("RGB", (4, 2), "red")
    exif = turned.getexif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert decode(tmp_path / "turned.jpg").shape == (4, 2, 3)
