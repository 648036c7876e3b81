"""How litert-torch writes the sequence operators: as calls of functions that only :mod:`rewrite` knows.

``stablehlo.custom_call`` carries its operands, constants among them, through litert-torch's converter untouched; the
parameters travel as JSON in ``backend_config``. Imported by the worker only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from edgekit.converters.recurrent import operators  # noqa: F401  (defines torch.ops.edgekit)
from litert_converter.mlir import ir
from litert_converter.mlir.dialects import stablehlo
from litert_torch.backend import lowerings

PREFIX = "edgekit."


@lowerings.lower(torch.ops.edgekit.fused.default)
def _fused(context: Any, name: str, cell: str, x: Any, weights: Sequence[Any], batch_first: bool, reverse: bool) -> Any:
    parameters = {"name": name, "cell": cell, "batch_first": batch_first, "reverse": reverse}
    return _call(context, "fused", [x, *weights], parameters)


@lowerings.lower(torch.ops.edgekit.loop.default)
def _loop(context: Any, *arguments: Any) -> Any:
    return _looped(context, "loop", *arguments)


@lowerings.lower(torch.ops.edgekit.last.default)
def _last(context: Any, *arguments: Any) -> Any:
    return _looped(context, "last", *arguments)


@lowerings.lower(torch.ops.edgekit.end.default)
def _end(context: Any, x: Any, axis: int) -> Any:
    return _call(context, "end", [x], {"axis": axis})[0]


@lowerings.lower(torch.ops.edgekit.join.default)
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
    parameters = {"name": name, "cell": cell, "weights": len(weights), "reverse": reverse}
    return _call(context, operator, [x, *weights, *state], parameters)


def _call(context: Any, operator: str, operands: list[Any], parameters: dict[str, Any]) -> list[Any]:
    call = stablehlo.CustomCallOp(
        result=lowerings.utils.node_meta_to_ir_types(context.node),
        inputs=operands,
        call_target_name=ir.StringAttr.get(PREFIX + operator),
        backend_config=ir.StringAttr.get(json.dumps(parameters)),
    )
    return list(call.results)
