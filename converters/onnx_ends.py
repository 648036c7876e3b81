"""The two ends of an ONNX model on its way through onnx2tf.

onnx2tf turns images to channels last at both ends where it thinks fit, and renames and drops what it takes for
superfluous. So it is given a graph whose ends it leaves alone (:func:`prepared`): inputs under names of our own whose
shape it is told to keep, outputs behind a reshape to one row. Its file then gets names, order and shapes of the ONNX
file (:func:`named`).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgekit.converters.base import NARROWED
from edgekit.converters.layout import TO_FIRST, TO_LAST, permuted
from edgekit.converters.newer_opset import opset_of, raised
from edgekit.errors import UnsupportedError
from edgekit.graph.onnx_editor import Names, rename, replace_nodes
from edgekit.graph.onnx_sizes import fixed
from edgekit.types import Dim, Signature, TensorSpec

log = logging.getLogger("edgekit")
OPSET = 17
"""What models of an old opset are raised to."""
_OLD = 13
_LEFT_ALONE = 2
"""Rank up to which onnx2tf does not change an output."""


def input_name(place: int) -> str:
    """What the input at ``place`` is called while onnx2tf works on it."""
    return f"edgekit_input_{place}"


def output_name(place: int) -> str:
    """What the output at ``place`` is called meanwhile."""
    return f"edgekit_output_{place}"


def prepared(model: Any, signature: Signature, flipped: Sequence[bool], back: Sequence[bool]) -> Any:
    """A copy of ``model`` for onnx2tf: sizes fixed to those of ``signature``, ends under names of our own.

    Args:
        signature: of the model, all sizes of its inputs fixed.
        flipped, back: for each input, and output, whether the file to come has (N, H, W, C) where the model has
            (N, C, H, W).
    """
    import onnx

    made = fixed(_modern(model), {spec.name: spec.shape for spec in signature.inputs})
    graph, helper, names = made.graph, onnx.helper, Names(made)
    rename(graph, {spec.name: input_name(place) for place, spec in enumerate(signature.inputs)})
    values = {value.name: value for value in graph.input}
    before = []
    for place, turned in enumerate(flipped):
        if turned:
            outer, inner = input_name(place), names.fresh(f"{input_name(place)}_nchw")
            value = values[outer]
            rename(graph, {outer: inner})
            sizes = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            last = permuted(sizes, True)
            value.CopyFrom(helper.make_tensor_value_info(outer, value.type.tensor_type.elem_type, last))
            before.append(
                helper.make_node("Transpose", [outer], [inner], names.fresh("to_channels_first"), perm=TO_FIRST)
            )
    behind = []
    for place, (value, spec) in enumerate(zip(graph.output, signature.outputs, strict=True)):
        own, kind = value.name, value.type.tensor_type.elem_type
        if back[place]:
            own, inner = names.fresh(f"{output_name(place)}_nhwc"), own
            behind.append(helper.make_node("Transpose", [inner], [own], names.fresh("to_channels_last"), perm=TO_LAST))
        row = _row(spec.shape)
        if row is None:
            behind.append(helper.make_node("Identity", [own], [output_name(place)], names.fresh("output")))
            value.name = output_name(place)
            continue
        shape = names.fresh("row")
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(row, np.int64), shape))
        behind.append(helper.make_node("Reshape", [own, shape], [output_name(place)], names.fresh("output")))
        value.CopyFrom(helper.make_tensor_value_info(output_name(place), kind, row))
    replace_nodes(graph, [*before, *graph.node, *behind])
    return made


def _modern(model: Any) -> Any:
    """``model`` in :data:`OPSET` where it is of an old one, whose operators onnx2tf takes for those of today
    (Upsample); as it is where onnx cannot raise it."""
    if opset_of(model) >= _OLD:
        return model
    try:
        return raised(model, OPSET)
    except Exception as error:  # of C++, without a class of its own
        log.debug("kept in its old opset: %s", error)
        return model


def named(content: bytes, signature: Signature) -> tuple[bytes, Signature]:
    """The file that onnx2tf made of a prepared model, with names, order and shapes of ``signature``; and the signature
    that it has, with the types of its tensors.

    Raises:
        UnsupportedError: an input or output is missing from it, or has another size.
    """
    from edgekit.graph.tflite import enum_names, text
    from edgekit.graph.tflite_editor import Editor

    editor = Editor(content)
    graph, types = editor.main(), enum_names("TensorType")
    (given,) = editor.model.signatureDefs[:1]
    where = {text(entry.name): entry for entry in (*given.inputs, *given.outputs)}

    def placed(place: int, spec: TensorSpec, name: str) -> tuple[Any, TensorSpec]:
        if name not in where and name == output_name(place):
            raise UnsupportedError(f"onnx2tf's file has lost the output {spec}, so it is not the same network")
        entry = where[name] if name in where else _unread(graph, spec)
        row = _row(spec.shape) if name == output_name(place) else None
        if row is not None and graph.shape(entry.tensorIndex) == row:
            entry.tensorIndex = _in_shape(graph, int(entry.tensorIndex), [int(size) for size in spec.shape])
        index = int(entry.tensorIndex)
        raw, shape = graph.raw.tensors[index], graph.shape(index)
        sizes = [size for size in spec.shape if isinstance(size, int)]
        known = len(sizes) == len(spec.shape) and (sizes == list(raw.shape) or (not sizes and list(raw.shape) == [1]))
        if known:  # what it left open follows from the inputs; a single number has no axis
            raw.shape, raw.shapeSignature, shape = sizes, None, sizes
        if len(shape) != len(spec.shape) or any(
            isinstance(a, int) and a != b for a, b in zip(spec.shape, shape, strict=True)
        ):
            raise UnsupportedError(f"onnx2tf's file has the shape {shape} where the ONNX file has {spec}")
        entry.name = raw.name = spec.name
        found = tuple(size if size >= 0 else dim for size, dim in zip(shape, spec.shape, strict=True))
        return entry, TensorSpec(spec.name, types[raw.type].lower(), found)

    inputs = [placed(place, spec, input_name(place)) for place, spec in enumerate(signature.inputs)]
    outputs = [placed(place, spec, output_name(place)) for place, spec in enumerate(signature.outputs)]
    given.inputs, given.outputs = [entry for entry, _ in inputs], [entry for entry, _ in outputs]
    graph.raw.inputs = [int(entry.tensorIndex) for entry in given.inputs]
    graph.raw.outputs = [int(entry.tensorIndex) for entry in given.outputs]
    return editor.content(), Signature(tuple(spec for _, spec in inputs), tuple(spec for _, spec in outputs))


def _unread(graph: Any, spec: TensorSpec) -> Any:
    """The signature's entry of an input that nothing reads, which onnx2tf leaves out."""
    from ai_edge_litert import schema_py_generated as schema

    made = schema.TensorMapT()
    made.tensorIndex = graph.tensor(spec.name, [int(size) for size in spec.shape], NARROWED.get(spec.dtype, spec.dtype))
    return made


def _row(shape: Sequence[Dim]) -> list[int] | None:
    """The sizes of an output as one row; None for one that stays as it is."""
    if len(shape) <= _LEFT_ALONE or not all(isinstance(size, int) for size in shape):
        return None
    return [1, math.prod(size for size in shape if isinstance(size, int))]


def _in_shape(graph: Any, tensor: int, shape: list[int]) -> int:
    """The tensor ``tensor``, a row, in ``shape``: by the reshape that makes it, or by another one."""
    maker = graph.makers().get(tensor)
    if maker is not None and graph.kind(maker) == "RESHAPE" and graph.users(tensor) == 1:
        maker.inputs = [int(maker.inputs[0]), graph.constant("shape", shape, "int32")]
        if maker.builtinOptions is not None:
            maker.builtinOptions.newShape = shape
        graph.raw.tensors[tensor].shape, graph.raw.tensors[tensor].shapeSignature = shape, None
        return tensor
    inputs = [tensor, graph.constant("shape", shape, "int32")]
    made: int = graph.made("RESHAPE", inputs, "reshaped", shape, newShape=shape)
    return made
