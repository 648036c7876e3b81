"""Multiply-accumulates of the operators of a file, by the shapes that stand in it; a free size counts as 1."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from edgekit.errors import ModelError
from edgekit.graph import ops
from edgekit.graph.macs import Tensor
from edgekit.graph.onnx import numeric_attributes, with_shapes
from edgekit.graph.ops import Family
from edgekit.graph.tflite import holds_data
from edgekit.reading import reading
from edgekit.types import Format

_RECURRENT = frozenset(op.name for op in ops.of(Format.ONNX, Family.RECURRENT))


def whole(counts: Iterable[int | None]) -> int | None:
    """The sum; None when one of them is not known."""
    found = list(counts)
    return None if any(count is None for count in found) else sum(count for count in found if count is not None)


def onnx_macs(model: Any, nodes: Sequence[Any]) -> list[int | None]:
    """Multiply-accumulates of each of ``nodes`` of an ONNX model; None where a shape cannot be inferred."""
    shapes = _onnx_shapes(model)
    return [_onnx_node(node, shapes) for node in nodes]


def _onnx_node(node: Any, shapes: dict[str, tuple[int, ...]]) -> int | None:
    if node.op_type in _RECURRENT:  # its output may be nameless, and weights of both directions stand in one tensor
        x, weights = shapes.get(node.input[0]), [shapes.get(name) for name in node.input[1:3]]
        if x is None or any(shape is None for shape in weights):
            return None
        return math.prod(x[:-1]) * sum(math.prod(shape) for shape in weights if shape is not None)
    needed = [name for name in node.input if name]
    if any(name not in shapes for name in (*needed[:2], node.output[0])):
        return ops.macs(node.op_type, (), ())
    inputs = tuple(Tensor(shapes.get(name, ())) for name in needed)
    return ops.macs(node.op_type, inputs, (Tensor(shapes[node.output[0]]),))


def _onnx_shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """Shapes by tensor name. onnx infers nothing behind onnxruntime's own operators: plain ones stand in here."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        if node.op_type == "DynamicQuantizeLSTM":
            node.op_type, node.domain = "LSTM", ""
            del node.input[8:]
        elif node.op_type in ("MatMulNBits", "GatherBlockQuantized"):
            _plain(copy.graph, node)
    with reading("the ONNX graph", ModelError, "one with shapes", onnx.shape_inference.InferenceError):
        graph = with_shapes(copy)
    found = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        if kind.HasField("shape"):
            found[value.name] = tuple(dim.dim_value if dim.HasField("dim_value") else 1 for dim in kind.shape.dim)
    return found


def _plain(graph: Any, node: Any) -> None:
    """Turns a product or a table of 4 bits into one of float weights."""
    import onnx

    numbers = numeric_attributes(node)
    product = node.op_type == "MatMulNBits"
    held = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    shape = (numbers["K"], numbers["N"]) if product else held.get(node.input[0], ())
    weight = f"{node.input[1 if product else 0]}_float"
    graph.input.append(onnx.helper.make_tensor_value_info(weight, onnx.TensorProto.FLOAT, shape))
    inputs = [node.input[0], weight] if product else [weight, node.input[1]]
    node.op_type, node.domain = ("MatMul", "") if product else ("Gather", "")
    del node.input[:], node.attribute[:]
    node.input.extend(inputs)


def tflite_macs(model: Any, graph: Any, op: Any, kind: str, rounds: int | None) -> int | None:
    """Multiply-accumulates of one operator of a TFLite model that runs ``rounds`` times (None: not known)."""

    def tensor(index: int) -> Tensor:
        raw = graph.tensors[index]
        shape = () if raw.shape is None else tuple(int(size) for size in raw.shape)
        return Tensor(shape, constant=holds_data(model, raw))

    inputs, outputs = (tuple(tensor(i) for i in side if i >= 0) for side in (op.inputs, op.outputs))
    once = ops.macs(kind, inputs, outputs)
    if once == 0:
        return 0
    return None if once is None or rounds is None else once * rounds
