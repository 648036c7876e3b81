"""An ONNX model in float64: every float32 weight, constant, input and output of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def in_double(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of ``model`` in float64; integers, float16 and quantized tensors stay as they are. onnxruntime has most
    operators in float32 alone; ONNX's reference implementation runs it."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    _graph(made.graph)
    for function in made.functions:
        _nodes(function.node)
    return made


def _graph(graph: onnx.GraphProto) -> None:
    for tensor in graph.initializer:
        _tensor(tensor)
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    del graph.value_info[:]
    _nodes(graph.node)


def _nodes(nodes: Any) -> None:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i == TensorProto.FLOAT:  # Cast
                attribute.i = TensorProto.DOUBLE
            elif attribute.name in ("value_float", "value_floats"):  # Constant
                numbers = attribute.f if attribute.name == "value_float" else list(attribute.floats)
                tensor = numpy_helper.from_array(np.array(numbers, np.float64))
                attribute.CopyFrom(helper.make_attribute("value", tensor))
            elif attribute.HasField("t"):
                _tensor(attribute.t)
            elif attribute.HasField("g"):
                _graph(attribute.g)
            for graph in attribute.graphs:
                _graph(graph)


def _tensor(tensor: onnx.TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
