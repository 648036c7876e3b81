"""Lets layers of a QDQ graph stay in float, which onnxruntime does not do by itself."""

from __future__ import annotations

from typing import Any

from edgekit.graph import ops
from edgekit.graph.onnx import OnnxGraph
from edgekit.graph.onnx_editor import Names, replace_nodes
from edgekit.graph.ops import Trait
from edgekit.types import Format

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
