"""The mean error that rounding the weights of a graph to int8 makes in each output channel, taken off the bias.

Nagel et al., Data-Free Quantization through Weight Equalization and Bias Correction (2019), section 4.2: the error of
the weights times the mean of the input. What it changed on the shipped networks: docs/quantization.md.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from edgekit.quantization.linear_graph import LinearGraph, OperatorKind
from edgekit.quantization.onnx.weights import symmetric_int8
from edgekit.types import Array


def correct_biases(
    graph: LinearGraph,
    means: Mapping[str, Sequence[float]],
    skip: Collection[str] = (),
    keep_float: Collection[str] = (),
) -> int:
    """Corrects the biases of layers in place, before they are quantized; returns how many.

    A bias that another operator adds (of a matrix product in ONNX) is left alone.

    Args:
        means: tensor name -> mean per channel on calibration data.
        skip: weights that are left alone: those that get another number of bits.
        keep_float: names of operators that stay in float, where nothing is rounded.
    """
    count = 0
    for layer in graph.operators:
        if layer.kind is not OperatorKind.LAYER or layer.name in keep_float or layer.weight in skip:
            continue
        if not layer.shifts or graph.users[layer.shifts[0]] > 1 or layer.inputs[0] not in means:
            continue
        bias, rows = graph.constant(layer.shifts[0]), graph.rows(layer)
        error = mean_error(rows, np.asarray(means[layer.inputs[0]], np.float64), layer.groups)
        if bias is None or error is None or bias.size != error.size:
            continue
        # a transposed convolution meets each place of its kernel at one of ``stride`` outputs
        corrected = bias.reshape(-1) - error / layer.stride
        graph.change(layer.shifts[0], corrected.reshape(bias.shape).astype(np.float32))
        count += 1
    return count


def mean_error(rows: Array, mean: Array, groups: int = 1) -> Array | None:
    """(outputs,): what rounding ``rows`` (outputs, inputs of a group, kernel places) to int8, with one scale an output,
    adds to each output on average, for inputs of this mean a channel; None where the channels do not fit. Zeros of a
    padding are left out of account."""
    if rows.shape[1] * groups != len(mean):
        return None
    integers, scale = symmetric_int8(rows.astype(np.float32), (0,))
    error = (integers * scale.astype(np.float64) - rows).sum(axis=2)  # (outputs, inputs of a group)
    parts = zip(np.split(error, groups), np.split(mean, groups), strict=True)
    return np.concatenate([part @ own for part, own in parts])
