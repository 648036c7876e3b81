"""What Google's quantizer leaves out around the conversions that it inserts: free sizes, and names of outputs."""

from __future__ import annotations

from typing import Any

from edgekit.converters.recurrent.flatbuffer import Editor, Graph
from edgekit.passes.tflite_integers import builtin, name_of


def finished(content: bytes, parent: bytes) -> bytes:
    """A quantized file with the free sizes and the names of inputs and outputs that its ``parent`` has.

    A tensor behind an inserted QUANTIZE or DEQUANTIZE has the size 1 where the one before it is of any size, and an
    output is called ``y_dequant``, which counts where a file has no signature to name its outputs.
    """
    editor, before = Editor(content), Editor(parent)
    graph, old = Graph(editor, editor.model.subgraphs[0]), Graph(before, before.model.subgraphs[0])
    freed = [_free(graph, node) for node in graph.raw.operators if builtin(graph, node) in ("QUANTIZE", "DEQUANTIZE")]
    named = [
        _name(graph, int(new), name_of(old, int(was)))
        for side in (() if before.model.signatureDefs else ("inputs", "outputs"))  # else those give the names
        for new, was in zip(getattr(graph.raw, side), getattr(old.raw, side), strict=True)
    ]
    return editor.content() if any(freed) or any(named) else content


def _free(graph: Graph, node: Any) -> bool:
    """Carries free sizes across a conversion, from either side."""
    source, result = graph.raw.tensors[int(node.inputs[0])], graph.raw.tensors[int(node.outputs[0])]
    for known, other in ((source, result), (result, source)):
        if known.shapeSignature is not None and len(known.shapeSignature) and other.shapeSignature is None:
            other.shapeSignature = known.shapeSignature
            return True
    return False


def _name(graph: Graph, tensor: int, wanted: str) -> bool:
    if name_of(graph, tensor) == wanted:
        return False
    for number, other in enumerate(graph.raw.tensors):
        if name_of(graph, number) == wanted:
            other.name = f"{wanted}_inside"
    graph.raw.tensors[tensor].name = wanted
    return True
