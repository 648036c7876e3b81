"""Networks with attention in an ONNX file: products with weights on integers, in float what lies between them.

Between QuantizeLinear and DequantizeLinear everything around attention would run on integers, or convert to and fro
where onnxruntime has no integer kernel (LayerNormalization, Softmax), and on CPUs both take longer than float.
docs/quantization.md has the times.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from edgekit.graph import ops
from edgekit.graph.onnx import OnnxGraph, nodes, numeric_attributes
from edgekit.graph.onnx_editor import CONTRIB, Names, allow_contrib, drop_unused, replace_nodes
from edgekit.graph.ops import Family
from edgekit.quantization.onnx.weights import is_finite
from edgekit.types import Array, Format

BOUNDARY = frozenset(op.name for op in ops.weighted(Format.ONNX) if op.family is not Family.MATMUL)
"""Operators with weights, other than products, at which the neighbourhood of attention ends."""
PRODUCT = "MatMulIntegerToFloat"
"""Operator of onnxruntime that multiplies integers and gives real numbers."""
LEVELS = "_levels"
"""Behind the name of an input: that of its integers."""
COLUMNS, TURNED = "_columns", "_turned"
"""Behind the name of float weights: that of their integers, which are (K, N), from (K, N) or turned from (N, K)."""
_SMALLEST = 1e-6
"""Least span of an input's range, as for onnxruntime's own quantizer here."""
_FLOAT = 1


def around_attention(model: Any) -> frozenset[str]:
    """Names of the nodes that are joined to a product of two computed tensors by tensors, through products with weights
    but not through :data:`BOUNDARY`. None in a graph without such a product."""
    given = list(model.graph.node)
    constants = OnnxGraph(model.graph).constants.keys()
    writer = {name: place for place, node in enumerate(given) for name in node.output}
    joined: list[list[int]] = [[] for _ in given]
    for place, node in enumerate(given):
        for other in (writer[name] for name in node.input if name in writer):
            if not {node.op_type, given[other].op_type} & BOUNDARY:
                joined[place].append(other)
                joined[other].append(place)
    waiting = [
        place
        for place, node in enumerate(given)
        if node.op_type == "MatMul" and constants.isdisjoint(node.input) and set(node.input) <= set(writer)
    ]
    found: set[int] = set()
    while waiting:
        place = waiting.pop()
        if place not in found:
            found.add(place)
            waiting += joined[place]
    return frozenset(given[place].name for place in found)


def integer_products(
    model: Any,
    names: Collection[str],
    ranges: Mapping[str, tuple[float, float]],
    reduced: bool | Collection[str] = False,
) -> int:
    """Replaces the products with constant float32 weights among ``names`` by integer ones that give float; how many.

    MatMul (…, K) x (K, N) and Gemm become QuantizeLinear (uint8, one scale, of ``ranges`` of the input) and
    com.microsoft.MatMulIntegerToFloat (weights int8, symmetric, one scale per column), with the bias that follows.
    ``reduced``: all weights, or those of these names, in 7 bits. A product whose input has no range is left alone.
    Source: onnxruntime, ``ContribOperators.md``, com.microsoft.MatMulIntegerToFloat.
    """
    made = _Products(model, ranges, reduced)
    for node in list(model.graph.node):
        if node.name in names:
            made.replace(node)
    made.finish()
    return len(made.products)


class _Products:
    """The products of a graph that are replaced."""

    def __init__(self, model: Any, ranges: Mapping[str, tuple[float, float]], reduced: bool | Collection[str]) -> None:
        graph = model.graph
        self.model, self.ranges, self.reduced = model, ranges, reduced
        self.constants, self.outputs = (asked := OnnxGraph(graph)).constants, asked.outputs
        self.fresh = Names(model).fresh
        self.readers: dict[str, list[Any]] = {}
        for node in nodes(graph):
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.made: dict[str, Array] = {}
        self.integers: dict[tuple[str, str], list[str]] = {}
        """Tensor and what stands behind its name -> its integers, their scale and their zero point."""
        self.products: dict[str, list[Any]] = {}
        """Name of a product -> the nodes in its place."""
        self.gone: set[str] = set()

    def replace(self, node: Any) -> None:
        """Notes what stands in the place of ``node``, where it is a product that can be replaced."""
        from onnx import helper

        values = _weights(node, self.constants)
        if values is None or node.input[0] not in self.ranges:
            return
        source, weight = node.input[:2]
        bias, target = self._bias(node)
        behind = []
        one, other = (source, LEVELS), (weight, TURNED if _turned(node) else COLUMNS)
        if one not in self.integers:
            levels, *rest = self.integers[one] = self._named(*one)
            self.made |= dict(zip(rest, _levels(self.ranges[source]), strict=True))
            name = self.fresh(f"{levels}_quantize")
            behind.append(helper.make_node("QuantizeLinear", [source, *rest], [levels], name=name))
        if other not in self.integers:
            self.integers[other] = self._named(*other)
            few = self.reduced if isinstance(self.reduced, bool) else weight in self.reduced
            self.made |= dict(zip(self.integers[other], _integers(values, 63 if few else 127), strict=True))
        pairs = zip(self.integers[one], self.integers[other], strict=True)
        given = [part for pair in pairs for part in pair] + ([bias] if bias else [])
        behind.append(helper.make_node(PRODUCT, given, [target], name=node.name, domain=CONTRIB))
        self.products[node.name] = behind

    def _named(self, name: str, form: str) -> list[str]:
        """Names for the integers of a tensor, their scale and their zero point."""
        found = self.fresh(name + form)
        return [found, self.fresh(f"{found}_scale"), self.fresh(f"{found}_zero_point")]

    def finish(self) -> None:
        """Puts the new nodes into the graph."""
        from onnx import numpy_helper

        graph = self.model.graph
        kept = [node for node in graph.node if node.name not in self.gone]
        changed = [new for node in kept for new in self.products.get(node.name, [node])]
        replace_nodes(graph, changed)
        graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in self.made.items())
        if self.products:
            allow_contrib(self.model)
        drop_unused(self.model)

    def _bias(self, node: Any) -> tuple[str, str]:
        """The bias of a product, its own or what the only node behind it adds, and the output that then is its own."""
        target = node.output[0]
        if node.op_type == "Gemm" and len(node.input) > 2:
            return node.input[2], target
        after = self.readers.get(target, [])
        if len(after) != 1 or target in self.outputs or after[0].op_type != "Add":
            return "", target
        others = [name for name in after[0].input if name != target]
        tensor = self.constants.get(others[0]) if len(others) == 1 else None
        if tensor is None or len(tensor.dims) != 1 or tensor.data_type != _FLOAT or tensor.dims[0] == 1:
            return "", target
        self.gone.add(after[0].name)
        return others[0], after[0].output[0]


def _weights(node: Any, constants: Mapping[str, Any]) -> Array | None:
    """The weights (K, N) of a product that can be replaced; None for any other node."""
    from onnx import numpy_helper

    if node.op_type not in ("MatMul", "Gemm") or node.input[0] in constants or node.input[1] not in constants:
        return None
    tensor = constants[node.input[1]]
    if len(tensor.dims) != 2 or not is_finite(tensor):
        return None
    values = np.asarray(numpy_helper.to_array(tensor))
    numbers = numeric_attributes(node)
    if numbers.get("transA") or any(numbers.get(key, 1.0) != 1.0 for key in ("alpha", "beta")):
        return None
    values = values.T if _turned(node) else values
    if node.op_type == "Gemm" and len(node.input) > 2:
        bias = constants.get(node.input[2])
        if bias is None or list(bias.dims) != [values.shape[1]]:
            return None
    return values


def _turned(node: Any) -> bool:
    return bool(numeric_attributes(node).get("transB"))


def _levels(span: tuple[float, float]) -> tuple[Array, Array]:
    """Scale and zero point of a uint8 tensor that holds ``span`` and zero."""
    low, high = min(span[0], 0.0), max(span[1], 0.0, min(span[0], 0.0) + _SMALLEST)
    scale = np.float32((high - low) / 255)
    zero = np.uint8(np.clip(np.round(-low / scale), 0, 255))
    return np.asarray(scale), np.asarray(zero)


def _integers(values: Array, most: int) -> tuple[Array, Array, Array]:
    """Weights (K, N) as integers up to ``most``, with a scale and a zero point a column."""
    reach = np.abs(values).max(axis=0)
    scale = np.where(reach > 0, reach / most, 1).astype(np.float32)
    integers = np.clip(np.round(values / scale), -most, most).astype(np.int8)
    zero = np.zeros(integers.shape[1], np.int8)
    return integers, scale, zero
