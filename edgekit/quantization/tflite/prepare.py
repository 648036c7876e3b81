"""Puts a TFLite graph into the form that Google's quantizer takes: distinct names, and biases that are vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgekit.flatbuffer_reader import without_prefix
from edgekit.graph.tflite_editor import Editor
from edgekit.quantization.tflite.compact_loops import with_compact_loops
from edgekit.quantization.tflite.stateless import stateful

INNER = "subgraph"
"""How the names of tensors begin that belong to a loop or a branch, for rules that apply to those only."""


def prepared(path: Path, *, integers_only: bool = False, keeps_state: bool = False) -> bytes:
    """The TFLite model at ``path``, ready to be quantized.

    A batch norm behind a transposed convolution becomes a bias of shape (1, 1, 1, channels). The quantizer gives a bias
    one scale a channel on its first axis, which has one channel then, and no runtime opens the result. It also refuses
    a file in which two tensors share a name, as those of two loops do, and reads operators' numbers in the new schema.
    Float16 weights that are widened when the file is loaded become float32. The steps of stateless layers are left out:
    who needs them puts them in again, as the quantized weights want them.

    Args:
        integers_only: recurrent layers without an integer operator become loops that have an integer form.
        keeps_state: those that can keep their state between calls are to.
    """
    given = without_prefix(path.read_bytes())  # the library would copy the parent's card into the result
    content = stateful(given)
    if integers_only:
        content = with_compact_loops(content, anew=content is not given and not keeps_state)
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    old = [_newest_code(code) for code in model.operatorCodes]
    turned = [_flatten_bias(graph, node) for graph in model.subgraphs for node in _transposed(model, graph, schema)]
    widened = [_widen(model, graph, schema) for graph in model.subgraphs]
    changed = _rename(model) or any(turned) or any(widened) or any(old) or model.signatureDefs is None
    model.signatureDefs = model.signatureDefs or []  # the library counts on a list
    model.metadataBuffer = None  # of old files; the flatbuffer tools drop buffers and leave its numbers as they were
    content = bytes(flatbuffer_utils.convert_object_to_bytearray(model)) if changed else content
    return Editor(content).content() if any(widened) else content  # without what was widened


def _widen(model: Any, graph: Any, schema: Any) -> bool:
    """Puts float32 constants in place of float16 ones behind DEQUANTIZE; whether there were any."""
    kept: list[Any] = []
    for node in graph.operators:
        widens = model.operatorCodes[node.opcodeIndex].builtinCode == schema.BuiltinOperator.DEQUANTIZE
        source = graph.tensors[node.inputs[0]] if widens else None
        data = None if source is None else model.buffers[source.buffer].data
        if source is None or source.type != schema.TensorType.FLOAT16 or data is None or not len(data):
            kept.append(node)
            continue
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.asarray(data).tobytes(), np.float16).astype(np.float32).view(np.uint8)
        model.buffers.append(buffer)
        graph.tensors[node.outputs[0]].buffer = len(model.buffers) - 1
    found = len(kept) < len(graph.operators)
    graph.operators = kept
    return found


def _newest_code(code: Any) -> bool:
    """Puts an operator's number where newer schemas have it (``builtin_code``): files of before 2020 have the old field
    only, and the new one reads as 0, which is ADD. Whether it was not there."""
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    changed: bool = code.builtinCode != number
    code.builtinCode = number
    return changed


def _rename(model: Any) -> bool:
    """Marks the names inside loops and branches, and tells equal ones apart; whether there were any."""
    taken: set[bytes] = set()
    changed = False
    for number, graph in enumerate(model.subgraphs):
        for tensor in graph.tensors:
            old = tensor.name or b""
            old = old if isinstance(old, bytes) else old.encode()
            wanted = f"{INNER}{number}/".encode() + old if number else old
            name, count = wanted, 1
            while name in taken:
                count += 1
                name = wanted + f"#{count}".encode()
            taken.add(name)
            tensor.name = name
            changed |= name != old
    return changed


def _transposed(model: Any, graph: Any, schema: Any) -> list[Any]:
    wanted = schema.BuiltinOperator.TRANSPOSE_CONV
    return [node for node in graph.operators if model.operatorCodes[node.opcodeIndex].builtinCode == wanted]


def _flatten_bias(graph: Any, node: Any) -> bool:
    """Gives the bias of ``node`` one axis, where it has more and no other operator takes it."""
    if len(node.inputs) < 4 or node.inputs[3] < 0:
        return False
    index = node.inputs[3]
    bias = graph.tensors[index]
    users = sum(int(np.count_nonzero(np.asarray(other.inputs) == index)) for other in graph.operators)
    if len(bias.shape) < 2 or users > 1:
        return False
    bias.shape = np.array([int(np.prod(bias.shape))], np.int32)
    bias.shapeSignature = None
    return True
