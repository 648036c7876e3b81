from __future__ import annotations

import numpy as np
import pytest

from edgekit.bench.shapes import batch_of, free_dims, parse_shapes
from edgekit.errors import UnsupportedError, UsageError
from edgekit.types import Signature, TensorSpec

AXES = ("batch", "time")
FREE = Signature((TensorSpec("tokens", "int64", AXES), TensorSpec("mask", "float32", AXES)), ())
FIXED = Signature((TensorSpec("image", "float32", (1, 3, 32, 32)),), ())


def test_input_and_dimension() -> None:
    assert free_dims(FREE, parse_shapes(["tokens=2x576"])) == {"batch": 2, "time": 576}
    assert free_dims(FREE, parse_shapes(["time=64"])) == {"time": 64}
    assert free_dims(FREE, {}, batch=8) == {"batch": 8}
    assert free_dims(FIXED, parse_shapes(["image=1x3x32x32"]), batch=1) == {}


@pytest.mark.parametrize("text", ["tokens", "tokens=", "=3", "time=0", "time=-1", "time=2.5", "tokens=1xx3"])
def test_not_a_shape(text: str) -> None:
    with pytest.raises(UsageError, match="--shape"):
        parse_shapes([text])


@pytest.mark.parametrize(
    ("signature", "texts", "said"),
    [(FREE, ["width=3"], "there are: tokens, mask, batch, time"), (FREE, ["tokens=1"], "got 1 axes"),
     (FIXED, ["image=1x3x64x64"], "fixed to 32"), (FREE, ["tokens=1x4", "mask=1x5"], "as 4 and as 5")],
)  # fmt: skip
def test_shapes_that_do_not_fit(signature: Signature, texts: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        free_dims(signature, parse_shapes(texts))


def test_batch_of_a_fixed_file_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="--dynamic image:0=batch"):
        free_dims(FIXED, {}, batch=4)


def test_batch_of_a_feed() -> None:
    assert batch_of({"x": np.zeros((4, 3))}) == 4
    assert batch_of({"x": np.zeros(16)}) == 1
    assert batch_of({"scale": np.zeros(2), "x": np.zeros((3, 2))}) == 3
