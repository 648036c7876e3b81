"""What is known of operators, by format: their family, their weights, their integer kernels, how they are counted.

The one table of operators: other modules ask it (:func:`names`, :func:`layers`, :func:`get`) and list no names. An
operator that is not in it has no weights and no integer kernel, and counts no products. Standard library and
:mod:`edgekit.types` only, because the device floor asks it too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache, partial
from typing import Any, Final

from edgekit.graph import macs as count
from edgekit.graph.macs import Rule, Tensor
from edgekit.types import Format


class Family(Enum):
    """What an operator computes. Each operator has one."""

    CONVOLUTION = auto()
    MATMUL = auto()
    RECURRENT = auto()
    LOOKUP = auto()
    """Rows of a table, by index."""
    ATTENTION = auto()
    LOOP = auto()
    BRANCH = auto()
    CALL = auto()
    """Runs another graph once."""
    VARIABLE = auto()
    """Makes, reads or writes a resource variable."""
    ARITHMETIC = auto()
    """Sum, difference, product or quotient of two tensors."""
    ELEMENTWISE = auto()
    """Any other function of one number each of its inputs."""
    ACTIVATION = auto()
    POOLING = auto()
    REDUCTION = auto()
    RESHAPE = auto()
    """Gives every value of its first input, in another shape or order."""
    SLICE = auto()
    SPLIT = auto()
    JOIN = auto()
    """Joins tensors along an axis that they have."""
    STACK = auto()
    """Joins tensors along a new axis."""
    PAD = auto()
    CAST = auto()
    QUANTIZE = auto()
    DEQUANTIZE = auto()
    CONSTANT = auto()
    """A constant, a shape, or what is made of shapes alone."""
    OTHER = auto()


class Kernel(Enum):
    """An integer kernel that a runtime has for an operator of float files: onnxruntime's CPU provider (1.31) for ONNX,
    TFLite's own kernels or XNNPACK for TFLite."""

    STATIC = auto()
    """From integers to integers (ONNX: between DequantizeLinear and QuantizeLinear)."""
    DYNAMIC = auto()
    """Integer weights with real inputs, which the kernel quantizes as it runs (TFLite calls it hybrid)."""


class Trait(Enum):
    """A property of few operators."""

    HOMOGENEOUS = auto()
    """A positive factor of all of its input is a factor of its one output."""
    SCALES_CHANNELS = auto()
    """A positive factor of a channel of its input is a factor of the same channel of its output."""
    WRITES_STATE = auto()
    """What it writes is there in the next run."""
    CLAMP = auto()
    """Keeps values within bounds: onnxruntime and its quantizer make it a part of the layer before it, or of the
    QuantizeLinear behind it."""
    STATIC_SCHEME = auto()
    """ONNX, int8: put between QuantizeLinear and DequantizeLinear. Others with such a kernel are left in float: as an
    output, a mask or a table they would only be rounded."""
    QUANTIZED_AT_LOAD = auto()
    """onnxruntime (1.21 and later, WeightBiasQuantization) quantizes its float weights itself between integers."""
    AT_LOAD = auto()
    """onnxruntime computes it or takes it out when it loads the file."""
    UNPACKS_TABLE = auto()
    """May stand between a table that is held in fewer bits and its look-up, as files of quantizers have it."""
    ONE_SCALE = auto()
    """TFLite: the hybrid kernel of tflite-runtime 2.14 has no scale per channel. It is read as zero there, and the bias
    is all that is left of the result, without a warning. One scale a matrix is right on every runtime, and as fast."""
    MARKS_ATTENTION = auto()
    """TFLite: part of attention or of the normalization beside it, which XNNPACK computes in float only."""
    TYPES_SINCE_13 = auto()
    """ONNX: since operator set 13 it has become able to take more types, and nothing else."""


_NONE: Final = frozenset[Any]()


