"""Where real values enter, leave and pass by the integers of an ONNX graph, and the layers that stay in float."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from edgekit.graph import ops
from edgekit.graph.onnx import OnnxGraph, inner_reads, reads
from edgekit.graph.onnx_editor import Names, drop_unused, replace_nodes
from edgekit.graph.ops import Family, Trait
from edgekit.types import Format

STATIC_OPERATORS = ops.names(Format.ONNX, trait=Trait.STATIC_SCHEME)
"""Operators that onnxruntime runs on integers when they stand between DequantizeLinear and QuantizeLinear."""
PRODUCTS = ops.names(Format.ONNX, Family.MATMUL)
"""Those of them that give float as well, at no cost."""
ACTIVATIONS = ops.names(Format.ONNX, trait=Trait.CLAMP)
"""What the quantizer takes out where the QuantizeLinear behind has the same bounds."""


def last_sums(model: Any) -> list[str]:
    """Names of sums that are outputs, which stay in float.

    A forecast is a change added to the last value, and a range from older data cuts that off: the error of the shipped
    forecaster of etth1 rose by 11%, and does not with its last sum in float.
    """
    outputs = set(OnnxGraph(model.graph).outputs)
    return [node.name for node in model.graph.node if node.op_type == "Add" and outputs & set(node.output)]


def read_inside(model: Any) -> list[str]:
    """Names of the activations whose input or output is read inside a branch or a loop.

    The quantizer takes a Relu or Clip out, whose bounds its QuantizeLinear has, and looks for readers outside only.
    """
    inside = inner_reads(model.graph)
    activations = [node for node in model.graph.node if node.op_type in ACTIVATIONS]
    return [node.name for node in activations if inside.intersection((*node.input, *node.output))]


def read_real(model: Any, names: list[str], bounded: Collection[str]) -> None:
    """Lets some nodes read what was there before it was quantized for others: inputs of the graph, and what gives float
    anyway. ``bounded``: tensors that only their QuantizeLinear keeps within the bounds of a Relu or Clip."""
    maker = OnnxGraph(model.graph).makers
    for node in model.graph.node:
        for place, name in enumerate(node.input if node.name in names else ()):
            quantize = _behind(maker, maker.get(name), "DequantizeLinear")
            if quantize is None or quantize.op_type != "QuantizeLinear":
                continue
            source = maker.get(quantize.input[0])
            integer = source is not None and source.op_type in STATIC_OPERATORS and source.op_type not in PRODUCTS
            if not integer and not _is_bounded(quantize, name, bounded):
                node.input[place] = quantize.input[0]


def _is_bounded(quantize: Any, name: str, bounded: Collection[str]) -> bool:
    """Whether the tensor before ``quantize``, or ``name`` behind it, is one of ``bounded``."""
    return not {quantize.input[0], name}.isdisjoint(bounded)


def real_outputs(model: Any, bounded: Collection[str]) -> None:
    """Takes the last QuantizeLinear/DequantizeLinear pair away behind matrix products, which can give float themselves.

    Saves two nodes and the rounding of the logits to 256 levels. ``bounded``: as for :func:`read_real`.
    """
    graph = model.graph
    maker = OnnxGraph(graph).makers
    readers = reads(graph)
    for value in graph.output:
        dequantize = maker.get(value.name)
        quantize = _behind(maker, dequantize, "DequantizeLinear")
        product = _behind(maker, quantize, "QuantizeLinear")
        if product is None or product.op_type not in PRODUCTS or readers[value.name] > 1:
            continue
        assert quantize is not None and dequantize is not None
        if readers[quantize.input[0]] != 1 or readers[dequantize.input[0]] != 1:
            continue
        if _is_bounded(quantize, value.name, bounded):
            continue
        graph.node.remove(quantize)
        graph.node.remove(dequantize)
        product.output[0] = value.name
    drop_unused(model)


def _behind(maker: dict[str, Any], node: Any, kind: str) -> Any | None:
    """The node that made the first input of ``node``, where ``node`` is of ``kind``."""
    return maker.get(node.input[0]) if node is not None and node.op_type == kind else None


_QUANTIZED_AT_LOAD = ops.names(Format.ONNX, trait=Trait.QUANTIZED_AT_LOAD)
SUFFIX = "_stays_float"
"""Behind the name of a layer: that of the copy after it."""


def hold_float(model: Any, names: frozenset[str]) -> None:
    """Puts a plain copy behind the layers called ``names``.

    onnxruntime (1.21 and later: WeightBiasQuantization, pull request 22969) quantizes float weights of these three
    operators itself when it loads a file, with one scale a matrix, where they stand between a DequantizeLinear and a
    QuantizeLinear, Relu and Clip without a second reader left out of account (1.21: whatever stands behind; pull
    request 24537). A LeakyRelu of slope 1 in between is a copy that it does not see through, and that it
    fuses into the layer: it costs nothing.
    """
    import onnx

    graph = model.graph
    outputs, fresh = OnnxGraph(graph).outputs, Names(model).fresh
    nodes = []
    for node in graph.node:
        nodes.append(node)
        if node.name in names and node.op_type in _QUANTIZED_AT_LOAD and node.output[0] not in outputs:
            inner, outer = fresh(f"{node.output[0]}_float"), node.output[0]
            node.output[0] = inner
            nodes.append(onnx.helper.make_node("LeakyRelu", [inner], [outer], name=f"{node.name}{SUFFIX}", alpha=1.0))
    replace_nodes(graph, nodes)
