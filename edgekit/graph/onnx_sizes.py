"""ONNX models with free axes fixed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgekit.graph.onnx import OnnxGraph, graphs, with_shapes
from edgekit.types import Dim


def fixed(model: Any, inputs: Mapping[str, Sequence[Dim]]) -> Any:
    """A copy of ``model`` whose inputs have these sizes; a text in place of a size leaves an axis free.

    Shapes of outputs are inferred anew, as far as onnx can tell them. Inputs that are initializers as well, as old
    files list them, are initializers only.
    """
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    constants = OnnxGraph(graph).constants
    kept = [value for value in graph.input if value.name not in constants]
    sizes: dict[str, int] = {}
    for value in kept:
        dims = value.type.tensor_type.shape.dim
        for dim, size in zip(dims, inputs.get(value.name, ()), strict=False):
            if isinstance(size, int):
                if dim.dim_param:
                    sizes[dim.dim_param] = size
                dim.dim_value = size
    del graph.input[:]
    graph.input.extend(kept)
    if all(dim.HasField("dim_value") for value in kept for dim in value.type.tensor_type.shape.dim):
        for one in graphs(graph):
            del one.value_info[:]
    for value in graph.output:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in sizes:
                dim.dim_value = sizes[dim.dim_param]
    inferred = {value.name: value for value in with_shapes(_open_outputs(made)).output}
    for value in graph.output:
        known = inferred[value.name].type.tensor_type.shape.dim
        dims = value.type.tensor_type.shape.dim
        if not dims and known:
            value.type.tensor_type.shape.CopyFrom(inferred[value.name].type.tensor_type.shape)
        for dim, found in zip(dims, known, strict=False):
            if not dim.HasField("dim_value") and found.HasField("dim_value"):
                dim.dim_value = found.dim_value
    return made


def _open_outputs(model: Any) -> Any:
    """``model`` with the shapes of its outputs taken out, so that what is inferred is not what was said."""
    import onnx

    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for value in bare.graph.output:
        value.type.tensor_type.ClearField("shape")
    return bare
