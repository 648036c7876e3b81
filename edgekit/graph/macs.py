"""Multiply-accumulates of an operator by its shapes. Pure functions; the table of operators names one for each.

Only products of matrices count (convolutions, dense layers, recurrent cells), as is usual; additions, activations,
normalizations and pooling are left out. One multiply-accumulate is two floating-point operations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Tensor:
    """Shape and bytes of one element. ``constant``: a weight, which stands in the file."""

    shape: Shape
    itemsize: int = 4
    constant: bool = False

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.size * self.itemsize


Rule = Callable[[Sequence[Tensor], Tensor], int]
"""Inputs and first output of an operator -> its multiply-accumulates."""


def convolution(weight: int) -> Rule:
    """Weights (out, in / groups, kernel…) in either order behind the first axis: each output value is one sum."""
    return lambda inputs, output: output.size * math.prod(inputs[weight].shape[1:])


def depthwise_tflite(inputs: Sequence[Tensor], output: Tensor) -> int:
    """Weights (1, height, width, channels)."""
    return output.size * math.prod(inputs[1].shape[1:3])


def transposed(inputs: Sequence[Tensor], output: Tensor) -> int:
    """ONNX and torch, weights (in, out / groups, kernel…): each input value is spread by the kernel."""
    return inputs[0].size * math.prod(inputs[1].shape[1:])


def transposed_tflite(inputs: Sequence[Tensor], output: Tensor) -> int:
    """Inputs: output shape, weights (out, height, width, in), values."""
    return inputs[2].size * math.prod(inputs[1].shape[:3])


def product(inputs: Sequence[Tensor], output: Tensor) -> int:
    """A (…, M, K) or (…, K, M) times B: the inner dimension is the one of A that the output has not."""
    a, out = inputs[0].shape, output.shape
    if len(a) == 1:
        return output.size * a[0]
    turned = len(out) > 1 and a[-2] != out[-2] and a[-1] == out[-2]
    return output.size * (a[-2] if turned else a[-1])


def product_added(inputs: Sequence[Tensor], output: Tensor) -> int:
    """``aten.addmm``: what is added, then the factors."""
    return output.size * inputs[1].shape[-1]


def dense_tflite(inputs: Sequence[Tensor], output: Tensor) -> int:
    """Weights (out, in)."""
    return output.size * inputs[1].shape[-1]


def sequence(gates: int) -> Rule:
    """x (…, in), y (…, hidden), with every step in both: for each value ``gates`` products with x and with h."""
    return lambda inputs, output: output.size * gates * (inputs[0].shape[-1] + output.shape[-1])


def by_weights(inputs: Sequence[Tensor], output: Tensor) -> int:
    """x (batch, time, in) in either order, then states and weights, of both directions: each matrix once a step."""
    steps = inputs[0].size // inputs[0].shape[-1]
    return steps * sum(tensor.size for tensor in inputs[1:] if tensor.constant and len(tensor.shape) == 2)


def total(counts: Sequence[int | None]) -> int | None:
    """The sum, None where a number is not known."""
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def share(part: Sequence[int | None], whole: Sequence[int | None]) -> float | None:
    """Share of the sum of ``whole`` that ``part`` is, 0..1; None where a number is not known, or there are none."""
    known = [count for count in whole if count is not None]
    if len(known) < len(whole) or not sum(known):
        return None
    return sum(count for count in part if count is not None) / sum(known)
