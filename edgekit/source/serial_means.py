"""Means as TensorFlow Lite computes them, with XNNPACK and without: one number after the other in float32.

torch and onnxruntime add in blocks, and are off by eps * log2(k) of the mean of k numbers; one after the other it is
eps * sqrt(k), and where all are equal, as in an image of one value, every addition rounds the same way: 4e-5 of a mean
over 56 x 56. A network that amplifies this differs between runtimes, and none of them is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from edgekit.types import Array

SERIAL: ContextVar[bool] = ContextVar("serial_means", default=False)
"""Whether models in float64 have their means computed so."""


def serial_mean(values: Array, axes: Sequence[int] | None, keepdims: bool) -> Array:
    """The mean over ``axes`` (all without any), float64, rounded to float32 after every addition."""
    places = tuple(axis % values.ndim for axis in axes) if axes else tuple(range(values.ndim))
    first = np.moveaxis(np.asarray(values, np.float32), places, range(len(places)))
    rows = first.reshape(-1, *first.shape[len(places) :])
    mean = np.add.accumulate(rows, axis=0, dtype=np.float32)[-1] / np.float32(len(rows))
    return np.asarray(np.expand_dims(mean, places) if keepdims else mean, np.float64)


@contextmanager
def serial_means() -> Iterator[None]:
    """Within it means of float64 tensors of torch, and of ONNX files that run in float64, are :func:`serial_mean`."""
    token = SERIAL.set(True)
    try:
        with _Means():  # type: ignore[no-untyped-call]
            yield
    finally:
        SERIAL.reset(token)


class _Means(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        aten, given = torch.ops.aten, dict(kwargs or {})
        if func not in (aten.mean.dim, aten.mean.default) or args[0].dtype != torch.float64 or not args[0].numel():
            return func(*args, **given)
        axes = args[1] if len(args) > 1 else given.get("dim")
        keepdims = args[2] if len(args) > 2 else given.get("keepdim", False)
        return torch.from_numpy(serial_mean(args[0].numpy(), axes, keepdims))


def serial_operators() -> list[Any]:
    """The operators of ONNX's reference implementation that compute means."""
    from onnx.reference.op_run import OpRun

    class GlobalAveragePool(OpRun):  # type: ignore[misc]
        def _run(self, x: Array) -> tuple[Array]:
            return (serial_mean(x, range(2, x.ndim), True).astype(x.dtype),)

    class ReduceMean(OpRun):  # type: ignore[misc]
        def _run(self, data: Array, axes: Any = None, keepdims: int = 1, noop_with_empty_axes: int = 0) -> tuple[Array]:
            chosen = () if axes is None else tuple(int(axis) for axis in np.ravel(axes))
            if not chosen and noop_with_empty_axes:
                return (data,)
            return (serial_mean(data, chosen, bool(keepdims)),)

    return [GlobalAveragePool, ReduceMean]
