"""The classes of a model's input, in the pixels of the picture it was made of."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from edgekit.data.draw_mask import OUTSIDE, in_picture, painted
from edgekit.data.pixels import fit_mask
from edgekit.types import InputSpec

RULE = InputSpec("image", "NCHW", (8, 12), 3)


def test_a_resized_picture_gets_its_mask_back_at_its_own_size() -> None:
    mask = np.zeros((8, 12), np.int64)
    mask[2:4, 3:6] = 1
    whole = in_picture(mask, (80, 60), RULE)
    assert whole.shape == (80, 60) and whole[20:40, 15:30].all() and whole.sum() == 20 * 15
    half = in_picture(mask[::2, ::2], (80, 60), RULE)  # scores at half of the input's size
    assert half.shape == (80, 60) and half[20:40, 20:30].all() and half[:20].sum() == 0


def test_what_was_cut_away_has_no_class() -> None:
    """The shorter side of a 40 x 20 picture becomes 10, the centre 8 x 8 of 20 x 10 is shown."""
    rule = InputSpec("image", "NCHW", (8, 8), 3, params={"shorter": 10})
    whole = in_picture(np.ones((8, 8), np.int64), (40, 20), rule)
    assert (whole[12:28, 2:18] == 1).all() and (whole == OUTSIDE).sum() == 40 * 20 - 16 * 16
    picture = np.arange(40 * 20).reshape(40, 20) % 5
    back = in_picture(fit_mask(picture, (8, 8), rule), (40, 20), rule)
    shown = back != OUTSIDE
    assert (back[shown] == picture[shown]).mean() > 0.2  # of every second row and column those that were kept


def test_the_background_keeps_its_pixels() -> None:
    grey = np.full((2, 3, 1), 100, np.uint8)
    classes = np.array([[0, 1, 2], [OUTSIDE, 0, 1]])
    drawn = np.asarray(Image.open(io.BytesIO(painted(grey, classes, 0))))
    assert drawn.shape == (2, 3, 3)
    plain = (drawn == 100).all(-1)
    assert plain.tolist() == [[True, False, False], [True, True, False]]
    assert (drawn[0, 1] == drawn[1, 2]).all() and (drawn[0, 1] != drawn[0, 2]).any()
    every = np.asarray(Image.open(io.BytesIO(painted(grey, classes, None))))
    assert (every == 100).all(-1).sum() == 1
