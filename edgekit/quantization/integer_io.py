"""What the integers of a quantized file's inputs and outputs stand for, read from the file itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from edgekit.graph.onnx import OnnxGraph, load_onnx
from edgekit.graph.tflite import kind_of, read_tflite
from edgekit.types import Artifact, Format, QuantizedTensor

_ONNX_TYPES = {2: "uint8", 3: "int8", 4: "uint16", 5: "int16"}
_TFLITE_TYPES = {3: "uint8", 9: "int8", 7: "int16"}


def integer_io(artifact: Artifact) -> tuple[list[QuantizedTensor | None], list[QuantizedTensor | None]]:
    """Quantization of each input and each output in the file's order; None where it is real."""
    return _onnx(artifact) if artifact.format is Format.ONNX else _tflite(artifact)


def output_steps(artifact: Artifact) -> list[float]:
    """The steps of the outputs that come out of integers, in the outputs' own units: scales of integer outputs, and of
    real ones that a DequantizeLinear or DEQUANTIZE with one scale makes. Outputs of float operators have none."""
    steps = [how.scale for how in integer_io(artifact)[1] if how is not None]
    return [*steps, *(_onnx_steps(artifact) if artifact.format is Format.ONNX else _tflite_steps(artifact))]


def _onnx_steps(artifact: Artifact) -> Iterator[float]:
    graph = OnnxGraph(load_onnx(artifact.path).graph)
    for node in graph.graph.node:
        if node.op_type == "DequantizeLinear" and node.output[0] in graph.outputs:
            scale = graph.value(node.input[1])
            if scale is not None and scale.size == 1:
                yield float(scale.item())


def _tflite_steps(artifact: Artifact) -> Iterator[float]:
    model = read_tflite(artifact.path)
    graph = model.subgraphs[0]
    for op in graph.operators:
        if kind_of(model, op) == "DEQUANTIZE" and op.outputs[0] in graph.outputs:
            how = graph.tensors[op.inputs[0]].quantization
            if how is not None and how.scale is not None and len(how.scale) == 1:
                yield float(how.scale[0])


def _onnx(artifact: Artifact) -> tuple[list[QuantizedTensor | None], list[QuantizedTensor | None]]:
    from onnx import numpy_helper

    graph = load_onnx(artifact.path).graph
    constants = OnnxGraph(graph).constants
    readers = {node.input[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    makers = {node.output[0]: node for node in graph.node if node.op_type == "QuantizeLinear"}

    def found(value: Any, node: Any) -> QuantizedTensor | None:
        dtype = _ONNX_TYPES.get(value.type.tensor_type.elem_type)
        if dtype is None or node is None:
            return None
        scale, zero = (numpy_helper.to_array(constants[name]) for name in node.input[1:3])
        return QuantizedTensor(dtype, float(scale), int(zero))

    inputs = [found(value, readers.get(value.name)) for value in graph.input if value.name not in constants]
    return inputs, [found(value, makers.get(value.name)) for value in graph.output]


def _tflite(artifact: Artifact) -> tuple[list[QuantizedTensor | None], list[QuantizedTensor | None]]:
    model = read_tflite(artifact.path)
    graph = model.subgraphs[0]

    def found(index: int) -> QuantizedTensor | None:
        tensor = graph.tensors[index]
        how = tensor.quantization
        if tensor.type not in _TFLITE_TYPES or how is None or how.scale is None or len(how.scale) != 1:
            return None
        return QuantizedTensor(_TFLITE_TYPES[tensor.type], float(np.float32(how.scale[0])), int(how.zeroPoint[0]))

    return [found(i) for i in graph.inputs], [found(i) for i in graph.outputs]
