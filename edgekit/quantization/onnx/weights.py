"""Weights of an ONNX graph held in fewer bits: int8 per channel, or float16.

They are turned back by Cast (and Mul with the scale), not by DequantizeLinear: onnxruntime folds the former when it
loads the file, and runs the latter at every inference (1.9 times the time of the float file on the cnn, see
docs/quantization.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgekit.graph import ops
from edgekit.graph.onnx import OnnxGraph, graphs, nodes, numeric_attributes
from edgekit.graph.onnx_editor import Names, replace_nodes
from edgekit.graph.ops import Family, Kernel
from edgekit.types import Array, Format

SMALLEST = 256
"""Elements below which a tensor is left alone: scales and nodes would cost more bytes than are saved."""
HALF_ERROR = 1e-3
"""Largest rounding error of a channel in float16, relative to its values (root mean square); within its range it is
2e-4 to 3e-4."""
_FLOAT = 1


def weights(graph: Any) -> dict[str, tuple[int, ...]]:
    """Finite float32 constants of ``graph`` that operators use as weights, there or in branches and loops inside it:
    name -> axes that keep a scale of their own."""
    constants = OnnxGraph(graph).constants
    found: dict[str, tuple[int, ...]] = {}
    for node in nodes(graph):
        for index in _weight_inputs(node):
            name = node.input[index] if index < len(node.input) else ""
            tensor = constants.get(name)
            if tensor is None or len(tensor.dims) < 2 or name in found or not is_finite(tensor):
                continue
            if int(np.prod(tensor.dims)) >= SMALLEST:
                found[name] = _axes_of(node)
    return found


def use_of(node: Any, place: int) -> tuple[object, ...]:
    """What tells one use of a weight from another: the axes that keep a scale, and whether products read it there."""
    if place not in _weight_inputs(node):
        return ("value",)
    products = ops.names(Format.ONNX, Family.CONVOLUTION, Family.MATMUL, kernel=Kernel.STATIC)
    return (node.op_type in products, *_axes_of(node))


def is_finite(tensor: Any) -> bool:
    """Whether an initializer is float32 and holds neither infinity nor NaN, which no scale reaches."""
    import onnx

    return tensor.data_type == _FLOAT and bool(np.isfinite(onnx.numpy_helper.to_array(tensor)).all())


def _weight_inputs(node: Any) -> tuple[int, ...]:
    op = ops.get(Format.ONNX, node.op_type)
    return () if op is None else op.weights


def _axes_of(node: Any) -> tuple[int, ...]:
    if node.op_type == "Gemm":
        return (0,) if numeric_attributes(node).get("transB") else (1,)
    op = ops.get(Format.ONNX, node.op_type)
    return () if op is None else op.scale_axes


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

    helper, names = onnx.helper, Names(model)

    def made(name: str, values: Array, axes: tuple[int, ...]) -> tuple[list[Any], list[Any]]:
        integers, scale = symmetric_int8(values, axes)
        held, step, real = (names.fresh(f"{name}_{part}") for part in ("int8", "scale", "cast"))
        tensors = [onnx.numpy_helper.from_array(integers, held), onnx.numpy_helper.from_array(scale, step)]
        behind = [
            helper.make_node("Cast", [held], [real], name=real, to=_FLOAT),
            helper.make_node("Mul", [real, step], [name], name=names.fresh(f"{name}_rescale")),
        ]
        return tensors, behind

    return sum(_replace(graph, made, skip) for graph in graphs(model.graph))


def weights_of(model: Any, names: frozenset[str]) -> frozenset[str]:
    """Constants that the nodes called ``names`` read."""
    held = OnnxGraph(model.graph).constants
    return frozenset(name for node in model.graph.node if node.name in names for name in node.input if name in held)


def store_float16(model: Any) -> tuple[int, tuple[str, ...]]:
    """Replaces float weights by float16 ones with a Cast behind them; returns how many, and the names of those that are
    left in float32, because half precision cannot hold them (:func:`fits_half`)."""
    import onnx

    names = Names(model)
    left: list[str] = []

    def made(name: str, values: Array, axes: tuple[int, ...]) -> tuple[list[Any], list[Any]]:
        if not fits_half(values, axes):
            left.append(name)
            return [], []
        held, real = names.fresh(f"{name}_half"), names.fresh(f"{name}_cast")
        tensors = [onnx.numpy_helper.from_array(values.astype(np.float16), held)]
        return tensors, [onnx.helper.make_node("Cast", [held], [name], name=real, to=_FLOAT)]

    count = sum(_replace(graph, made, frozenset()) for graph in graphs(model.graph))
    return count, tuple(left)


def fits_half(values: Array, axes: tuple[int, ...]) -> bool:
    """Whether float16 holds ``values`` within :data:`HALF_ERROR`, for each index of ``axes``: it ends at 65,504, and
    what is below 6e-5 loses digits, below 3e-8 all of them."""
    with np.errstate(over="ignore", invalid="ignore"):
        error = values.astype(np.float16).astype(np.float64) - values
    others = tuple(axis for axis in range(values.ndim) if axis not in {kept % values.ndim for kept in axes})
    wanted = (values.astype(np.float64) ** 2).sum(axis=others)
    return bool(((error**2).sum(axis=others) <= HALF_ERROR**2 * wanted).all())


def _replace(
    graph: Any, made: Callable[[str, Array, tuple[int, ...]], tuple[list[Any], list[Any]]], skip: frozenset[str]
) -> int:
    import onnx

    chosen = {name: axes for name, axes in weights(graph).items() if name not in skip}
    kept, added, front = [], [], []
    for tensor in graph.initializer:
        tensors: list[Any] = []
        if tensor.name in chosen:
            tensors, behind = made(tensor.name, onnx.numpy_helper.to_array(tensor), chosen[tensor.name])
            added += tensors
            front += behind
        if not tensors:
            kept.append(tensor)
    count = len(graph.initializer) - len(kept)
    del graph.initializer[:]
    graph.initializer.extend([*kept, *added])
    replace_nodes(graph, [*front, *graph.node])
    return count