@dataclass(frozen=True, slots=True)
class Op:
    """One operator of one format.

    Attributes:
        format, name: the name as the file has it; of a ``.pt2`` file without the overload ``.default``.
        domain: of an ONNX operator; empty for the standard one.
        code: of a TFLite operator, ``BuiltinOperator`` of schema.fbs.
        integer: computes on integers by definition, so that it stands in quantized files only.
        data: the input that is the activation, of an operator with weights.
        weights: inputs that hold weights where they are constant.
        scale_axes: axes of the weights that keep a scale of their own in quantization.
        layout: axes of the weights as (outputs, inputs of a group, kernel…).
        bias: the input that is added to each channel.
        lookups: pairs of (input that holds indices, input that holds the table they count in).
        cell: what a recurrent operator computes at each step: LSTM, GRU or RNN.
        macs: its multiply-accumulates by shapes; None for one that multiplies no matrices.
        options: TFLite, the table of its options in schema.fbs.
        xnnpack: TFLite, the words by which XNNPACK's profiler calls it.
    """

    format: Format
    name: str
    family: Family
    domain: str = ""
    code: int = -1
    integer: bool = False
    kernels: frozenset[Kernel] = _NONE
    traits: frozenset[Trait] = _NONE
    data: int = 0
    weights: tuple[int, ...] = ()
    scale_axes: tuple[int, ...] = ()
    layout: tuple[int, ...] = ()
    bias: int | None = None
    lookups: tuple[tuple[int, int], ...] = ()
    cell: str = ""
    macs: Rule | None = None
    options: str = ""
    xnnpack: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        """The name with the domain of a foreign ONNX operator: ``com.microsoft::QGemm``."""
        return f"{self.domain}::{self.name}" if self.domain else self.name

    @property
    def plain(self) -> bool:
        """Whether float files of the standard operator set have it."""
        return not self.domain and not self.integer

    @property
    def keeps_state(self) -> bool:
        """Whether a step depends on the one before it, or a run on the run before."""
        return self.family in (Family.RECURRENT, Family.LOOP) or Trait.WRITES_STATE in self.traits


def get(format: Format, name: str) -> Op | None:
    """The operator of this name, without its domain; None for one that is not in the table."""
    return _by_name().get((format, name))


def of(format: Format | None, *families: Family) -> tuple[Op, ...]:
    """The operators of a format (None: of all), of these families where some are named, in the order of the table."""
    return tuple(
        op for op in TABLE if (format is None or op.format is format) and (not families or op.family in families)
    )


@cache
def names(
    format: Format | None, *families: Family, kernel: Kernel | None = None, trait: Trait | None = None
) -> tuple[str, ...]:
    """Names of the plain operators (see :attr:`Op.plain`) of a format, in the order of the table.

    Args:
        format: None for all formats; their names differ, since TFLite writes them in capitals.
        families: those of one of them; none named stands for all.
        kernel: those with such an integer kernel.
        trait: those with such a property.
    """
    return tuple(
        op.name
        for op in of(format, *families)
        if op.plain and (kernel is None or kernel in op.kernels) and (trait is None or trait in op.traits)
    )


@cache
def layers(format: Format, *families: Family) -> tuple[str, ...]:
    """Names of the plain operators that multiply matrices: convolutions, products, recurrent operators."""
    return tuple(op.name for op in of(format, *families) if op.plain and op.macs is not None)


@cache
def weighted(format: Format) -> tuple[Op, ...]:
    """The plain operators that have inputs for weights, tables that are looked up in among them."""
    return tuple(op for op in of(format) if op.plain and op.weights)


@cache
def conversions() -> frozenset[str]:
    """Names, in all formats, of operators that only change the number format."""
    return frozenset(op.name for op in of(None, Family.CAST, Family.QUANTIZE, Family.DEQUANTIZE))


@cache
def plumbing() -> frozenset[str]:
    """Names, in all formats, of operators that only change the number format or the layout."""
    return conversions() | {"Transpose", "TRANSPOSE"}


