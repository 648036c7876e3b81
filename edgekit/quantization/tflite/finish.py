"""What Google's quantizer does not take or leaves out: constants that operators of several kinds read, those that were
float16, free sizes, names of outputs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from copy import copy
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.graph.tflite_editor import Editor, Graph
from edgekit.quantization.tflite.integers import half


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


def unshared(content: bytes, groups: Sequence[Collection[str]]) -> bytes:
    """A copy in which operators of different ``groups`` (names; the rest is one more) read no constant in common.

    The library quantizes a constant once for each way that it is read, and fails on the second where one of them is
    float: it takes the copy that it makes for that under a name that it cannot extend.
    """
    editor = Editor(content)
    graph = editor.main()
    taken = {graph.name(number) for number in range(len(graph.raw.tensors))}
    copies: dict[tuple[int, int], int] = {}
    first: dict[int, int] = {}
    for node in graph.raw.operators:
        name = graph.name(node.outputs[0]) if len(node.outputs) else ""
        group = next((number for number, names in enumerate(groups) if name in names), len(groups))
        inputs = [int(tensor) for tensor in node.inputs]
        for place, tensor in enumerate(inputs):
            if tensor < 0 or graph.data(tensor) is None or first.setdefault(tensor, group) == group:
                continue
            if (tensor, group) not in copies:
                copies[tensor, group] = _copy(graph, tensor, taken)
            inputs[place] = copies[tensor, group]
        node.inputs = inputs
    return editor.content() if copies else content


def _copy(graph: Graph, tensor: int, taken: set[str]) -> int:
    twin, name, count = copy(graph.raw.tensors[tensor]), graph.name(tensor), 2
    while f"{name}#{count}" in taken:
        count += 1
    taken.add(f"{name}#{count}")
    twin.name = f"{name}#{count}".encode()
    twin.buffer = graph.editor.buffer(np.asarray(graph.editor.model.buffers[twin.buffer].data))
    graph.raw.tensors.append(twin)
    return len(graph.raw.tensors) - 1


def narrowed(content: bytes, parent: Path) -> bytes:
    """``content`` with the weights in float16 that are so in the file at ``parent``, and float32 here.

    Biases stay: XNNPACK takes them in float16 with weights in float16 only.
    """
    halves = _halves(parent)
    if not halves:
        return content
    editor, changed = Editor(content), False
    for raw in editor.model.subgraphs:
        graph, widening = Graph(editor, raw), []
        for number in range(len(raw.tensors)):
            value = graph.data(number)
            if value is not None and value.ndim > 1 and _digest(value) in halves:
                source = half(graph, f"{graph.name(number)}/half", value)
                raw.tensors[number].buffer = 0
                widening.append((source, number))
        operators = list(raw.operators)
        raw.operators = []
        for source, number in widening:
            graph.insert_at(raw.operators)
            graph.operator("DEQUANTIZE", [source], [number], version=2)
        raw.operators += operators
        changed |= bool(widening)
    return editor.content() if changed else content


def _halves(path: Path) -> set[str]:
    """Digests, widened, of the float16 constants of a file that DEQUANTIZE reads."""
    found: set[str] = set()
    for graph in Editor(path.read_bytes()).graphs():
        for node in graph.raw.operators:
            value: Any = graph.values(int(node.inputs[0])) if graph.kind(node) == "DEQUANTIZE" else None
            if value is not None and value.dtype == np.float16:
                found.add(_digest(value.astype(np.float32)))
    return found


def _digest(value: Any) -> str:
    return sha256(f"{value.shape}".encode() + value.tobytes()).hexdigest()
