"""Affine quantization against numbers worked out by hand from real = scale * (integer - zero_point)."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.runtime.quantization import dequantize, quantize
from edgekit.types import QuantizedTensor

HALF = QuantizedTensor("int8", 0.5, -3)


@pytest.mark.parametrize(
    ("real", "integer"),
    [
        (0.0, -3),
        (1.0, -1),
        (0.25, -3),  # 0.5 rounds to 0, the even one
        (0.75, -1),  # 1.5 rounds to 2
        (1.25, -1),  # 2.5 rounds to 2
        (-0.25, -3),
        (-0.75, -5),  # -1.5 rounds to -2
        (65.5, 127),  # 131 - 3 = 128 is beyond the largest
        (65.0, 127),
        (-62.5, -128),
        (-1e9, -128),
        (1e9, 127),
    ],
)
def test_quantize_by_hand(real: float, integer: int) -> None:
    got = quantize(np.array([[real]], np.float32), HALF)
    assert got.dtype == np.int8 and got.shape == (1, 1)
    assert got[0, 0] == integer


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
def test_every_integer_survives_the_way_there_and_back(dtype: str) -> None:
    limits = np.iinfo(dtype)
    every = np.arange(limits.min, limits.max + 1).astype(dtype)
    how = QuantizedTensor(dtype, 0.0347, (limits.min + limits.max) // 2 + 9)
    real = dequantize(every, how)
    assert real.dtype == np.float32
    assert np.array_equal(quantize(real, how), every)


def test_the_input_is_left_alone() -> None:
    real, integers = np.array([1.0, 2.0], np.float32), np.array([1, 2], np.int8)
    quantize(real, HALF)
    dequantize(integers, HALF)
    assert real.tolist() == [1.0, 2.0] and integers.tolist() == [1, 2]