@cache
def tflite_names() -> dict[int, str]:
    """``BuiltinOperator`` of the TFLite operators in the table -> their names."""
    return {op.code: op.name for op in of(Format.TFLITE)}


def macs(name: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> int | None:
    """Multiply-accumulates of one run of an operator of any format; 0 for one without products of matrices, None where
    the shapes do not tell."""
    rule = _rules().get(name)
    if rule is None:
        return 0
    if not inputs or not outputs:
        return None
    try:
        return rule(inputs, outputs[0])
    except (IndexError, ZeroDivisionError):
        return None


@cache
def _by_name() -> dict[tuple[Format, str], Op]:
    return {(op.format, op.name): op for op in TABLE}


@cache
def _rules() -> dict[str, Rule]:
    return {op.name: op.macs for op in TABLE if op.macs is not None}


_MICROSOFT: Final = "com.microsoft"
_STATIC, _DYNAMIC = frozenset((Kernel.STATIC,)), frozenset((Kernel.DYNAMIC,))
_BOTH = _STATIC | _DYNAMIC
_SCALING = (Trait.HOMOGENEOUS, Trait.SCALES_CHANNELS)
_SCHEME = Trait.STATIC_SCHEME


def _rows(format: Format, names: str, family: Family, *traits: Trait, **facts: Any) -> tuple[Op, ...]:
    return tuple(Op(format, name, family, traits=frozenset(traits), **facts) for name in names.split())


_onnx, _pt2, _saved_model = (partial(_rows, each) for each in (Format.ONNX, Format.PT2, Format.SAVED_MODEL))


def _integer(names: str, family: Family, domain: str = _MICROSOFT, **facts: Any) -> tuple[Op, ...]:
    return _onnx(names, family, domain=domain, integer=True, **facts)


def _tflite(name: str, code: int, family: Family, *traits: Trait, **facts: Any) -> tuple[Op, ...]:
    return _rows(Format.TFLITE, name, family, *traits, code=code, **facts)


_ONNX: Final = (
    *_onnx("Conv", Family.CONVOLUTION, _SCHEME, Trait.QUANTIZED_AT_LOAD, kernels=_BOTH, weights=(1,), scale_axes=(0,),
           bias=2, macs=count.convolution(1)),
    *_onnx("ConvTranspose", Family.CONVOLUTION, Trait.QUANTIZED_AT_LOAD, weights=(1,), scale_axes=(1,), bias=2,
           macs=count.transposed),
    *_onnx("FusedConv NhwcFusedConv", Family.CONVOLUTION, domain=_MICROSOFT, macs=count.convolution(1)),
    *_integer("ConvInteger", Family.CONVOLUTION, "", macs=count.convolution(1)),
    *_integer("QLinearConv", Family.CONVOLUTION, "", macs=count.convolution(3)),
    *_onnx("MatMul", Family.MATMUL, _SCHEME, kernels=_BOTH, weights=(0, 1), scale_axes=(-1,), macs=count.product),
    # its scales stand on the axis that transB says
    *_onnx("Gemm", Family.MATMUL, _SCHEME, Trait.QUANTIZED_AT_LOAD, kernels=_STATIC, weights=(1,), bias=2,
           macs=count.product),
    *_onnx("FusedMatMul FusedGemm MatMulNBits", Family.MATMUL, domain=_MICROSOFT, macs=count.product),
    *_integer("MatMulInteger QLinearMatMul", Family.MATMUL, "", macs=count.product),
    *_integer("MatMulIntegerToFloat DynamicQuantizeMatMul QGemm", Family.MATMUL, macs=count.product),
    *_integer("QAttention", Family.ATTENTION),
    *_onnx("LSTM", Family.RECURRENT, kernels=_DYNAMIC, weights=(1, 2), scale_axes=(0, 1), cell="LSTM",
           macs=count.sequence(4)),
    *_onnx("GRU", Family.RECURRENT, weights=(1, 2), scale_axes=(0, 1), cell="GRU", macs=count.sequence(3)),
    *_onnx("RNN", Family.RECURRENT, weights=(1, 2), scale_axes=(0, 1), cell="RNN", macs=count.sequence(1)),
    *_integer("DynamicQuantizeLSTM", Family.RECURRENT, cell="LSTM", macs=count.sequence(4)),
    *_onnx("Gather", Family.LOOKUP, kernels=_STATIC, weights=(0,), scale_axes=(0,), lookups=((1, 0),)),
    *_onnx("GatherBlockQuantized", Family.LOOKUP, domain=_MICROSOFT, lookups=((1, 0),)),
    *_onnx("EmbedLayerNormalization", Family.LOOKUP, domain=_MICROSOFT, lookups=((0, 2), (1, 4))),
    *_onnx("Loop Scan", Family.LOOP),
    *_onnx("If", Family.BRANCH),
    *_onnx("Add", Family.ARITHMETIC, _SCHEME, Trait.TYPES_SINCE_13, kernels=_STATIC),
    *_onnx("Mul", Family.ARITHMETIC, _SCHEME, Trait.TYPES_SINCE_13, Trait.UNPACKS_TABLE, kernels=_STATIC),
    *_onnx("Sub Div", Family.ARITHMETIC, Trait.TYPES_SINCE_13),
    *_onnx("Erf Tanh Pow", Family.ELEMENTWISE),
    *_integer("QLinearAdd QLinearMul", Family.ARITHMETIC),
    *_onnx("Relu", Family.ACTIVATION, *_SCALING, _SCHEME, Trait.CLAMP, Trait.TYPES_SINCE_13),
    *_onnx("Clip", Family.ACTIVATION, _SCHEME, Trait.CLAMP),
    *_onnx("LeakyRelu", Family.ACTIVATION, *_SCALING, _SCHEME, kernels=_STATIC),
    *_onnx("PRelu", Family.ACTIVATION, *_SCALING),
    *_onnx("Sigmoid", Family.ACTIVATION, _SCHEME, kernels=_STATIC),
    *_onnx("Softmax", Family.ACTIVATION, kernels=_STATIC),
    *_integer("QLinearSigmoid QLinearLeakyRelu QLinearSoftmax", Family.ACTIVATION),
    *_onnx("MaxPool AveragePool GlobalAveragePool", Family.POOLING, *_SCALING, _SCHEME, kernels=_STATIC),
    *_integer("QLinearAveragePool QLinearGlobalAveragePool", Family.POOLING),
    *_onnx("ArgMax", Family.REDUCTION, kernels=_STATIC),
    *_onnx("Flatten Reshape Squeeze Transpose Unsqueeze", Family.RESHAPE, Trait.HOMOGENEOUS, _SCHEME, kernels=_STATIC),
    *_onnx("Identity", Family.RESHAPE, *_SCALING, Trait.AT_LOAD, Trait.UNPACKS_TABLE, Trait.TYPES_SINCE_13),
    *_onnx("Slice", Family.SLICE, Trait.HOMOGENEOUS, _SCHEME, kernels=_STATIC),
    *_onnx("Split", Family.SPLIT, _SCHEME, kernels=_STATIC),
    *_onnx("Concat", Family.JOIN, _SCHEME, kernels=_STATIC),
    *_integer("QLinearConcat", Family.JOIN),
    *_onnx("Pad", Family.PAD, _SCHEME, kernels=_STATIC),
    *_onnx("Dropout", Family.OTHER, *_SCALING),
    *_onnx("CumSum", Family.OTHER, Trait.TYPES_SINCE_13),
    *_onnx("Resize", Family.OTHER, _SCHEME, kernels=_STATIC),
    *_onnx("Expand Where", Family.OTHER, kernels=_STATIC),
    *_integer("QLinearWhere", Family.OTHER),
    *_onnx("Cast", Family.CAST, Trait.UNPACKS_TABLE),
    *_onnx("QuantizeLinear DynamicQuantizeLinear", Family.QUANTIZE),
    *_onnx("DequantizeLinear", Family.DEQUANTIZE, Trait.UNPACKS_TABLE),
    *_onnx("Shape Constant ConstantOfShape Range", Family.CONSTANT, Trait.AT_LOAD),
)  # fmt: skip

_LSTM_WEIGHTS: Final = (*range(1, 12), 16)
"""Source: ``kernels/lstm_shared.h``."""
_TWO_LSTMS: Final = (*_LSTM_WEIGHTS, *range(18, 29), 33, *range(40, 48))
"""Source: ``kernels/bidirectional_sequence_lstm.cc``."""
_SHAPING: Final = "Static Reshape"
_TFLITE: Final = (
    *_tflite("CONV_2D", 3, Family.CONVOLUTION, kernels=_BOTH, weights=(1,), scale_axes=(0,), layout=(0, 3, 1, 2),
             bias=2, macs=count.convolution(1), xnnpack=("Convolution",)),
    *_tflite("DEPTHWISE_CONV_2D", 4, Family.CONVOLUTION, kernels=_BOTH, weights=(1,), scale_axes=(3,),
             layout=(3, 0, 1, 2), bias=2, macs=count.depthwise_tflite, xnnpack=("Convolution", "DWConv")),
    *_tflite("TRANSPOSE_CONV", 67, Family.CONVOLUTION, kernels=_BOTH, data=2, weights=(1,), scale_axes=(0,),
             layout=(0, 3, 1, 2), bias=3, macs=count.transposed_tflite, xnnpack=("Deconvolution",)),
    *_tflite("EMBEDDING_LOOKUP", 7, Family.LOOKUP, Trait.ONE_SCALE, kernels=_BOTH, weights=(1,), scale_axes=(0,),
             lookups=((0, 1),)),
    *_tflite("GATHER", 36, Family.LOOKUP, kernels=_STATIC, weights=(0,), lookups=((1, 0),), options="GatherOptions"),
    *_tflite("FULLY_CONNECTED", 9, Family.MATMUL, Trait.ONE_SCALE, kernels=_BOTH, weights=(1,), scale_axes=(0,),
             layout=(0, 1), bias=2, macs=count.dense_tflite, options="FullyConnectedOptions",
             xnnpack=("Fully Connected", "Dynamic Fully Connected")),
    # either factor may be constant; quantizers hold it like any other tensor
    *_tflite("BATCH_MATMUL", 126, Family.MATMUL, Trait.ONE_SCALE, Trait.MARKS_ATTENTION, kernels=_BOTH,
             macs=count.product, xnnpack=("Batch Matrix Multiply",)),
    *_tflite("UNIDIRECTIONAL_SEQUENCE_LSTM", 44, Family.RECURRENT, kernels=_BOTH, weights=_LSTM_WEIGHTS, cell="LSTM",
             macs=count.sequence(4), options="UnidirectionalSequenceLSTMOptions"),
    *_tflite("BIDIRECTIONAL_SEQUENCE_LSTM", 52, Family.RECURRENT, kernels=_DYNAMIC, weights=_TWO_LSTMS, cell="LSTM",
             macs=count.by_weights, options="BidirectionalSequenceLSTMOptions"),
    *_tflite("UNIDIRECTIONAL_SEQUENCE_RNN", 35, Family.RECURRENT, kernels=_DYNAMIC, weights=(1, 2), cell="RNN",
             macs=count.sequence(1), options="SequenceRNNOptions"),
    *_tflite("BIDIRECTIONAL_SEQUENCE_RNN", 46, Family.RECURRENT, kernels=_DYNAMIC, weights=(1, 2, 5, 6, 10, 11),
             cell="RNN", macs=count.by_weights),
    # of old converters: read, never rewritten, so their weights are not noted
    *_tflite("LSTM", 16, Family.RECURRENT, kernels=_BOTH, cell="LSTM"),
    *_tflite("RNN", 24, Family.RECURRENT, kernels=_DYNAMIC, cell="RNN"),
    *_tflite("SVDF", 27, Family.RECURRENT, kernels=_BOTH),
    *_tflite("WHILE", 119, Family.LOOP, options="WhileOptions"),
    *_tflite("IF", 118, Family.BRANCH),
    *_tflite("CALL", 31, Family.CALL),
    *_tflite("CALL_ONCE", 129, Family.CALL),
    *_tflite("VAR_HANDLE", 142, Family.VARIABLE),
    *_tflite("READ_VARIABLE", 143, Family.VARIABLE),
    *_tflite("ASSIGN_VARIABLE", 144, Family.VARIABLE, Trait.WRITES_STATE),
    *_tflite("ADD", 0, Family.ARITHMETIC, kernels=_STATIC, options="AddOptions", xnnpack=("Add",)),
    *_tflite("SUB", 41, Family.ARITHMETIC, kernels=_STATIC, options="SubOptions", xnnpack=("Subtract",)),
    *_tflite("MUL", 18, Family.ARITHMETIC, kernels=_STATIC, options="MulOptions", xnnpack=("Multiply",)),
    # its integer kernel ends the process where a divisor rounds to zero: it counts as none
    *_tflite("DIV", 42, Family.ARITHMETIC, xnnpack=("Divide",)),
    *_tflite("SQUARED_DIFFERENCE", 99, Family.ELEMENTWISE, Trait.MARKS_ATTENTION, kernels=_STATIC,
             xnnpack=("Squared Difference",)),
    *_tflite("RSQRT", 76, Family.ELEMENTWISE, kernels=_STATIC, xnnpack=("Reciprocal Square Root",)),
    *_tflite("MAXIMUM", 55, Family.ELEMENTWISE, kernels=_STATIC, options="MaximumMinimumOptions"),
    *_tflite("FLOOR_MOD", 95, Family.ELEMENTWISE, options="FloorModOptions"),
    *_tflite("GREATER", 61, Family.ELEMENTWISE, kernels=_STATIC, options="GreaterOptions"),
    *_tflite("LESS", 58, Family.ELEMENTWISE, kernels=_STATIC, options="LessOptions"),
    *_tflite("RELU", 19, Family.ACTIVATION, *_SCALING, kernels=_STATIC),
    *_tflite("LEAKY_RELU", 98, Family.ACTIVATION, *_SCALING, kernels=_STATIC),
    *_tflite("PRELU", 54, Family.ACTIVATION, *_SCALING, kernels=_STATIC),
    *_tflite("LOGISTIC", 14, Family.ACTIVATION, kernels=_STATIC, xnnpack=("Sigmoid",)),
    *_tflite("TANH", 28, Family.ACTIVATION, kernels=_STATIC, xnnpack=("Tanh",)),
    *_tflite("SOFTMAX", 25, Family.ACTIVATION, Trait.MARKS_ATTENTION, kernels=_STATIC, xnnpack=("Softmax",)),
    *_tflite("MAX_POOL_2D", 17, Family.POOLING, *_SCALING, kernels=_STATIC, xnnpack=("Max Pooling",)),
    *_tflite("AVERAGE_POOL_2D", 1, Family.POOLING, *_SCALING, kernels=_STATIC,
             xnnpack=("Average Pooling", "Global Average Pooling", "Mean")),
    *_tflite("MEAN", 40, Family.REDUCTION, Trait.HOMOGENEOUS, kernels=_STATIC, options="ReducerOptions",
             xnnpack=("Mean", "Global Average Pooling")),
    *_tflite("SUM", 74, Family.REDUCTION, kernels=_STATIC, xnnpack=("Sum",)),
    *_tflite("RESHAPE", 22, Family.RESHAPE, Trait.HOMOGENEOUS, kernels=_STATIC, options="ReshapeOptions",
             xnnpack=(_SHAPING,)),
    *_tflite("SQUEEZE", 43, Family.RESHAPE, Trait.HOMOGENEOUS, kernels=_STATIC, xnnpack=(_SHAPING,)),
    *_tflite("EXPAND_DIMS", 70, Family.RESHAPE, Trait.HOMOGENEOUS, kernels=_STATIC, xnnpack=(_SHAPING,)),
    *_tflite("TRANSPOSE", 39, Family.RESHAPE, Trait.HOMOGENEOUS, kernels=_STATIC, xnnpack=("Transpose",)),
    *_tflite("SLICE", 65, Family.SLICE, Trait.HOMOGENEOUS, kernels=_STATIC, options="SliceOptions", xnnpack=("Slice",)),
    *_tflite("STRIDED_SLICE", 45, Family.SLICE, Trait.HOMOGENEOUS, kernels=_STATIC, options="StridedSliceOptions",
             xnnpack=("Slice",)),
    *_tflite("SPLIT", 49, Family.SPLIT, kernels=_STATIC, options="SplitOptions", xnnpack=("Slice",)),
    *_tflite("SPLIT_V", 102, Family.SPLIT, kernels=_STATIC, options="SplitVOptions"),
    *_tflite("UNPACK", 88, Family.SPLIT, kernels=_STATIC),
    *_tflite("CONCATENATION", 2, Family.JOIN, kernels=_STATIC, options="ConcatenationOptions",
             xnnpack=("Concatenate",)),
    *_tflite("PACK", 83, Family.STACK, kernels=_STATIC, options="PackOptions"),
    *_tflite("PAD", 34, Family.PAD, Trait.HOMOGENEOUS, kernels=_STATIC, options="PadOptions",
             xnnpack=("Constant Pad",)),
    *_tflite("PADV2", 60, Family.PAD, kernels=_STATIC, xnnpack=("Constant Pad",)),
    *_tflite("REVERSE_V2", 105, Family.OTHER, options="ReverseV2Options"),
    *_tflite("CAST", 53, Family.CAST),
    *_tflite("QUANTIZE", 114, Family.QUANTIZE),
    *_tflite("DEQUANTIZE", 6, Family.DEQUANTIZE, Trait.UNPACKS_TABLE),
    *_tflite("SHAPE", 77, Family.CONSTANT, options="ShapeOptions"),
    *_tflite("FILL", 94, Family.CONSTANT, options="FillOptions"),
)  # fmt: skip

_PT2: Final = (
    *_pt2("aten.conv1d aten.conv2d aten.conv3d aten.convolution", Family.CONVOLUTION,
          macs=count.convolution(1)),
    *_pt2("aten.conv_transpose1d aten.conv_transpose2d.input aten.conv_transpose3d.input",
          Family.CONVOLUTION, macs=count.transposed),
    *_pt2("aten.linear aten.matmul aten.mm aten.bmm", Family.MATMUL, macs=count.product),
    *_pt2("aten.addmm", Family.MATMUL, macs=count.product_added),
    *_pt2("aten.lstm.input", Family.RECURRENT, cell="LSTM", macs=count.by_weights),
    *_pt2("aten.gru.input", Family.RECURRENT, cell="GRU", macs=count.by_weights),
    *_pt2("aten.rnn_tanh.input aten.rnn_relu.input", Family.RECURRENT, cell="RNN", macs=count.by_weights),
    *_pt2("aten.lstm_cell.default", Family.RECURRENT, cell="LSTM"),
    *_pt2("aten.gru_cell.default", Family.RECURRENT, cell="GRU"),
    *_pt2("aten.rnn_tanh_cell.default aten.rnn_relu_cell.default", Family.RECURRENT, cell="RNN"),
)  # fmt: skip

_SAVED_MODEL: Final = (
    *_saved_model("While StatelessWhile", Family.LOOP),
    *_saved_model("AssignVariableOp AssignAddVariableOp AssignSubVariableOp", Family.VARIABLE,
                  Trait.WRITES_STATE),
)  # fmt: skip

TABLE: Final = (*_ONNX, *_TFLITE, *_PT2, *_SAVED_MODEL)
