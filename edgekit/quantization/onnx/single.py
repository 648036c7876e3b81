"""Single operators of an ONNX file as files of their own, to be timed apart: in float, and between integers."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from functools import partial
from typing import Any

from edgekit.graph import ops
from edgekit.graph.onnx import OnnxGraph, with_shapes
from edgekit.graph.ops import Family, Trait
from edgekit.quantization.kernel_choice import Pair
from edgekit.quantization.onnx.attention import PRODUCT
from edgekit.quantization.onnx.prepare import OPSET
from edgekit.types import Format

_ACTIVATIONS = ops.names(Format.ONNX, trait=Trait.CLAMP)
"""Operators that onnxruntime and its quantizer fuse into the layer before them."""
_WEIGHTED = ops.names(Format.ONNX, Family.CONVOLUTION, Family.MATMUL)


class Onnx(OnnxGraph):
    """A graph with the shapes of its tensors."""

    def __init__(self, model: Any) -> None:
        super().__init__(model.graph)
        self.model = model
        inferred = with_shapes(model)
        self.values = {v.name: v for v in (*inferred.value_info, *inferred.input, *inferred.output)}

    def shape(self, name: str) -> list[int] | None:
        """Sizes of a tensor, 1 for a free one; None where its rank is unknown."""
        value = self.values.get(name)
        if value is None or not value.type.tensor_type.HasField("shape"):
            return None
        return [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]

    def computed(self, node: Any) -> list[str]:
        return list(dict.fromkeys(name for name in node.input if name and name not in self.constants))

    def after(self, node: Any) -> Any | None:
        """The only reader of a node with one output that is not an output of the graph."""
        name = node.output[0]
        found = self.readers.get(name, [])
        return found[0] if len(node.output) == 1 and len(found) == 1 and name not in self.outputs else None


def pairs(parent: Onnx, quantized: Onnx) -> list[Pair]:
    """Every operator of ``parent``, an activation behind a layer with it, beside what became of it in the QDQ graph
    ``quantized``, in which all that can be is on integers. Operators whose shapes are unknown are left out.

    A product around attention stands with its bias beside the integer one that takes and gives real numbers: it has no
    tensors that are converted at its borders."""
    twins = {node.name: node for node in quantized.graph.node}
    found, done = [], set[str]()
    for node in parent.graph.node:
        if node.name in done:
            continue
        unit = [node]
        follower = parent.after(node)
        twin: Any = twins.get(node.name)
        if follower is not None and (
            (node.op_type in _WEIGHTED and follower.op_type in _ACTIVATIONS)
            or (_is_product(twin) and follower.output[0] == twin.output[0])
        ):
            unit.append(follower)
        done.update(one.name for one in unit)
        if all(parent.shape(name) is not None for one in unit for name in (*parent.computed(one), *one.output)):
            found.append(_pair(parent, quantized, unit, twins))
    return found


def elements(graph: Onnx) -> dict[str, int]:
    """Elements of every tensor whose shape is known, by name; a free size counts as 1."""
    shapes = {name: graph.shape(name) for name in graph.values}
    return {name: math.prod(shape) for name, shape in shapes.items() if shape is not None}


def conversion(count: int, *, quantize: bool) -> bytes:
    """A file that converts a tensor of so many elements from float to uint8, or back."""
    import onnx

    kinds = {"real": onnx.TensorProto.FLOAT, "integers": onnx.TensorProto.UINT8}
    names = ["real", "integers"] if quantize else ["integers", "real"]
    scale = onnx.helper.make_tensor("scale", onnx.TensorProto.FLOAT, [], [0.05])
    zero = onnx.helper.make_tensor("zero", onnx.TensorProto.UINT8, [], [131])
    kind = "QuantizeLinear" if quantize else "DequantizeLinear"
    node = onnx.helper.make_node(kind, [names[0], "scale", "zero"], [names[1]])
    sides = [onnx.helper.make_tensor_value_info(name, kinds[name], [1, count]) for name in names]
    made = onnx.helper.make_graph([node], "conversion", sides[:1], sides[1:], [scale, zero])
    opsets = [onnx.helper.make_opsetid("", OPSET)]
    return bytes(onnx.helper.make_model(made, opset_imports=opsets, ir_version=8).SerializeToString())


def _pair(parent: Onnx, quantized: Onnx, unit: list[Any], twins: Mapping[str, Any]) -> Pair:
    reads, writes = parent.computed(unit[0]), list(unit[-1].output)
    weights = {
        name: len(parent.constants[name].raw_data) or 4 * len(parent.constants[name].float_data)
        for name in unit[0].input
        if name in parent.constants
    }
    there = [twins[one.name] for one in unit if one.name in twins]
    real = bool(there) and _is_product(there[0])
    return Pair(
        unit[0].name,
        unit[0].op_type,
        _signature(parent, unit, PRODUCT if real else ""),
        weights,
        integer=_between_real(quantized, there[0]) if real else _between_integers(quantized, there),
        float=partial(_file, parent, unit, reads, writes),
        reads=() if real else tuple(reads),
        writes=() if real else tuple(writes),
    )


def _is_product(twin: Any) -> bool:
    """Whether ``twin``, a node or None, multiplies integers and gives real numbers."""
    return twin is not None and twin.op_type == PRODUCT


def _between_real(graph: Onnx, product: Any) -> Any:
    """Makes the file of a ``product`` that gives real numbers, with what quantizes its input."""
    quantize = graph.makers[product.input[0]]
    return partial(_file, graph, [quantize, product], quantize.input[:1], product.output)


def _between_integers(graph: Onnx, unit: list[Any]) -> Any | None:
    """Makes the file of ``unit`` with the conversions around it, from integers to integers; None where it computes on
    what was never quantized."""
    if not unit:
        return None
    before, reads = [], []
    for name in graph.computed(unit[0]):
        node = graph.makers.get(name)
        if node is None or node.op_type != "DequantizeLinear":
            return None
        before.append(node)
        if node.input[0] not in graph.constants:
            reads.append(node.input[0])
    after, writes = [], []
    for name in unit[-1].output:
        quantize = next((n for n in graph.readers.get(name, []) if n.op_type == "QuantizeLinear"), None)
        after += [quantize] if quantize is not None else []
        writes.append(name if quantize is None else quantize.output[0])
    return partial(_file, graph, [*before, *unit, *after], reads, writes)


def _file(graph: Onnx, nodes: list[Any], reads: list[str], writes: list[str]) -> bytes:
    import onnx

    used = {name for node in nodes for name in node.input}
    constants = [tensor for name, tensor in graph.constants.items() if name in used]
    made = onnx.helper.make_graph(
        nodes,
        "single",
        [_value(graph, name) for name in dict.fromkeys(reads)],
        [_value(graph, name) for name in writes],
        constants,
    )
    options = {"opset_imports": graph.model.opset_import, "ir_version": graph.model.ir_version}
    return bytes(onnx.helper.make_model(made, **options).SerializeToString())


def _value(graph: Onnx, name: str) -> Any:
    import onnx

    kind = graph.values[name].type.tensor_type.elem_type
    return onnx.helper.make_tensor_value_info(name, kind, graph.shape(name))


def _signature(graph: Onnx, unit: list[Any], twin: str = "") -> str:
    """Equal for two operators whose kernels do the same work: types, attributes, shapes, small integer constants.
    ``twin``: what became of it, where that is another operator."""
    import onnx

    parts: list[object] = [twin] if twin else []
    for node in unit:
        parts += [node.domain, node.op_type, sorted(str(attribute) for attribute in node.attribute)]
        for name in (*node.input, *node.output):
            constant = graph.constants.get(name)
            if constant is None:
                value = graph.values.get(name)
                parts.append((graph.shape(name), value.type.tensor_type.elem_type if value is not None else None))
            else:
                whole = constant.data_type in (onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.BOOL)
                content = onnx.numpy_helper.to_array(constant).tobytes() if whole else b""
                parts.append((list(constant.dims), constant.data_type, content))
    return hashlib.sha256(f"onnx {parts!r}".encode()).hexdigest()
