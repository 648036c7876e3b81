"""Float16 weights of a file: those that become float32 when it is loaded, and those that something computes with."""

from __future__ import annotations

from pathlib import Path

from edgekit.graph.onnx import load_onnx
from edgekit.graph.tflite import holds_data, kind_of, read_tflite, text
from edgekit.types import Artifact, Format


def half_weights(artifact: Artifact) -> dict[str, bool]:
    """Name of each float16 weight -> whether all that read it turn it into float32.

    Raises:
        ModelError: the file cannot be read.
    """
    return _onnx(artifact.path) if artifact.format is Format.ONNX else _tflite(artifact.path)


def _tflite(path: Path) -> dict[str, bool]:
    from ai_edge_litert import schema_py_generated as schema

    model, found = read_tflite(path), {}
    for graph in model.subgraphs:
        readers: dict[int, set[str]] = {}
        for operator in graph.operators:
            for tensor in operator.inputs:
                readers.setdefault(int(tensor), set()).add(kind_of(model, operator))
        for number, tensor in enumerate(graph.tensors):
            if tensor.type == schema.TensorType.FLOAT16 and tensor.shape is not None and holds_data(model, tensor):
                found[text(tensor.name)] = readers.get(number) == {"DEQUANTIZE"}
    return found


def _onnx(path: Path) -> dict[str, bool]:
    import onnx

    graph = load_onnx(path, weights=False).graph
    halves = {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT16}
    widening: dict[str, set[bool]] = {name: set() for name in halves}
    for node in graph.node:
        single = [attribute.i for attribute in node.attribute if attribute.name == "to"] == [onnx.TensorProto.FLOAT]
        for name in halves.intersection(node.input):
            widening[name].add(node.op_type == "Cast" and single)
    return {name: kinds == {True} for name, kinds in widening.items()}
