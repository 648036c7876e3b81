"""Affine quantization of arrays: ``real = scale * (integer - zero_point)`` (TFLite's and ONNX's specification).

Rounding is half to even, as in ONNX QuantizeLinear; values out of range are clipped to the integer's limits.
"""

from __future__ import annotations

import numpy as np

from edgekit.types import Array, QuantizedTensor


def quantize(real: Array, how: QuantizedTensor) -> Array:
    """Float array -> integer array of ``how.dtype``, same shape: ``clip(round(real / scale) + zero_point)``."""
    dtype = np.dtype(how.dtype)
    limits = np.iinfo(dtype)
    values = np.divide(real, np.float32(how.scale), dtype=np.float32)
    np.rint(values, out=values)
    np.add(values, np.float32(how.zero_point), out=values)
    np.maximum(values, np.float32(limits.min), out=values)
    np.minimum(values, np.float32(limits.max), out=values)
    return values.astype(dtype)


def dequantize(integers: Array, how: QuantizedTensor) -> Array:
    """Integer array -> float32 array, same shape."""
    values = np.subtract(integers, np.float32(how.zero_point), dtype=np.float32)
    np.multiply(values, np.float32(how.scale), out=values)
    return values
