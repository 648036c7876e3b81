"""Fake quantization: values rounded to the 8 bits of a quantized file, kept in float32, with gradients.

The gradient is the straight-through estimator (Bengio et al. 2013): 1 where a value lies within the range, 0 where it
was clipped (Jacob et al. 2018, section 3).
"""

from __future__ import annotations

import torch
from torch import Tensor

LEVELS = 255
"""Steps between the 256 levels of an activation."""
LARGEST = 127
"""Largest magnitude of a weight's integer; -128 is not used, so that zero lies in the middle."""


def grid(ranges: Tensor) -> tuple[Tensor, Tensor]:
    """Scale (P,) and zero point (P,), 0..255, of ranges (P, 2) that hold zero; a range of no width gets scale 1e-8.

    As both back ends round them; int8 is the same grid with 128 less.
    """
    low, high = ranges[:, 0].clamp(max=0), ranges[:, 1].clamp(min=0)
    scale = ((high - low) / LEVELS).clamp(min=1e-8)
    zero = torch.round(-low / scale).clamp(0, LEVELS).to(torch.int32)
    return scale, zero


def rounded_activation(values: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """Values of any shape on one grid of 256 levels; scale and zero point are scalars."""
    return torch.fake_quantize_per_tensor_affine(values, scale, zero, 0, LEVELS)


def rounded_constant(values: Tensor) -> Tensor:
    """A constant that takes part in a sum or product: one grid over its own smallest and largest value."""
    low, high = torch.aminmax(values.detach())
    scale, zero = grid(torch.stack([low, high])[None])
    return rounded_activation(values, scale[0], zero[0])


def rounded_weight(weight: Tensor, axis: int | None) -> Tensor:
    """A weight on symmetric grids of -127..127, one for each index of ``axis``; one for all where it is None."""
    if axis is None:
        return rounded_weight(weight.reshape(1, -1), 0).reshape(weight.shape)
    axis %= weight.ndim
    others = [k for k in range(weight.ndim) if k != axis]
    reach = weight.detach().abs()
    reach = reach.amax(dim=others) if others else reach
    scale = torch.where(reach == 0, 1.0, reach / LARGEST)  # NaN stays NaN
    zeros = torch.zeros_like(scale, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scale, zeros, axis, -LARGEST, LARGEST)
