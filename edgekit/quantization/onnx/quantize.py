"""Quantization of ONNX files for onnxruntime's CPU provider. Why this recipe: docs/quantization.md."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edgekit.artifact import library_versions
from edgekit.errors import ModelError, UnsupportedError, UsageError
from edgekit.graph import ops
from edgekit.graph.onnx import OnnxGraph
from edgekit.graph.onnx_editor import Apart, Names, sort
from edgekit.graph.ops import Family
from edgekit.passes import AROUND_ATTENTION, Model, Pass, PassContext
from edgekit.quantization.calibrate.bias_correction import correct_biases
from edgekit.quantization.calibrate.calibration import Calibration, describe
from edgekit.quantization.calibrate.checks import listed
from edgekit.quantization.exclusions import LAST, Ranged
from edgekit.quantization.onnx.attention import around_attention, integer_products
from edgekit.quantization.onnx.contrib import BLOCK, dynamic_lstm, int4_weights
from edgekit.quantization.onnx.linear_graph import LinearOnnx
from edgekit.quantization.onnx.prepare import plain_gemms, prepared, unshare
from edgekit.quantization.onnx.real_values import (
    ACTIVATIONS,
    STATIC_OPERATORS,
    hold_float,
    last_sums,
    read_inside,
    read_real,
    real_outputs,
)
from edgekit.quantization.onnx.weights import store_float16, store_int8, weights_of
from edgekit.types import Artifact, Format, PassResult, Step

SCHEMES = ("int8", "int8-dynamic", "int8-weights", "fp16", "int4-weights")
SIGN = 128
"""How far apart a uint8 and the int8 that stands for the same value are."""
_MOVES = ops.names(Format.ONNX, Family.RESHAPE)
_WEIGHTS = {"fp16": "float16", "int4-weights": "int4 symmetric in products and tables, else int8"}
_NO_KERNEL = {
    op.name: f"onnxruntime has no integer {op.name}; its weights are held in int8"
    for op in ops.weighted(Format.ONNX)
    if not op.kernels
}
FLOAT_REASONS = {
    "Conv": "onnxruntime's dynamic integer convolution takes 8 times as long as float; its weights are held in int8",
    **_NO_KERNEL,
}
_SCHEME_REASONS: dict[str, dict[str, str]] = {"int8": _NO_KERNEL, "int8-dynamic": FLOAT_REASONS}


@dataclass(frozen=True)
class QuantizeOnnx(Pass):
    """Quantizes an ONNX file.

    ``int8``: weights int8, symmetric, one scale per output channel; activations uint8, one scale per tensor, from a
    calibration; biases int32; LSTM as in ``int8-dynamic``; weights of operators without an integer kernel held in int8.
    Around attention (:mod:`edgekit.quantization.onnx.attention`) products with weights alone, unless ``integer_io``.
    ``int8-dynamic``: matrix products and LSTM on integers with scales found while running; other weights held in int8.
    ``int8-weights``, ``fp16``: weights held in int8 or float16, arithmetic in float32.
    ``int4-weights``: weights of matrix products and tables in 4 bits, a scale for 32, inputs of products quantized to 8
    bits while running; other weights held in int8.
    ``keep_float``: names of nodes, as :func:`edgekit.quantization.prepared.Prepared.operators` gives them,
    that are left alone.
    """

    scheme: str = "int8"
    calibration: Calibration | None = None
    integer_io: bool = False
    reduce_range: bool | Mapping[str, int] = False
    """7-bit weights: of every layer, or of these alone (name -> axis of its scales; see :mod:`saturation`)."""
    keep_float: frozenset[str] = frozenset()
    float_kernels: frozenset[str] = frozenset()
    """Nodes that compute in float since that is faster on the target, and hold int8 weights."""
    signed: bool = False
    """Integer inputs are int8, not uint8 as the activations behind them."""
    name: ClassVar[str] = "quantize-onnx"

    def describe(self, model: Model) -> Step:
        params: dict[str, Any] = {
            "scheme": self.scheme,
            "weights": _WEIGHTS.get(self.scheme, "int8 symmetric"),
        }
        if self.scheme != "fp16":
            params["granularity"] = f"blocks of {BLOCK}" if self.scheme == "int4-weights" else "per channel"
        if self.scheme == "int8":
            params["activations"] = "uint8, per tensor"
            params["reduce_range"] = self.reduce_range if isinstance(self.reduce_range, bool) else [*self.reduce_range]
            params["integer_io"] = self.integer_io
        if self.keep_float:
            params["kept_in_float"] = sorted(self.keep_float)
        if self.calibration is not None and self.scheme == "int8":
            params["calibration"] = describe(self.calibration)
        return Step("quantize", params, library_versions("onnx", "onnxruntime"))

    def apply(self, model: Model, context: PassContext) -> PassResult:
        artifact, target = onnx_input(model, context)
        if self.scheme not in SCHEMES:
            raise UsageError(f"no scheme is called {self.scheme!r} for .onnx files; there are: {', '.join(SCHEMES)}")
        if self.integer_io and self.scheme != "int8":
            raise UsageError(f"integer inputs and outputs need --scheme int8, not {self.scheme}")
        import onnx

        given = context.prepared
        graph = (
            prepared(artifact.path, between_integers=self.scheme == "int8")
            if given is None
            else onnx.load_from_string(given)
        )
        notes: tuple[str, ...] = ()
        left = _SCHEME_REASONS.get(self.scheme, {})
        kept = weights_of(graph, self.keep_float)
        if self.scheme == "int8":
            graph, own = self._static(graph, artifact)
            left = {**left, **own}
            dynamic_lstm(graph, self.keep_float)
            store_int8(graph, kept)  # weights of what has no integer operator: tables, GRU, RNN, ConvTranspose
        elif self.scheme == "int8-dynamic":
            graph = _dynamic(graph, self.keep_float)
            dynamic_lstm(graph, self.keep_float, per_row=False)
            store_int8(graph, kept)
        elif self.scheme == "int8-weights":
            store_int8(graph, kept)
        elif self.scheme == "int4-weights":
            notes = _int4(graph, self.keep_float)
            store_int8(graph, kept)
        else:
            notes = (
                *_half(graph, artifact.path),
                "weights are float16 and turned into float32 when the file is loaded: onnxruntime's CPU provider runs "
                "float16 operators by casting around each of them, which was slower",
            )
        save(graph, target)
        return PassResult(Artifact(target, Format.ONNX, artifact.card), True, notes, left)

    def _static(self, graph: Any, artifact: Artifact) -> tuple[Any, dict[str, str]]:
        """The graph on integers, and operator -> why it stays in float whatever is asked."""
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        if self.calibration is None:
            raise UsageError(
                "scheme int8 needs a calibration: give --data (real samples; random ones give wrong ranges)"
            )
        ranges = ranges_for(graph, self.calibration, artifact.path)
        unfit = Ranged.onnx(graph, self.calibration.ranges).exclusions(self.integer_io)
        keep = self.keep_float | self.float_kernels | unfit.keys()
        around = frozenset() if self.integer_io else around_attention(graph)
        unshare(graph, around)
        if self.reduce_range is not True:
            correct_biases(LinearOnnx(graph), self.calibration.means, self.reduce_range or (), keep)
        sums = [*last_sums(graph), *(name for name, why in unfit.items() if why == LAST)]
        bounded = {node.output[0] for node in graph.graph.node if node.op_type in ACTIVATIONS}
        left = [*sums, *keep, *around, *read_inside(graph)]
        reduced = {} if isinstance(self.reduce_range, bool) else dict(self.reduce_range)
        reduced = {name: axis for name, axis in reduced.items() if name not in weights_of(graph, around)}
        apart = Apart(graph)
        data = {
            apart.names.get(name, name): TensorData(lowest=np.float32(one[0]), highest=np.float32(one[1]))
            for name, one in ranges.items()
        }
        overrides = {
            apart.names.get(name, name): [{"axis": axis, "reduce_range": True}] for name, axis in reduced.items()
        }
        with quiet():
            quantizer = QDQQuantizer(
                graph,
                True,  # one scale per output channel
                self.reduce_range is True,
                QuantType.QInt8,
                QuantType.QUInt8,
                TensorsData(CalibrationMethod.MinMax, data),
                [],
                left,
                list(STATIC_OPERATORS),
                {"MinimumRealRange": 1e-6, "TensorQuantOverrides": overrides},
            )
            quantizer.quantize_model()
        quantized = quantizer.model.model
        sort(quantized.graph)
        apart.put_back(quantized)
        bounded -= {node.output[0] for node in quantized.graph.node if node.op_type in ACTIVATIONS}
        read_real(quantized, sums, bounded)
        real_outputs(quantized, bounded)
        hold_float(quantized, keep)
        integer_products(quantized, around - keep, ranges, self.reduce_range)
        if self.integer_io:
            _integer_inputs(quantized, self.signed)
        return quantized, {**unfit, **dict.fromkeys(around, AROUND_ATTENTION)}


def _half(graph: Any, path: Path) -> tuple[str, ...]:
    """Puts weights in half precision; what to say of those that stay.

    Raises:
        UnsupportedError: all of them would have to.
    """
    count, left = store_float16(graph)
    if not left:
        return ()
    said = f"half precision is too coarse or too small for {listed(left)}"
    if not count:
        raise UnsupportedError(f"no weight of {path} can be float16: {said}; use int8-weights, which has scales")
    return (f"weights stay in float32, because {said}",)


def _int4(graph: Any, keep_float: frozenset[str]) -> tuple[str, ...]:
    """Puts products and tables on 4 bits; what to say of it."""
    if int4_weights(graph, keep_float):
        return ("4-bit products are for large layers: at 128 units they took longer than float, at 512 half the time",)
    return ("onnxruntime has 4-bit matrix products and tables only, and this file has none: its weights are int8",)


def onnx_input(model: Model, context: PassContext) -> tuple[Artifact, Path]:
    """The file and the target of a pass on ONNX files; UsageError for anything else."""
    if not isinstance(model, Artifact) or model.format is not Format.ONNX:
        raise UsageError(
            f"this pass works on .onnx files, got {model.format if isinstance(model, Artifact) else 'a network'}"
        )
    if context.target is None:
        raise UsageError("a pass on a model file needs a target to write")
    return model, context.target


def ranges_for(graph: Any, calibration: Calibration, path: Path) -> dict[str, tuple[float, float]]:
    """Ranges of the prepared graph's tensors: those calibrated, and those of tensors that preparing added.

    Raises:
        ModelError: the calibration is of another file.
    """
    ranges = {name: (one.low, one.high) for name, one in calibration.ranges.items()}
    for node in graph.graph.node:
        if node.op_type == "GlobalAveragePool" and node.output[0] not in ranges:
            after = next((n.output[0] for n in graph.graph.node if node.output[0] in n.input), "")
            if after in ranges:
                ranges[node.output[0]] = ranges[after]
    names = {value.name for value in graph.graph.input} | {name for node in graph.graph.node for name in node.output}
    if not names & set(ranges):
        raise ModelError(
            f"the calibration names no tensor of {path}; it was made from another file: calibrate this one"
        )
    return {name: one for name, one in ranges.items() if name in names}


def _integer_inputs(model: Any, signed: bool) -> None:
    """Lets the file take the integers that its first QuantizeLinear made; that node goes. ``signed``: it takes int8 and
    shifts them to the uint8 of the activations."""
    graph = model.graph
    for value in graph.input:
        _quantize_first(model, value.name)
    constants = OnnxGraph(graph).constants
    for value in graph.input:
        readers = [node for node in graph.node if value.name in node.input]
        if len(readers) != 1 or readers[0].op_type != "QuantizeLinear":
            raise UnsupportedError(f"input {value.name!r} is not quantized in this graph; leave --integer-io out")
        quantize = readers[0]
        if signed:
            _signed_input(model, value, quantize, constants)
            continue
        for node in graph.node:
            for index, name in enumerate(node.input):
                if name == quantize.output[0]:
                    node.input[index] = value.name
        value.type.tensor_type.elem_type = constants[quantize.input[2]].data_type
        graph.node.remove(quantize)


def _quantize_first(model: Any, name: str) -> None:
    """Moves a QuantizeLinear that stands behind changes of layout of the input ``name`` in front of them: the quantizer
    puts it there for images with channels last."""
    found, moves, tensor = OnnxGraph(model.graph), [], name
    while len(readers := found.readers.get(tensor, [])) == 1 and readers[0].op_type in _MOVES:
        moves.append(readers[0])
        tensor = readers[0].output[0]
    if not moves or len(readers) != 1 or readers[0].op_type != "QuantizeLinear" or tensor in found.outputs:
        return
    quantize, names = readers[0], Names(model)
    stale = {move.output[0] for move in moves}
    moves[-1].output[0] = quantize.output[0]
    quantize.input[0], quantize.output[0] = name, names.fresh(f"{name}_quantized")
    moves[0].input[0] = quantize.output[0]
    for place, move in enumerate(moves[:-1]):
        move.output[0] = moves[place + 1].input[0] = names.fresh(f"{move.output[0]}_quantized")
    kept = [value for value in model.graph.value_info if value.name not in stale]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)
    sort(model.graph)


def _signed_input(model: Any, value: Any, quantize: Any, constants: Mapping[str, Any]) -> None:
    """Puts a DequantizeLinear from int8 before ``quantize``, with the same scale and a zero point lower by 128: the two
    give each integer and 128."""
    import onnx

    graph, names = model.graph, Names(model)
    zero = int(onnx.numpy_helper.to_array(constants[quantize.input[2]])) - SIGN
    shift, real = names.fresh(f"{value.name}_zero_point_int8"), names.fresh(f"{value.name}_real")
    graph.initializer.append(onnx.numpy_helper.from_array(np.array(zero, np.int8), shift))
    inputs, name = [value.name, quantize.input[1], shift], names.fresh(f"{value.name}_from_int8")
    quantize.input[0] = real
    graph.node.insert(0, onnx.helper.make_node("DequantizeLinear", inputs, [real], name))
    value.type.tensor_type.elem_type = onnx.TensorProto.INT8


def _dynamic(model: Any, keep_float: frozenset[str]) -> Any:
    """Matrix products with constant weights on integers, their activations quantized while running."""
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
    from onnxruntime.quantization.quant_utils import QuantizationMode

    plain_gemms(model)
    del model.graph.value_info[:]  # a Gemm becomes a MatMul; the shape of its weight would contradict
    left = [*keep_float, *(f"{name}_MatMul" for name in keep_float)]  # as the quantizer calls what it makes of a Gemm
    apart = Apart(model)
    with quiet():
        quantizer = ONNXQuantizer(
            model,
            True,
            False,
            QuantizationMode.IntegerOps,
            False,
            QuantType.QInt8,
            QuantType.QUInt8,
            None,
            [],
            left,
            ["MatMul"],
            {"MatMulConstBOnly": True},
        )
        quantizer.quantize_model()
    sort(quantizer.model.model.graph)
    apart.put_back(quantizer.model.model)
    return quantizer.model.model


def save(model: Any, target: Path) -> None:
    """Writes one self-contained file, without the parent's card and the notes that tools leave in the metadata."""
    import onnx

    del model.metadata_props[:]
    onnx.checker.check_model(model)
    target.write_bytes(model.SerializeToString())


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps the root logger's advice of onnxruntime's tools away from the user."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
