"""Functions that look at several frames at once: convolutions, pooling, padding and slices along time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

CONVOLUTIONS: dict[Callable[..., Any], int] = {torch.conv1d: 1, torch.conv2d: 2}
"""Function -> how many axes it slides over, the last ones of its input."""
MAXIMA: dict[Callable[..., Any], int] = {
    functional.max_pool1d: 1, functional.max_pool2d: 2, torch.max_pool1d: 1, torch.max_pool2d: 2,
}  # fmt: skip
MEANS: dict[Callable[..., Any], int] = {torch.avg_pool1d: 1, functional.avg_pool2d: 2}
SLIDING = CONVOLUTIONS | MAXIMA | MEANS
PAD = functional.pad
SLICE = Tensor.__getitem__
JOIN = (torch.cat, torch.concat, torch.concatenate)

_CONVOLUTION = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_MAXIMUM = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
_MEAN = ("input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")


class CannotStreamError(Exception):
    """Why a call cannot be taken step by step; the caller knows where it stands."""


@dataclass(frozen=True)
class Window:
    """What a function sees along time.

    Attributes:
        extent: frames from the first to the last one it looks at.
        stride: frames from one of its outputs to the next.
        before, after: zeros that it puts around the sequence.
        call: the function on an input whose frames are all there, without those zeros.
    """

    extent: int
    stride: int
    before: int
    after: int
    call: Callable[[Tensor], Any]


def window_of(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], axis: int) -> Window | None:
    """The window of a call of :data:`SLIDING` whose input has its time at ``axis``; None where it slides over others.

    Raises:
        CannotStreamError: zeros at first are not what it puts around the sequence.
    """
    names = _CONVOLUTION if func in CONVOLUTIONS else _MAXIMUM if func in MAXIMA else _MEAN
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    axes = SLIDING[func]
    place = axis - (given["input"].ndim - axes)
    if place < 0:
        return None
    if func in CONVOLUTIONS:
        kernel = tuple(given["weight"].shape[2:])
        stride = _each(given.get("stride", 1), axes)
    else:
        kernel = _each(given["kernel_size"], axes)
        stride = _each(given.get("stride") or kernel, axes)
    dilation = _each(given.get("dilation", 1), axes)
    before, after = _padding(given.get("padding", 0), kernel, dilation)
    outer = (before[place], after[place])
    if any(outer) and func in MAXIMA:
        raise CannotStreamError("takes the largest value of frames before the first one, which are minus infinity")
    if any(outer) and func in MEANS and not given.get("count_include_pad", True):
        raise CannotStreamError("takes the mean of fewer frames at the ends; give it count_include_pad=True")
    if given.get("return_indices"):
        raise CannotStreamError("gives indices into the sequence")
    rest = tuple(0 if k == place else size for k, size in enumerate(before))
    if any(b != a for k, (b, a) in enumerate(zip(before, after, strict=True)) if k != place):
        raise CannotStreamError("pads its other axis by an odd number; give that padding as numbers")

    def call(x: Tensor) -> Any:
        return func(**{**given, "input": x, "padding": rest if axes > 1 else rest[0]})

    extent = (kernel[place] - 1) * dilation[place] + 1
    return Window(extent, stride[place], *outer, call)


def padding_of(args: Sequence[Any], kwargs: Mapping[str, Any], axis: int) -> tuple[int, int, list[int]]:
    """What a call of :data:`PAD` puts before and after the sequence, and all it pads with none along time.

    Raises:
        CannotStreamError: it is not zeros.
    """
    given = {**dict(zip(("input", "pad", "mode", "value"), args, strict=False)), **kwargs}
    pads = [int(size) for size in given["pad"]]
    place = 2 * (given["input"].ndim - 1 - axis)
    if place >= len(pads) or not any(pads[place : place + 2]):
        return 0, 0, pads
    before, after = pads[place : place + 2]
    if given.get("mode", "constant") != "constant" or given.get("value"):
        how = given.get("mode", "constant")
        how = f"the value {given['value']}" if how == "constant" else f"the mode {how!r}"
        raise CannotStreamError(f"pads the sequence with {how}; only zeros can be the frames before the first one")
    return before, after, [*pads[:place], 0, 0, *pads[place + 2 :]]


def along(index: Any, ndim: int, axis: int) -> tuple[int, Any] | None:
    """What stands for ``axis`` in an index of a tensor of ``ndim`` axes, and its place in ``index`` as a tuple; None
    where the axis is taken whole, or the index is not of numbers, slices, ``None`` and ``...`` alone."""
    items = index if isinstance(index, tuple) else (index,)
    if any(not (item is None or item is Ellipsis or isinstance(item, int | slice)) for item in items):
        return None
    fixed = sum(item is not None and item is not Ellipsis for item in items)
    at = 0
    for place, item in enumerate(items):
        if item is None:
            continue
        if item is Ellipsis:
            at += ndim - fixed
            continue
        if at == axis:
            return place, item
        at += 1
    return None


def _each(value: Any, axes: int) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, tuple | list) else (value,)
    return values * axes if len(values) == 1 else values


def _padding(given: Any, kernel: Sequence[int], dilation: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Zeros before and after each axis."""
    if given == "same":
        whole = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return tuple(size // 2 for size in whole), tuple(size - size // 2 for size in whole)
    sizes = (0,) * len(kernel) if given == "valid" else _each(given, len(kernel))
    return sizes, sizes
