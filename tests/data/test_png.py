"""PNG files are what another program reads back; a grid has each image in its place."""

import io

import numpy as np
import pytest
from PIL import Image

from edgekit.data.png import encode, grid


@pytest.mark.parametrize("channels", [1, 3])
def test_another_program_reads_the_same_pixels(channels):
    image = np.random.default_rng(0).integers(0, 256, (7, 5, channels), np.uint8)
    read = np.asarray(Image.open(io.BytesIO(encode(image))))
    np.testing.assert_array_equal(read.reshape(image.shape), image)


@pytest.mark.parametrize(("count", "rows", "columns"), [(1, 1, 1), (2, 1, 2), (5, 2, 3), (9, 3, 3)])
def test_a_grid_is_read_row_by_row(count, rows, columns):
    images = np.arange(1, count + 1, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 6, 1), np.uint8)
    whole = grid(images)
    assert whole.shape == (rows * 5 - 1, columns * 7 - 1, 1)
    for k in range(count):
        top, left = 5 * (k // columns), 7 * (k % columns)
        assert (whole[top : top + 4, left : left + 6] == k + 1).all()
    assert whole.sum() == images.sum()  # the rest is black


@pytest.mark.parametrize("bad", [np.zeros((2, 2, 1)), np.zeros((2, 2), np.uint8), np.zeros((2, 2, 2), np.uint8)])
def test_what_is_not_an_image(bad):
    with pytest.raises(ValueError, match="uint8"):
        encode(bad)
