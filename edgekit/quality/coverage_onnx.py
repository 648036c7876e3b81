"""Quantization coverage of ONNX files: QDQ graphs read as onnxruntime executes them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from edgekit.errors import ModelError
from edgekit.graph import ops
from edgekit.graph.macs import Tensor, share, total
from edgekit.graph.onnx import OnnxGraph, check_graph, load_onnx, numeric_attributes, with_shapes
from edgekit.graph.ops import Family, Kernel, Trait
from edgekit.reading import reading
from edgekit.results.compressed import CoverageReport, LeftFloat
from edgekit.types import Format

_INT8_SUMS = 4
"""``accuracy_level`` of MatMulNBits at which it adds up integers."""
_INTEGER = frozenset(op.name for op in ops.of(Format.ONNX) if op.integer)
_RECURRENT = frozenset(op.name for op in ops.of(Format.ONNX, Family.RECURRENT))
_AT_LOAD = ops.names(Format.ONNX, trait=Trait.AT_LOAD)


class _Graph(OnnxGraph):
    """A graph with what onnxruntime makes of it when it loads the file."""

    @cached_property
    def folded(self) -> set[str]:
        """Names of tensors made from constants alone by cheap nodes: the runtime makes them once, at load."""
        constant = set(self.constants)
        for node in self.graph.node:
            if node.op_type in ("DequantizeLinear", "QuantizeLinear"):
                continue  # onnxruntime keeps these in the graph
            if node.op_type == "Constant" or (node.input and all(n in constant for n in node.input if n)):
                constant.update(node.output)
        return constant - set(self.constants)

    def real_work(self) -> list[Any]:
        """Nodes that do work when the model runs."""
        return [
            node
            for node in self.graph.node
            if node.op_type not in ops.conversions()
            and node.op_type not in _AT_LOAD
            and not all(name in self.folded for name in node.output)
            and not self._rescales(node)
        ]

    def _rescales(self, node: Any) -> bool:
        """True for the Mul that turns the integers of a dynamically quantized product back into real values."""
        makers = [self.makers.get(name) for name in node.input]
        kinds = {maker.op_type for maker in makers if maker is not None}
        if node.op_type != "Mul":
            return False
        casts = [maker for maker in makers if maker is not None and maker.op_type == "Cast"]
        products = [self.makers.get(cast.input[0]) for cast in casts]
        return "DynamicQuantizeLinear" in kinds or any(p is not None and p.op_type in _INTEGER for p in products)


def onnx_coverage(path: Path, reasons: Mapping[str, str]) -> CoverageReport:
    """The coverage of an ONNX file; see :func:`edgekit.quality.coverage.coverage`."""
    model = load_onnx(path)
    check_graph(path, model.graph)
    graph = _Graph(model.graph)
    work = [node for node in graph.real_work() if not _fused_activation(graph, node)]
    left = [
        LeftFloat(node.op_type, node.name, reasons.get(node.name) or reasons.get(node.op_type) or reason)
        for node in work
        if (reason := _onnx_float_reason(graph, node))
    ]
    floats = {one.name for one in left}
    shapes = _onnx_shapes(model)
    products = [_node_macs(node, shapes) for node in work]
    integers = [count for node, count in zip(work, products, strict=True) if node.name not in floats]
    return CoverageReport(
        operators=len(work),
        integer_operators=len(work) - len(left),
        weight_bytes_integer_share=_onnx_integer_share(graph),
        integer_macs_share=share(integers, products),
        macs=total(products),
        conversions=sum(_converts(graph, node, floats) for node in graph.graph.node),
        left_float=tuple(left),
        plumbing=Counter(node.op_type for node in graph.graph.node if node.op_type in ops.plumbing()),
    )


def _converts(graph: _Graph, node: Any, floats: set[str]) -> bool:
    """True for a conversion that is left over when integer operators have taken in those around them."""
    if node.op_type not in ops.conversions() or node.output[0] in graph.folded:
        return False
    if node.op_type == "QuantizeLinear":
        maker = graph.makers.get(node.input[0])
        return maker is None or maker.name in floats
    if node.op_type == "DequantizeLinear":
        readers = graph.readers.get(node.output[0], [])
        return not readers or any(reader.name in floats for reader in readers)
    return True


def _fused_activation(graph: _Graph, node: Any) -> bool:
    """True for a Relu or Clip between an integer operator and its QuantizeLinear: it becomes part of that operator."""
    if node.op_type not in ("Relu", "Clip"):
        return False
    before = graph.makers.get(node.input[0])
    return before is not None and before.op_type in ("Conv", "Gemm", "Add", "MatMul") and not _writes_float(graph, node)


def _from_dequantize(graph: _Graph, name: str) -> bool:
    maker = graph.makers.get(name)
    return maker is not None and maker.op_type == "DequantizeLinear"


def _writes_float(graph: _Graph, node: Any) -> str:
    """The output tensor of ``node`` that somebody reads in float, or the empty string."""
    for name in filter(None, node.output):
        left, seen = [name], {name}
        while left:  # through the activations behind it
            readers = graph.readers.get(left[-1], [])
            if left.pop() in graph.outputs or not readers:
                return str(name)
            for reader in readers:
                if reader.op_type in ("Relu", "Clip"):
                    left += [other for other in reader.output if other and other not in seen]
                    seen.update(reader.output)
                elif reader.op_type != "QuantizeLinear":
                    return str(name)
    return ""


def _onnx_float_reason(graph: _Graph, node: Any) -> str:
    """Why ``node`` runs in float; the empty string when it runs on integers."""
    if node.op_type in _INTEGER:
        return ""
    if node.op_type == "MatMulNBits":
        sums = numeric_attributes(node).get("accuracy_level")
        return "" if sums == _INT8_SUMS else "weight-only: its weights are turned into float at every run"
    if node.op_type == "GatherBlockQuantized":
        return "weight-only: its table is held in integers, the rows that are read are turned into float"
    data = [name for name in node.input if name and not _is_shape_input(graph, node, name)]
    if not any(_from_dequantize(graph, name) for name in data):
        return _unquantized_reason(graph, node)
    if node.op_type not in ops.names(Format.ONNX, kernel=Kernel.STATIC):
        return f"onnxruntime has no integer kernel for {node.op_type} between DequantizeLinear and QuantizeLinear"
    activation = data[0]
    if not _from_dequantize(graph, activation):
        return f"weight-only: its weights are integers, its input {activation!r} is float"
    loose = [name for name in data if not _from_dequantize(graph, name)]
    if node.op_type == "Conv" and len(data) == 3:
        loose = [name for name in loose if name != data[2]]  # onnxruntime quantizes a constant float bias itself
    if loose:
        return f"its input {loose[0]!r} is float"
    if _mixed_signs(graph, node, data):
        return (
            "int8 activations, some of them read by two operators: onnxruntime on x86 turns only the others into uint8 "
            "and cannot fuse the mixture; uint8 activations avoid it"
        )
    loose_output = _writes_float(graph, node)
    if loose_output and node.op_type not in ("MatMul", "Gemm"):
        return f"its output {loose_output!r} is read in float"
    return ""


def _is_shape_input(graph: _Graph, node: Any, name: str) -> bool:
    """True for inputs that carry shapes, axes or indices: everything constant that is not a float."""
    if name in graph.constants:
        return int(graph.constants[name].data_type) not in (1, 10, 16)
    return name in graph.folded and node.op_type not in ("Conv", "Gemm", "MatMul")


def _unquantized_reason(graph: _Graph, node: Any) -> str:
    weights = [name for name in node.input if name in graph.folded and _folded_from(graph, name) in _ONNX_INTEGERS]
    if weights:
        return "weight-only: its weights are held in integers and turned into float when the file is loaded"
    if any(name in graph.folded and _folded_from(graph, name) == _HALF for name in node.input):
        return "weight-only: its weights are float16 and turned into float32 when the file is loaded"
    if node.op_type in ("Conv", "Gemm", "MatMul", "ConvTranspose", "LSTM", "GRU", "RNN"):
        return "not quantized in this file"
    return "its inputs are float"


def _folded_from(graph: _Graph, name: str) -> int:
    """The type of the constant that a Cast made ``name`` of, as onnx numbers it; 0 for any other tensor."""
    node = graph.makers.get(name)
    while node is not None:
        if node.op_type == "Cast" and node.input[0] in graph.constants:
            return int(graph.constants[node.input[0]].data_type)
        node = graph.makers.get(node.input[0]) if node.input else None
    return 0


def _mixed_signs(graph: _Graph, node: Any, data: list[str]) -> bool:
    """True when signed activations around ``node`` are partly shared with other readers, partly not.

    onnxruntime on x86 rewrites an int8 QuantizeLinear/DequantizeLinear pair to uint8 only where it has a single reader.
    """
    shared = set()
    for name in data:
        quantize = graph.makers.get(graph.makers[name].input[0]) if _from_dequantize(graph, name) else None
        if quantize is not None and _is_signed(graph, quantize):
            shared.add(len(graph.readers[name]) > 1 or len(graph.readers[quantize.output[0]]) > 1)
    for quantize in (reader for name in node.output for reader in graph.readers.get(name, [])):
        if quantize.op_type == "QuantizeLinear" and _is_signed(graph, quantize):
            pairs = graph.readers.get(quantize.output[0], [])
            shared.add(len(pairs) != 1 or len(graph.readers.get(pairs[0].output[0], [])) > 1)
    return len(shared) > 1


def _is_signed(graph: _Graph, node: Any) -> bool:
    if len(node.input) < 3 or node.input[2] not in graph.constants:
        return False
    return int(graph.constants[node.input[2]].data_type) == 3  # INT8


_HALF = 10
_ONNX_INTEGERS = frozenset((2, 3, 4, 5, 6, 21, 22))
_ONNX_BITS = {1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 10: 16, 11: 64, 16: 16, 21: 4, 22: 4}


_SCALES = {"QuantizeLinear": 1, "DequantizeLinear": 1, "MatMulNBits": 2, "GatherBlockQuantized": 2}
"""Operator -> its first input that is a scale or a zero point."""


def _onnx_integer_share(graph: _Graph) -> float:
    total = integer = 0.0
    scales = {name for node in graph.graph.node for name in node.input[_SCALES.get(node.op_type, len(node.input)) :]}
    for name, tensor in graph.constants.items():
        if name in scales or name not in graph.readers or int(tensor.data_type) == 7:
            continue  # scales and zero points are not weights; int64 holds shapes
        size = math.prod(tensor.dims) * _ONNX_BITS.get(int(tensor.data_type), 32) / 8
        total += size
        integer += size if int(tensor.data_type) in _ONNX_INTEGERS else 0.0
    return integer / total if total else 0.0


def _node_macs(node: Any, shapes: dict[str, tuple[int, ...]]) -> int | None:
    """Multiply-accumulates of a node, a free size taken as 1; None where a shape is not known."""
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
