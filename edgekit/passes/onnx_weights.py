"""Weights of an ONNX graph held in fewer bits: int8 per channel, or float16.

They are turned back by Cast (and Mul with the scale), not by DequantizeLinear: onnxruntime folds the former when it
loads the file, and runs the latter at every inference (1.9 times the time of the float file on the cnn, see
docs/quantization.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgekit.types import Array

SMALLEST = 256
"""Elements below which a tensor is left alone: scales and nodes would cost more bytes than are saved."""
_FLOAT = 1
_CHANNEL_AXES: dict[str, tuple[int, ...]] = {
    "Conv": (0,),
    "ConvTranspose": (1,),
    "MatMul": (-1,),
    "Gather": (0,),
    "LSTM": (0, 1),
    "GRU": (0, 1),
    "RNN": (0, 1),
}
"""Axes that keep a scale of their own, by operator."""
_WEIGHT_INPUTS = {"Conv": (1,), "ConvTranspose": (1,), "MatMul": (0, 1), "Gemm": (1,), "Gather": (0,), "LSTM": (1, 2),
                  "GRU": (1, 2), "RNN": (1, 2)}  # fmt: skip


def weights(model: Any) -> dict[str, tuple[int, ...]]:
    """Float32 constants that operators use as weights: name -> axes that keep a scale of their own."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    found: dict[str, tuple[int, ...]] = {}
    for node in model.graph.node:
        for index in _WEIGHT_INPUTS.get(node.op_type, ()):
            name = node.input[index] if index < len(node.input) else ""
            tensor = constants.get(name)
            if tensor is None or tensor.data_type != _FLOAT or len(tensor.dims) < 2 or name in found:
                continue
            if int(np.prod(tensor.dims)) >= SMALLEST:
                found[name] = _axes_of(node)
    return found


def _axes_of(node: Any) -> tuple[int, ...]:
    if node.op_type == "Gemm":
        transposed = next((a.i for a in node.attribute if a.name == "transB"), 0)
        return (0,) if transposed else (1,)
    return _CHANNEL_AXES[node.op_type]


def symmetric_int8(values: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """``(integers, scale)`` with values ≈ integers * scale; one scale per index of ``axes``, integers in -127..127."""
    kept = {axis % values.ndim for axis in axes}
    others = tuple(axis for axis in range(values.ndim) if axis not in kept)
    reach = np.abs(values).max(axis=others, keepdims=True)
    scale = np.where(reach > 0, reach / 127, 1).astype(np.float32)
    return np.clip(np.round(values / scale), -127, 127).astype(np.int8), scale


def store_int8(model: Any, skip: frozenset[str] = frozenset()) -> int:
    """Replaces float weights by int8 ones with Cast and Mul behind them; returns how many."""
    import onnx

    helper = onnx.helper

    def made(name: str, values: Array, axes: tuple[int, ...]) -> tuple[list[Any], list[Any]]:
        integers, scale = symmetric_int8(values, axes)
        tensors = [
            onnx.numpy_helper.from_array(integers, f"{name}_int8"),
            onnx.numpy_helper.from_array(scale, f"{name}_scale"),
        ]
        nodes = [
            helper.make_node("Cast", [f"{name}_int8"], [f"{name}_cast"], name=f"{name}_cast", to=_FLOAT),
            helper.make_node("Mul", [f"{name}_cast", f"{name}_scale"], [name], name=f"{name}_rescale"),
        ]
        return tensors, nodes

    return _replace(model, made, skip)


def weights_of(model: Any, names: frozenset[str]) -> frozenset[str]:
    """Constants that the nodes called ``names`` read."""
    held = {tensor.name for tensor in model.graph.initializer}
    return frozenset(name for node in model.graph.node if node.name in names for name in node.input if name in held)


def store_float16(model: Any) -> int:
    """Replaces float weights by float16 ones with a Cast behind them; returns how many.

    Values beyond float16's range are left in float32.
    """
    import onnx

    def made(name: str, values: Array, axes: tuple[int, ...]) -> tuple[list[Any], list[Any]]:
        if np.abs(values).max(initial=0) > np.finfo(np.float16).max:
            return [], []
        tensors = [onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}_half")]
        return tensors, [onnx.helper.make_node("Cast", [f"{name}_half"], [name], name=f"{name}_cast", to=_FLOAT)]

    return _replace(model, made, frozenset())


def _replace(
    model: Any, made: Callable[[str, Array, tuple[int, ...]], tuple[list[Any], list[Any]]], skip: frozenset[str]
) -> int:
    import onnx

    graph = model.graph
    chosen = {name: axes for name, axes in weights(model).items() if name not in skip}
    kept, added, front = [], [], []
    count = 0
    for tensor in graph.initializer:
        tensors: list[Any] = []
        if tensor.name in chosen:
            tensors, nodes = made(tensor.name, onnx.numpy_helper.to_array(tensor), chosen[tensor.name])
            added += tensors
            front += nodes
        if tensors:
            count += 1
        else:
            kept.append(tensor)
    rest = list(graph.node)
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend([*kept, *added])
    graph.node.extend([*front, *rest])
    replaced = set(chosen) - {tensor.name for tensor in kept}
    inputs = [value for value in graph.input if value.name not in replaced]
    del graph.input[:]
    graph.input.extend(inputs)
    return count
