"""How litert-torch writes the sequence operators: as calls of functions that only :mod:`rewrite` knows.

``stablehlo.custom_call`` carries its operands, constants among them, through litert-torch's converter untouched; the
parameters travel as JSON in ``backend_config``. Imported by the worker only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from litert_converter.mlir import ir
from litert_converter.mlir.dialects import stablehlo
from litert_torch.backend import lowerings

from edgekit.converters.recurrent import operators  # noqa: F401  (defines torch.ops.edgekit)

PREFIX = "edgekit."
_F = TypeVar("_F", bound=Callable[..., Any])


def _lowers(operator: Any) -> Callable[[_F], _F]:
    """Registers a function as litert-torch's lowering of ``operator``."""

    def register(function: _F) -> _F:
        lowerings.lower(operator.default)(function)
        return function

    return register


@_lowers(torch.ops.edgekit.fused)
def _fused(context: Any, name: str, cell: str, x: Any, weights: Sequence[Any], batch_first: bool, reverse: bool) -> Any:
    parameters = {"name": name, "cell": cell, "batch_first": batch_first, "reverse": reverse}
    return _call(context, "fused", [x, *weights], parameters)


@_lowers(torch.ops.edgekit.loop)
def _loop(context: Any, *arguments: Any) -> Any:
    return _looped(context, "loop", *arguments)


@_lowers(torch.ops.edgekit.last)
def _last(context: Any, *arguments: Any) -> Any:
    return _looped(context, "last", *arguments)


@_lowers(torch.ops.edgekit.end)
def _end(context: Any, x: Any, axis: int) -> Any:
    return _call(context, "end", [x], {"axis": axis}, batch=lambda rank: 0)[0]


@_lowers(torch.ops.edgekit.join)
def _join(context: Any, parts: Sequence[Any], axis: int) -> Any:
    return stablehlo.concatenate(list(parts), dimension=axis)


def _looped(
    context: Any,
    operator: str,
    name: str,
    cell: str,
    x: Any,
    weights: Sequence[Any],
    state: Sequence[Any],
    reverse: bool,
) -> Any:
    source: Any = context.node.args[2]
    free = not isinstance(source.meta["val"].shape[1], int)  # (T, B, I)
    parameters = {"name": name, "cell": cell, "weights": len(weights), "reverse": reverse, "free": free}
    return _call(context, operator, [x, *weights, *state], parameters, batch=lambda rank: rank - 2)


def _shown(types: list[Any], node: Any, batch: Callable[[int], int]) -> list[Any]:
    """``types`` with the example's batch size in place of a dynamic one, as litert-torch gives a convolution's result.

    Behind a result without it, litert-torch cannot write a linear layer. TFLite finds the sizes of all tensors from
    those of the inputs, so the number is a placeholder; every size is proved.

    Args:
        batch: rank of a result -> its batch axis.
    """
    values = node.meta["val"] if isinstance(node.meta["val"], list | tuple) else [node.meta["val"]]
    shown = []
    for kind, value in zip(types, values, strict=True):
        shape, axis = list(kind.shape), batch(len(kind.shape))
        if not isinstance(value.shape[axis], int):
            shape[axis] = int(value.shape[axis].node.hint)
        shown.append(ir.RankedTensorType.get(shape, kind.element_type))
    return shown


def _call(
    context: Any,
    operator: str,
    operands: list[Any],
    parameters: dict[str, Any],
    batch: Callable[[int], int] | None = None,
) -> list[Any]:
    types = lowerings.utils.node_meta_to_ir_types(context.node)
    call = stablehlo.CustomCallOp(
        result=types if batch is None else _shown(types, context.node, batch),
        inputs=operands,
        call_target_name=ir.StringAttr.get(PREFIX + operator),
        backend_config=ir.StringAttr.get(json.dumps(parameters)),
    )
    return list(call.results)
