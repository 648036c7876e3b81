"""Multiply-accumulates of operators, by their shapes. Pure functions; the same rules for all formats.

Only products of matrices count (convolutions, dense layers, recurrent cells), as is usual; additions, activations,
normalisations and pooling are left out. One multiply-accumulate is two floating-point operations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Shape = tuple[int, ...]
UNKNOWN_LOOP = "loop of unknown length"


@dataclass(frozen=True, slots=True)
class Tensor:
    """Shape and bytes of one element. ``constant``: a weight, which stands in the file."""

    shape: Shape
    itemsize: int = 4
    constant: bool = False

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.size * self.itemsize


@dataclass(frozen=True, slots=True)
class Call:
    """One operator as it ran: its type in the words of its format, what it read and wrote, and how often."""

    type: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    times: int = 1


def macs(call: Call) -> int | None:
    """Multiply-accumulates of one run of ``call``; 0 for an operator without products of matrices, None where the
    shapes do not tell."""
    if call.type == UNKNOWN_LOOP:
        return None
    rule = RULES.get(call.type)
    if rule is None:
        return 0
    if not call.inputs or not call.outputs:
        return None
    try:
        return rule(call.inputs, call.outputs[0])
    except (IndexError, ZeroDivisionError):
        return None


def total(calls: Sequence[Call]) -> dict[str, Any]:
    """``macs`` and ``bytes`` of all calls, ``macs`` by type, and types that could not be counted.

    ``bytes`` is what the operators read and write, each tensor once an operator, as if nothing stayed in a cache
    between two operators.
    """
    by_type: dict[str, int] = {}
    uncounted: dict[str, int] = {}
    moved = 0
    for call in calls:
        count = macs(call)
        if count is None:
            uncounted[call.type] = uncounted.get(call.type, 0) + call.times
        elif count:
            by_type[call.type] = by_type.get(call.type, 0) + count * call.times
        moved += call.times * sum(tensor.bytes for tensor in (*call.inputs, *call.outputs))
    rows = [{"type": kind, "macs": count} for kind, count in sorted(by_type.items(), key=lambda item: -item[1])]
    return {
        "macs": sum(by_type.values()),
        "bytes": moved,
        "types": rows,
        "uncounted": [{"type": kind, "calls": count} for kind, count in uncounted.items()],
    }


def _convolution(weight: int) -> Callable[[Sequence[Tensor], Tensor], int]:
    """Weights (out, in / groups, kernel…) in either order behind the first axis: each output value is one sum."""
    return lambda inputs, output: output.size * math.prod(inputs[weight].shape[1:])


def _depthwise(inputs: Sequence[Tensor], output: Tensor) -> int:
    """TFLite, weights (1, height, width, channels)."""
    return output.size * math.prod(inputs[1].shape[1:3])


def _transposed(inputs: Sequence[Tensor], output: Tensor) -> int:
    """ONNX and torch, weights (in, out / groups, kernel…): each input value is spread by the kernel."""
    return inputs[0].size * math.prod(inputs[1].shape[1:])


def _transposed_tflite(inputs: Sequence[Tensor], output: Tensor) -> int:
    """Inputs: output shape, weights (out, height, width, in), values."""
    return inputs[2].size * math.prod(inputs[1].shape[:3])


def _product(inputs: Sequence[Tensor], output: Tensor) -> int:
    """A (…, M, K) or (…, K, M) times B: the inner dimension is the one of A that the output has not."""
    a, out = inputs[0].shape, output.shape
    if len(a) == 1:
        return output.size * a[0]
    transposed = len(out) > 1 and a[-2] != out[-2] and a[-1] == out[-2]
    return output.size * (a[-2] if transposed else a[-1])


def _dense_tflite(inputs: Sequence[Tensor], output: Tensor) -> int:
    """Weights (out, in)."""
    return output.size * inputs[1].shape[-1]


def _recurrent(gates: int) -> Callable[[Sequence[Tensor], Tensor], int]:
    """ONNX: x (time, batch, in), y (time, directions, batch, hidden): per step ``gates`` products with x and with h."""

    def rule(inputs: Sequence[Tensor], output: Tensor) -> int:
        hidden = output.shape[-1]
        return output.size * gates * (inputs[0].shape[-1] + hidden)

    return rule


def _sequence(gates: int) -> Callable[[Sequence[Tensor], Tensor], int]:
    """TFLite: x (batch, time, in) in either order, y (…, hidden)."""
    return lambda inputs, output: output.size * gates * (inputs[0].shape[-1] + output.shape[-1])


def _torch_recurrent(inputs: Sequence[Tensor], output: Tensor) -> int:
    """x (batch, time, in) in either order, then states and weights, of both directions: each matrix once a step."""
    steps = inputs[0].size // inputs[0].shape[-1]
    return steps * sum(tensor.size for tensor in inputs[1:] if tensor.constant and len(tensor.shape) == 2)


Rule = Callable[[Sequence[Tensor], Tensor], int]
RULES: Mapping[str, Rule] = {
    # ONNX, with what onnxruntime fuses and quantizes
    **dict.fromkeys(("Conv", "FusedConv", "NhwcFusedConv", "ConvInteger"), _convolution(1)),
    "QLinearConv": _convolution(3),
    "ConvTranspose": _transposed,
    **dict.fromkeys(
        ("MatMul", "FusedMatMul", "Gemm", "FusedGemm", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul",
         "QLinearMatMul", "QGemm", "MatMulNBits"),
        _product,
    ),
    "LSTM": _recurrent(4),
    "DynamicQuantizeLSTM": _recurrent(4),
    "GRU": _recurrent(3),
    "RNN": _recurrent(1),
    # TFLite
    "CONV_2D": _convolution(1),
    "DEPTHWISE_CONV_2D": _depthwise,
    "TRANSPOSE_CONV": _transposed_tflite,
    "FULLY_CONNECTED": _dense_tflite,
    "BATCH_MATMUL": _product,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _sequence(4),
    "UNIDIRECTIONAL_SEQUENCE_RNN": _sequence(1),
    **dict.fromkeys(("BIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_RNN"), _torch_recurrent),
    # ATen
    **dict.fromkeys(("aten.conv1d", "aten.conv2d", "aten.conv3d", "aten.convolution"), _convolution(1)),
    **dict.fromkeys(
        ("aten.conv_transpose1d", "aten.conv_transpose2d.input", "aten.conv_transpose3d.input"), _transposed
    ),
    **dict.fromkeys(("aten.linear", "aten.matmul", "aten.mm", "aten.bmm"), _product),
    "aten.addmm": lambda inputs, output: output.size * inputs[1].shape[-1],
    **dict.fromkeys(
        ("aten.lstm.input", "aten.gru.input", "aten.rnn_tanh.input", "aten.rnn_relu.input"), _torch_recurrent
    ),
}  # fmt: skip
