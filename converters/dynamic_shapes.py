"""Reshape, mean and arithmetic with sizes that are known when the file runs: what litert-torch cannot write itself.

Its lowerings, made by JAX, want every size as a number; with a dynamic batch they fail at a flatten, or at the bias of
a linear layer. Here shapes are put together as tensors and given to StableHLO's ``dynamic_reshape`` and
``dynamic_broadcast_in_dim``. Where all sizes are fixed litert-torch's own lowerings stay. Imported by the worker only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from litert_converter.mlir import ir
from litert_converter.mlir.dialects import stablehlo
from litert_torch.backend import lowerings

_RESHAPES = (
    torch.ops.aten.view.default,
    torch.ops.aten.view_copy.default,
    torch.ops.aten._unsafe_view.default,
    torch.ops.aten.reshape.default,
)


def _register(operator: Any) -> None:
    fixed: Callable[..., Any] = lowerings.lookup(operator)

    def reshape(context: Any, x: Any, shape: Sequence[Any]) -> Any:
        sizes = list(context.node.meta["val"].shape)
        if all(isinstance(size, int) for size in sizes) and all(isinstance(size, int) for size in shape):
            return fixed(context, x, shape)
        return _dynamic(x, shape, sizes)

    lowerings.lower(operator)(reshape)


def _dynamic(x: Any, shape: Sequence[Any], sizes: Sequence[Any]) -> Any:
    """``x`` in the shape whose ``sizes`` torch knows as numbers or symbols; ``shape`` has the values of the symbols."""
    given = [size if isinstance(size, int) else value for value, size in zip(shape, sizes, strict=True)]
    if any(isinstance(value, int) and not isinstance(size, int) for value, size in zip(given, sizes, strict=True)):
        return _one_open(x, given, sizes)
    return stablehlo.dynamic_reshape(_type(sizes, _element(x)), x, _vector(given))


def _one_open(x: Any, given: Sequence[Any], sizes: Sequence[Any]) -> Any:
    """A reshape where one size is -1: all of ``x`` over the product of the others."""
    known = 1
    total = None
    for axis, size in enumerate(ir.RankedTensorType(x.type).shape):
        part = stablehlo.get_dimension_size(x, axis) if size < 0 else _scalar(size)
        total = part if total is None else stablehlo.multiply(total, part)
    other: Any = None
    for value in given:
        if not isinstance(value, int):
            value = _as_i32(value)
            other = value if other is None else stablehlo.multiply(other, value)
        elif value >= 0:
            known *= value
    divisor = _scalar(known) if other is None else stablehlo.multiply(other, _scalar(known))
    rest = stablehlo.divide(total, divisor)
    filled = [rest if isinstance(value, int) and value < 0 else value for value in given]
    return stablehlo.dynamic_reshape(_type(sizes, _element(x)), x, _vector(filled))


def _register_binary(operator: Any, write: Callable[..., Any]) -> None:
    fixed: Callable[..., Any] = lowerings.lookup(operator)

    def binary(context: Any, x: Any, y: Any, **options: Any) -> Any:
        value = context.node.meta["val"]
        sizes = list(value.shape)
        if options or all(isinstance(size, int) for size in sizes) or not value.is_floating_point():
            return fixed(context, x, y, **options)
        shapes = [list(ir.RankedTensorType(side.type).shape) for side in (x, y)]
        whole = [side for side, shape in zip((x, y), shapes, strict=True) if _covers(shape, sizes)]
        if not whole or (shapes[0] == shapes[1] and _element(x) == _element(y)):
            return fixed(context, x, y, **options)
        return write(*(_spread(side, whole[0], sizes) for side in (x, y)))

    lowerings.lower(operator)(binary)


def _covers(shape: Sequence[int], sizes: Sequence[Any]) -> bool:
    """Whether an operand of ``shape`` already has the result's ``sizes``."""
    return len(shape) == len(sizes) and all(
        (have == want) if isinstance(want, int) else have < 0 for have, want in zip(shape, sizes, strict=True)
    )


def _spread(x: Any, like: Any, sizes: Sequence[Any]) -> Any:
    """``x`` broadcast to the shape of ``like``, in its type."""
    if x is like:
        return x
    shape = list(ir.RankedTensorType(x.type).shape)
    if _element(x) != _element(like):
        x = stablehlo.convert(ir.RankedTensorType.get(shape, _element(like)), x)
    if _covers(shape, sizes):
        return x
    wanted = [size if isinstance(size, int) else stablehlo.get_dimension_size(like, k) for k, size in enumerate(sizes)]
    axes = list(range(len(sizes) - len(shape), len(sizes)))
    return stablehlo.dynamic_broadcast_in_dim(_type(sizes, _element(like)), x, _vector(wanted), axes)


def _register_mean(operator: Any) -> None:
    fixed: Callable[..., Any] = lowerings.lookup(operator)
    summed: Callable[..., Any] = lowerings.lookup(torch.ops.aten.sum.dim_IntList)

    def mean(context: Any, x: Any, dim: Sequence[int] | None = None, keepdim: bool = False, **options: Any) -> Any:
        sizes = list(context.node.meta["val"].shape)
        shape = list(ir.RankedTensorType(x.type).shape)
        axes = [axis % len(shape) for axis in dim or range(len(shape))]
        if options or all(isinstance(size, int) for size in sizes) or any(shape[axis] < 0 for axis in axes):
            return fixed(context, x, dim, keepdim, **options)
        left = [k for k in range(len(shape)) if k not in axes]
        total = summed(context, x, axes, False)
        share = lowerings.utils.splat(1 / math.prod(shape[axis] for axis in axes), _element(x))
        known = [size for k, size in enumerate(sizes) if not keepdim or k in left]
        result = stablehlo.multiply(total, _spread(share, total, known))
        if not keepdim:
            return result
        wanted = [size if isinstance(size, int) else stablehlo.get_dimension_size(x, k) for k, size in enumerate(sizes)]
        return stablehlo.dynamic_reshape(_type(sizes, _element(x)), result, _vector(wanted))

    lowerings.lower(operator)(mean)


def _element(x: Any) -> Any:
    return ir.RankedTensorType(x.type).element_type


def _type(sizes: Sequence[Any], element: Any) -> Any:
    unknown = ir.ShapedType.get_dynamic_size()
    return ir.RankedTensorType.get([size if isinstance(size, int) else unknown for size in sizes], element)


def _scalar(value: int) -> Any:
    return stablehlo.constant(ir.DenseElementsAttr.get(np.array(value, np.int32)))


def _as_i32(value: Any) -> Any:
    return stablehlo.convert(ir.RankedTensorType.get([], ir.IntegerType.get_signless(32)), value)


def _vector(values: Sequence[Any]) -> Any:
    """int32 (n,) of numbers and scalar tensors."""
    one = ir.RankedTensorType.get([1], ir.IntegerType.get_signless(32))
    parts = [
        stablehlo.constant(ir.DenseElementsAttr.get(np.array([value], np.int32)))
        if isinstance(value, int)
        else stablehlo.reshape(one, _as_i32(value))
        for value in values
    ]
    return stablehlo.concatenate(parts, dimension=0)


for _operator in _RESHAPES:
    _register(_operator)
for _operator, _write in (
    (torch.ops.aten.add.Tensor, stablehlo.add),
    (torch.ops.aten.sub.Tensor, stablehlo.subtract),
    (torch.ops.aten.mul.Tensor, stablehlo.multiply),
    (torch.ops.aten.div.Tensor, stablehlo.divide),
):
    _register_binary(_operator, _write)
_register_mean(torch.ops.aten.mean.dim)
