"""Operators of onnxruntime's own that compute on integers: products and tables of 4 bits, LSTM.

Source: onnxruntime, ``ContribOperators.md``: com.microsoft.MatMulNBits, com.microsoft.GatherBlockQuantized and
com.microsoft.DynamicQuantizeLSTM.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgekit.graph.onnx import OnnxGraph, numeric_attributes
from edgekit.graph.onnx_editor import CONTRIB, Names, allow_contrib, drop_unused, replace_nodes
from edgekit.quantization.onnx.weights import SMALLEST, is_finite, symmetric_int8
from edgekit.types import Array

BLOCK = 32
"""Weights that share a float32 scale, along the inner axis: 5 bits a weight in all. 16 were larger and slower."""
INT8_SUMS = 4
"""``accuracy_level`` of MatMulNBits: inputs are quantized to 8 bits while running, sums are of integers. Without it
weights are turned into float at every run, and no size of product was faster than float32."""
_IR_VERSION = 10
"""The first version of ONNX that has 4-bit tensors."""


def int4_weights(model: Any, skip: frozenset[str] = frozenset()) -> int:
    """Replaces products with constant 2-D float32 weights, and tables, those called one of ``skip`` left out.

    A Gemm becomes a MatMulNBits of its name, and an Add where it has a bias. Returns how many were replaced.
    """

    made = _Four(model)
    nodes: list[Any] = []
    count = 0
    for node in model.graph.node:
        found = [] if node.name in skip else made.replaced(node)
        nodes += found or [node]
        count += bool(found)
    replace_nodes(model.graph, nodes)
    if count:
        allow_contrib(model)
        model.ir_version = max(model.ir_version, _IR_VERSION)
    drop_unused(model)
    return count


class _Four:
    """The main graph of a model whose products and tables get weights of 4 bits."""

    def __init__(self, model: Any) -> None:
        self.graph, self.names = model.graph, Names(model)
        self.held = {t.name: t for t in model.graph.initializer if len(t.dims) == 2 and is_finite(t)}
        self.made: dict[tuple[str, str], tuple[str, str]] = {}
        """Weight and form -> its integers and scales: two operators may share their weights."""

    def replaced(self, node: Any) -> list[Any]:
        """What stands in for ``node``; nothing where it stays."""
        place = 0 if node.op_type == "Gather" else 1
        tensor = self.held.get(node.input[place]) if len(node.input) > place else None
        if tensor is None or int(np.prod(tensor.dims)) < SMALLEST:
            return []
        numbers = numeric_attributes(node)
        if node.op_type == "Gather" and numbers.get("axis", 0) == 0:
            return self._table(node, tensor)
        if node.op_type == "MatMul":
            return self._product(node, tensor, transposed=False)
        plain = not numbers.get("transA", 0) and all(numbers.get(name, 1) == 1 for name in ("alpha", "beta"))
        if node.op_type == "Gemm" and plain:
            return self._product(node, tensor, transposed=bool(numbers.get("transB", 0)))
        return []

    def _held_as(self, tensor: Any, form: str, content: Callable[[str], Any], scale: Array) -> tuple[str, str]:
        """Names of the integers and the scales of ``tensor`` in a form; ``content``: name -> the integers."""
        import onnx

        if (tensor.name, form) not in self.made:
            name = self.names.fresh(f"{tensor.name}{form}")
            step = self.names.fresh(f"{name}_scale")
            self.graph.initializer.extend([content(name), onnx.numpy_helper.from_array(scale, step)])
            self.made[tensor.name, form] = name, step
        return self.made[tensor.name, form]

    def _product(self, node: Any, tensor: Any, *, transposed: bool) -> list[Any]:
        import onnx

        weight = onnx.numpy_helper.to_array(tensor)
        rows = weight if transposed else weight.T
        integers, scale = symmetric_int4(rows)
        held = self._held_as(
            tensor,
            f"_int4{'_t' if transposed else ''}",
            lambda name: onnx.numpy_helper.from_array(packed(integers + 8), name),  # 8 stands for zero
            scale,
        )
        bias = node.input[2] if node.op_type == "Gemm" and len(node.input) > 2 else ""
        target = self.names.fresh(f"{node.output[0]}_product") if bias else node.output[0]
        numbers = {"K": rows.shape[1], "N": rows.shape[0], "bits": 4, "block_size": BLOCK, "accuracy_level": INT8_SUMS}
        product = onnx.helper.make_node(
            "MatMulNBits", [node.input[0], *held], [target], name=node.name, domain=CONTRIB, **numbers
        )
        if not bias:
            return [product]
        name = self.names.fresh(f"{node.name}_bias")
        return [product, onnx.helper.make_node("Add", [target, bias], [node.output[0]], name=name)]

    def _table(self, node: Any, tensor: Any) -> list[Any]:
        import onnx

        values = onnx.numpy_helper.to_array(tensor)
        if values.shape[1] % 2:  # a row would begin in the middle of a byte
            return []
        integers, scale = symmetric_int4(values)
        content = packed(integers).reshape(len(values), -1)[:, : values.shape[1] // 2].tobytes()
        kind = onnx.TensorProto.INT4
        held, step = self._held_as(
            tensor, "_table4", lambda name: onnx.helper.make_tensor(name, kind, values.shape, content, raw=True), scale
        )
        numbers = {"gather_axis": 0, "quantize_axis": 1, "block_size": BLOCK}
        inputs, outputs = [held, node.input[1], step], list(node.output)
        return [
            onnx.helper.make_node("GatherBlockQuantized", inputs, outputs, name=node.name, domain=CONTRIB, **numbers)
        ]


def symmetric_int4(rows: Array) -> tuple[Array, Array]:
    """``(integers, scale)``: (rows, blocks, :data:`BLOCK`) in -8..7 and (rows, blocks) float32; their product is near.

    Rows are filled up with zeros. The largest magnitude of a block becomes -8, of which there is no positive one, so
    a scale may be negative.
    """
    count = -(-rows.shape[1] // BLOCK)
    blocks = np.pad(rows, ((0, 0), (0, count * BLOCK - rows.shape[1]))).reshape(len(rows), count, BLOCK)
    extreme = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=2, keepdims=True), axis=2)
    scale = np.where(extreme == 0, 1, extreme / -8).astype(np.float32)
    return np.clip(np.round(blocks / scale), -8, 7).astype(np.int8), scale[:, :, 0]


def packed(integers: Array) -> Array:
    """(rows, blocks, BLOCK) -> (rows, blocks, BLOCK / 2) uint8: two neighbours a byte, the first in its low half."""
    halves = (integers & 15).astype(np.uint8)
    return np.asarray(halves[:, :, 0::2] | halves[:, :, 1::2] << 4)


def dynamic_lstm(model: Any, skip: frozenset[str] = frozenset(), *, per_row: bool = True) -> int:
    """Replaces LSTMs with constant float32 weights, those called one of ``skip`` left out; returns how many.

    W and R become int8, transposed to (D, I, 4 H) and (D, H, 4 H), with a scale for each direction and row (D, 4 H),
    or without ``per_row`` one for each direction (D,), which is less exact and faster. Input and state are quantized
    while running. 2 layers of 64 units over 64 steps take 0.72 and 0.59 of the float time (x86), with 0.0092 and
    0.0168 as the largest difference of the logits.
    Source: onnxruntime, ``ContribOperators.md``, com.microsoft.DynamicQuantizeLSTM.
    """
    import onnx

    graph = model.graph
    constants = OnnxGraph(graph).constants
    found = [
        node
        for node in graph.node
        if node.op_type == "LSTM"
        and node.name not in skip
        and all(name in constants and is_finite(constants[name]) for name in node.input[1:3])
        and not numeric_attributes(node).get("layout")
    ]
    names = Names(model)
    made: dict[str, list[str]] = {}  # weight -> its integers, scale and zero; two layers may share their weights
    for node in found:
        scales: list[str] = []
        for place in (1, 2):
            name = node.input[place]
            if name not in made:
                weight = onnx.numpy_helper.to_array(constants[name])
                integers, scale = symmetric_int8(weight, (0, 1) if per_row else (0,))
                scale = scale[:, :, 0] if per_row else scale[:, 0, 0]
                parts = {"int8": integers.transpose(0, 2, 1), "scale": scale, "zero": np.zeros(scale.shape, np.int8)}
                made[name] = [names.fresh(f"{name}_{part}") for part in parts]
                graph.initializer.extend(map(onnx.numpy_helper.from_array, parts.values(), made[name]))
            node.input[place] = made[name][0]
            scales += made[name][1:]
        node.input.extend([""] * (8 - len(node.input)) + scales)
        kept = [a for a in node.attribute if a.name != "layout"]  # which the other operator does not know
        del node.attribute[:]
        node.attribute.extend(kept)
        node.op_type, node.domain = "DynamicQuantizeLSTM", CONTRIB
    if found:
        allow_contrib(model)
    drop_unused(model)
    return len(found)
