"""What a model file says of itself: operator set, producer, parameters, signatures, and how its integers are meant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.graph.onnx import OnnxGraph, load_onnx
from edgekit.graph.tflite import enum_names, held_bytes, holds_data, read_tflite, text
from edgekit.results.inspect import FileFacts
from edgekit.types import Artifact, Format, QuantizedTensor

_BITS: Mapping[str, int] = {"float64": 64, "float32": 32, "float16": 16, "bfloat16": 16, "int8": 8, "uint8": 8,
                            "int16": 16, "int4": 4, "uint4": 4, "int32": 32}  # fmt: skip
"""Types of weights; whole numbers of 32 bits are biases where they have a scale, else shapes and indices."""


def file_facts(artifact: Artifact) -> FileFacts:
    """The facts of an ONNX or TFLite file; nothing is known of other formats.

    Raises:
        ModelError: the file cannot be read.
    """
    if artifact.format is Format.ONNX:
        return _onnx(artifact.path)
    if artifact.format is Format.TFLITE:
        return _tflite(artifact.path)
    return FileFacts()


def _onnx(path: Path) -> FileFacts:
    model = load_onnx(path)
    graph = OnnxGraph(model.graph)
    scaling = ("QuantizeLinear", "DequantizeLinear")
    readers: dict[str, list[tuple[str, int]]] = {}
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            readers.setdefault(name, []).append((node.op_type, place))
    count = 0
    for name in graph.constants:
        value, used = graph.value(name), readers.get(name, [])
        if value is None or not value.ndim or value.dtype.name not in _BITS:
            continue
        if any(kind in scaling and place for kind, place in used):
            continue  # a scale or a zero point
        if value.dtype == np.int32 and not any(kind == "DequantizeLinear" for kind, _ in used):
            continue
        count += value.size
    return FileFacts(
        parameters=count,
        opset={one.domain or "ai.onnx": one.version for one in model.opset_import},
        ir_version=model.ir_version,
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        quantized_io=dict(_onnx_io(graph)),
    )


def _onnx_io(graph: OnnxGraph) -> Iterable[tuple[str, QuantizedTensor]]:
    """Integer inputs that a DequantizeLinear reads, and outputs that a QuantizeLinear writes, with one scale."""
    for name in graph.inputs:
        for reader in graph.readers.get(name, []):
            if reader.op_type == "DequantizeLinear":
                yield from _scaled(graph, name, reader)
    for name in graph.outputs:
        maker = graph.makers.get(name)
        if maker is not None and maker.op_type == "QuantizeLinear":
            yield from _scaled(graph, name, maker)


def _scaled(graph: OnnxGraph, name: str, node: Any) -> Iterable[tuple[str, QuantizedTensor]]:
    scale = graph.value(node.input[1])
    zero = graph.value(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(1, np.uint8)
    if scale is not None and zero is not None and scale.size == zero.size == 1:
        yield name, QuantizedTensor(zero.dtype.name, float(scale.reshape(())), int(zero.reshape(())))


def _tflite(path: Path) -> FileFacts:
    model = read_tflite(path)
    types = {value: name.lower() for value, name in enum_names("TensorType").items()}
    count, seen = 0, set()
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            if tensor.buffer in seen or not holds_data(model, tensor) or types[tensor.type] not in _BITS:
                continue  # several tensors may share one buffer
            if types[tensor.type] == "int32" and _quantization(tensor) is None:
                continue
            if tensor.shape is not None and len(tensor.shape):
                seen.add(tensor.buffer)
                count += held_bytes(model, tensor) * 8 // _BITS[types[tensor.type]]
    graph = model.subgraphs[0]
    definitions = model.signatureDefs or []
    named = {entry.tensorIndex: text(entry.name)
             for one in definitions[:1] for entry in (*(one.inputs or ()), *(one.outputs or ()))}  # fmt: skip
    found = {}
    for index in (*graph.inputs, *graph.outputs):
        tensor = graph.tensors[index]
        how = _quantization(tensor)
        if how is not None and len(how.scale) == 1:
            zero = 0 if how.zeroPoint is None else int(how.zeroPoint[0])
            name = named.get(index) or text(tensor.name)
            found[name] = QuantizedTensor(types[tensor.type], float(how.scale[0]), zero)
    return FileFacts(
        parameters=count,
        schema_version=int(model.version),
        producer=text(model.description) if model.description else "",
        signatures=tuple(text(one.signatureKey) for one in definitions),
        quantized_io=found,
    )


def _quantization(tensor: Any) -> Any:
    """How its integers are meant; None of a tensor that is not quantized."""
    how = tensor.quantization
    return how if how is not None and how.scale is not None and len(how.scale) else None
