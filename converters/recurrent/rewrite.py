"""Calls of sequence operators in a converted file become TFLite operators. Imported by the worker only."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgekit.converters.recurrent import fused, loop
from edgekit.converters.recurrent.calls import PREFIX
from edgekit.graph.tflite_editor import Editor, Graph

Array = np.ndarray[Any, Any]


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
