"""What Google's quantizer leaves out around the conversions that it inserts: free sizes, and names of outputs."""

from __future__ import annotations

from typing import Any

from edgekit.graph.tflite_editor import Editor, Graph


def finished(content: bytes, parent: bytes) -> bytes:
    """A quantized file with the free sizes and the names of inputs and outputs that its ``parent`` has.

    A tensor behind an inserted QUANTIZE or DEQUANTIZE has the size 1 where the one before it is of any size, and an
    output is called ``y_dequant``, which counts where a file has no signature to name its outputs. An output that is an
    input comes back as integers, and of a tensor that is given twice the signature still has the one before.
    """
    editor, before = Editor(content), Editor(parent)
    graph, old = editor.main(), before.main()
    passed = _pass_inputs(graph, old)
    signed = [_sign(editor, before, side) for side in ("inputs", "outputs")]
    freed = [_free(graph, node) for node in graph.raw.operators if graph.kind(node) in ("QUANTIZE", "DEQUANTIZE")]
    named = [
        _name(graph, int(new), old.name(was))
        for side in (() if before.model.signatureDefs else ("inputs", "outputs"))  # else those give the names
        for new, was in zip(getattr(graph.raw, side), getattr(old.raw, side), strict=True)
    ]
    return editor.content() if passed or any((*signed, *freed, *named)) else content


def _pass_inputs(graph: Graph, old: Graph) -> bool:
    """Lets outputs that are inputs in the parent be those, where inputs are what they were; whether any was not."""
    given = dict(zip(map(int, old.raw.inputs), map(int, graph.raw.inputs), strict=True))
    kept = [given.get(int(was), int(new)) for was, new in zip(old.raw.outputs, graph.raw.outputs, strict=True)]
    changed = kept != [int(new) for new in graph.raw.outputs]
    if any(graph.raw.tensors[new].type != old.raw.tensors[was].type for was, new in given.items()):
        return False  # integers that are asked for
    graph.raw.outputs = kept
    return changed


def _sign(editor: Editor, before: Editor, side: str) -> bool:
    """Points the entries of a signature to the tensors that stand in the place of the parent's; whether any was not."""
    changed = False
    for signature, was in zip(editor.model.signatureDefs or [], before.model.signatureDefs or [], strict=True):
        new, old = (getattr(model.subgraphs[was.subgraphIndex], side) for model in (editor.model, before.model))
        places = dict(zip(map(int, old), map(int, new), strict=True))
        for entry, wanted in zip(getattr(signature, side), getattr(was, side), strict=True):
            tensor = places[int(wanted.tensorIndex)]
            changed |= int(entry.tensorIndex) != tensor
            entry.tensorIndex = tensor
    return changed


def _free(graph: Graph, node: Any) -> bool:
    """Carries free sizes across a conversion, from either side."""
    source, result = graph.raw.tensors[int(node.inputs[0])], graph.raw.tensors[int(node.outputs[0])]
    for known, other in ((source, result), (result, source)):
        if known.shapeSignature is not None and len(known.shapeSignature) and other.shapeSignature is None:
            other.shapeSignature = known.shapeSignature
            return True
    return False


def _name(graph: Graph, tensor: int, wanted: str) -> bool:
    if graph.name(tensor) == wanted:
        return False
    for number, other in enumerate(graph.raw.tensors):
        if graph.name(number) == wanted:
            other.name = f"{wanted}_inside"
    graph.raw.tensors[tensor].name = wanted
    return True
