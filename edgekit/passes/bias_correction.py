"""The mean error that rounding the weights of an ONNX graph to int8 makes in each output channel, taken off the bias.

Nagel et al., Data-Free Quantization through Weight Equalization and Bias Correction (2019), section 4.2: the error of
the weights times the mean of the input. What it changed on the shipped networks: docs/quantization.md.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from edgekit.passes.onnx_weights import symmetric_int8
from edgekit.types import Array


def correct_biases(
    model: Any, means: Mapping[str, Sequence[float]], skip: Collection[str] = (), keep_float: Collection[str] = ()
) -> int:
    """Corrects the biases of convolutions and Gemm in place, before they are quantized; returns how many.

    Args:
        means: tensor name -> mean per channel on calibration data.
        skip: weights that are left alone: those that get another number of bits.
        keep_float: names of nodes that stay in float, where nothing is rounded.
    """
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    users: dict[str, int] = {}
    for node in model.graph.node:
        for name in node.input:
            users[name] = users.get(name, 0) + 1
    count = 0
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm") or len(node.input) < 3 or node.input[0] not in means:
            continue
        weight, bias = node.input[1], node.input[2]
        if node.name in keep_float:
            continue
        if weight not in constants or bias not in constants or users[bias] > 1 or weight in skip:
            continue
        values = numpy_helper.to_array(constants[weight])
        error = mean_error(values, np.asarray(means[node.input[0]], np.float64), _attributes(node))
        old = numpy_helper.to_array(constants[bias])
        if error is None or old.shape != error.shape or old.dtype != np.float32:
            continue
        constants[bias].CopyFrom(numpy_helper.from_array((old - error).astype(np.float32), bias))
        count += 1
    return count


def mean_error(weight: Array, mean: Array, attributes: Mapping[str, float]) -> Array | None:
    """(outputs,): what rounding ``weight`` to int8 adds to each output on average, for inputs of this mean a channel;
    None where the channels do not fit. Zeros of a padding are left out of account."""
    if weight.ndim == 2:
        if attributes.get("transA", 0) or attributes.get("alpha", 1) != 1 or attributes.get("beta", 1) != 1:
            return None
        rows = weight if attributes.get("transB", 0) else weight.T
        return _rounding(rows) @ mean if rows.shape[1] == len(mean) else None
    groups = int(attributes.get("group", 1))
    if weight.shape[1] * groups != len(mean):
        return None
    error = _rounding(weight).sum(axis=tuple(range(2, weight.ndim)))  # (outputs, inputs of a group)
    parts = zip(np.split(error, groups), np.split(mean, groups), strict=True)
    return np.concatenate([part @ own for part, own in parts])


def _rounding(weight: Array) -> Array:
    """(outputs, ...) -> int8 weights, one scale an output, less the real ones."""
    integers, scale = symmetric_int8(weight, (0,))
    return np.asarray(integers * scale.astype(np.float64) - weight)


def _attributes(node: Any) -> dict[str, float]:
    numbers: dict[str, float] = {a.name: a.i for a in node.attribute if a.name in ("group", "transA", "transB")}
    return numbers | {a.name: a.f for a in node.attribute if a.name in ("alpha", "beta")}
