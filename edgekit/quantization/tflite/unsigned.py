"""Inputs and outputs of int8 as uint8: what cameras give, and what MediaPipe and older Android code take."""

from __future__ import annotations

from typing import Any

from ai_edge_litert import schema_py_generated as schema

from edgekit.graph.tflite_editor import Editor, Graph

_SHIFT = 128
"""Between the zero points of int8 and uint8 with the same scale."""


def as_unsigned(content: bytes) -> bytes:
    """``content`` with a QUANTIZE behind every int8 input and before every int8 output, which then are uint8.

    The scale stays, so that nothing is rounded.
    """
    editor = Editor(content)
    graph = editor.main()
    first: list[Any] = []
    last: list[Any] = []
    moved = {int(k): _moved(graph, int(k)) for k in (*graph.raw.inputs, *graph.raw.outputs) if _is_int8(graph, int(k))}
    own = list(graph.raw.operators)
    for side, made in (("inputs", first), ("outputs", last)):
        graph.insert_at(made)
        for k in map(int, getattr(graph.raw, side)):
            if k in moved:
                ends = (moved[k], k) if side == "inputs" else (k, moved[k])
                graph.operator("QUANTIZE", [ends[0]], [ends[1]])
        setattr(graph.raw, side, [moved.get(int(k), int(k)) for k in getattr(graph.raw, side)])
    graph.raw.operators = [*first, *own, *last]
    for signature in editor.model.signatureDefs or []:
        if signature.subgraphIndex == 0:
            for entry in (*(signature.inputs or []), *(signature.outputs or [])):
                entry.tensorIndex = moved.get(int(entry.tensorIndex), int(entry.tensorIndex))
    return editor.content()


def _is_int8(graph: Graph, tensor: int) -> bool:
    return bool(graph.raw.tensors[tensor].type == schema.TensorType.INT8)


def _moved(graph: Graph, tensor: int) -> int:
    """A uint8 tensor that takes the name of ``tensor``; the number of the new one."""
    old = graph.raw.tensors[tensor]
    name = graph.name(tensor)
    made = graph.tensor(name, graph.shape(tensor), "uint8")
    how = schema.QuantizationParametersT()
    how.scale = [float(value) for value in old.quantization.scale]
    how.zeroPoint = [int(value) + _SHIFT for value in old.quantization.zeroPoint]
    graph.raw.tensors[made].quantization = how
    old.name = f"{name}_int8"
    return made
