"""Pooling that rounds the number of its windows up (``ceil_mode``), over sizes that are known when the file runs.

torch drops a last window that would begin behind the input, and asks the size for it, which torch.export takes for a
condition on the size. With a stride of at most kernel less padding no window begins there, whatever the size; then as
many windows come out of rounding down over stride - 1 places more at the end. Where all sizes are fixed the network's
own pooling stays, and so does one with a larger stride.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_MAX = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
_MEAN = ("input", "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
_AXES = {"1d": 1, "2d": 2, "3d": 3}


class RoundingUp(TorchFunctionMode):
    """While it is active, ``ceil_mode`` pooling over free sizes is written as pooling over a padded input."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        plain = partial(func, *args, **(kwargs or {}))
        kind, _, axes = getattr(func, "__name__", "").strip("_").partition("_pool")
        if kind not in ("max", "avg") or axes not in _AXES:
            return plain()
        given = dict(zip(_MAX if kind == "max" else _MEAN, args, strict=False)) | (kwargs or {})
        count, x = _AXES[axes], given["input"]
        free = not all(isinstance(size, int) for size in x.shape[-count:])
        if not given.get("ceil_mode") or given.get("return_indices") or not free:
            return plain()
        kernel, step, padding, dilation = (
            _each(given.get(name) or default, count)
            for name, default in (
                ("kernel_size", 1),
                ("stride", given["kernel_size"]),
                ("padding", 0),
                ("dilation", 1),
            )
        )
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        if any(s > r - p for s, r, p in zip(step, reach, padding, strict=True)):
            return plain()
        if kind == "max":
            pads = [amount for p, s in zip(padding, step, strict=True) for amount in (p, p + s - 1)]
            pool = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[count]
            return pool(_padded(x, pads, float("-inf")), kernel, step, 0, dilation)
        return _mean(x, kernel, step, padding, given.get("count_include_pad", True), given.get("divisor_override"))


def _each(value: Any, count: int) -> list[int]:
    return [int(value)] * count if isinstance(value, int) else [int(v) for v in value] * (count // len(value))


def _padded(x: Tensor, pads: Sequence[int], value: float) -> Tensor:
    """``pads``: front and end of each axis, the first axis first."""
    pairs = [tuple(pads[k : k + 2]) for k in range(0, len(pads), 2)]
    return F.pad(x, [amount for pair in reversed(pairs) for amount in pair], value=value)


def _mean(
    x: Tensor, kernel: list[int], step: list[int], padding: list[int], counted: bool, divisor: int | None
) -> Tensor:
    """The sum of each window over the number of places in it: those of the input, or of its padding too, but none of
    what was added at the end."""
    pool: Callable[..., Tensor] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}[len(kernel)]
    own = [amount for p in padding for amount in (p, p)]
    more = [amount for s in step for amount in (0, s - 1)]
    places = 1
    for size in kernel:
        places *= size
    mean = pool(_padded(_padded(x, own, 0.0), more, 0.0), kernel, step)
    if divisor:
        return mean * (places / divisor)
    there = torch.ones_like(x[:, :1])
    return mean / pool(_padded(_padded(there, own, float(counted)), more, 0.0), kernel, step)
