"""How litert-torch writes the sequence operators, as calls of unknown functions, and what these become in the file.

``stablehlo.custom_call`` carries its operands, constants among them, through litert-torch's converter untouched; the
parameters travel as JSON in ``backend_config``. :func:`rewrite` puts TFLite's own operators in place of the calls.
Imported by the worker only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from ai_edge_litert import schema_py_generated as schema
from litert_converter.mlir import ir
from litert_converter.mlir.dialects import stablehlo
from litert_torch.backend import lowerings

from edgekit.converters.recurrent import (
    custom_ops,  # noqa: F401  (defines torch.ops.edgekit)
    fused,
    loop,
)
from edgekit.graph.tflite_editor import Editor, Graph

PREFIX = "edgekit."
Array = np.ndarray[Any, Any]
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


def rewrite(content: bytes) -> bytes:
    """The file with every call of ours replaced; a file without one is returned as it is.

    Raises:
        ValueError: the weights of a call are not constants of the file.
    """
    if PREFIX.encode() not in content:
        return content
    editor = Editor(content)
    for graph in editor.graphs():
        operators: list[Any] = []
        graph.insert_at(operators)
        for operator in graph.raw.operators:
            target = _target(operator)
            if target is None:
                operators.append(operator)
            else:
                _place(graph, operator, target)
        graph.raw.operators = operators
    return editor.content()


def _target(operator: Any) -> str | None:
    """The name of our operator that ``operator`` calls; None for any other."""
    options = operator.builtinOptions2
    if operator.builtinOptions2Type != schema.BuiltinOptions2.StablehloCustomCallOptions:
        return None
    name = options.callTargetName.decode()
    return name.removeprefix(PREFIX) if name.startswith(PREFIX) else None


def _place(graph: Graph, operator: Any, target: str) -> None:
    parameters = json.loads(operator.builtinOptions2.backendConfig)
    inputs, outputs = [int(k) for k in operator.inputs], [int(k) for k in operator.outputs]
    if target == "end":
        fused.end(graph, inputs[0], outputs[0], parameters["axis"])
        return
    name, cell = parameters["name"], parameters["cell"]
    if target == "fused":
        weights = _values(graph, name, inputs[1:])
        used = [k if graph.users(k) else None for k in outputs]
        how = {key: parameters[key] for key in ("batch_first", "reverse")}
        fused.emit(graph, cell, name, inputs[0], weights, used, **how)
        return
    end = 1 + parameters["weights"]
    if parameters["free"]:
        for tensor in (inputs[0], *inputs[end:], *outputs):
            graph.free(tensor, len(graph.shape(tensor)) - 2)
    weights = _values(graph, name, inputs[1:end])
    loop.emit(
        graph,
        cell,
        name,
        inputs[0],
        weights,
        inputs[end:],
        outputs,
        sequence=target == "loop",
        reverse=parameters["reverse"],
    )


def _values(graph: Graph, name: str, tensors: list[int]) -> list[Array]:
    values = []
    for tensor in tensors:
        value = graph.data(tensor)
        if value is None:
            raise ValueError(f"the weights of the recurrent layer at {name!r} are not float32 constants of the file")
        values.append(value)
    return values
