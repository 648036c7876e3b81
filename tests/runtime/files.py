"""Small real model files for the tests of runtimes and devices: ONNX by onnx.helper, TFLite by schema classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper, numpy_helper

TFLITE_TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "int8": schema.TensorType.INT8,
    "uint8": schema.TensorType.UINT8,
    "int32": schema.TensorType.INT32,
    "resource": schema.TensorType.RESOURCE,
}
OPERATORS = schema.BuiltinOperator


@dataclass(frozen=True)
class Tensor:
    """A TFLite tensor. A shape with -1 is dynamic; ``scale`` per tensor, or one per channel of axis 0."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: np.ndarray | None = None
    scale: Sequence[float] = ()
    zero_point: int = 0
    variable: bool = False


@dataclass(frozen=True)
class Operator:
    """A TFLite operator over tensor indices; ``options`` is (union type, options object)."""

    code: int
    inputs: Sequence[int]
    outputs: Sequence[int]
    options: tuple[int, Any] | None = None
    custom: str = ""
    version: int = 1


def write_tflite(
    path: Path,
    tensors: Sequence[Tensor],
    operators: Sequence[Operator],
    inputs: Sequence[int],
    outputs: Sequence[int],
    signature: tuple[Mapping[str, int], Mapping[str, int]] | None = None,
    second: tuple[Sequence[Tensor], Sequence[Operator]] | None = None,
) -> Path:
    """A model as a file; ``signature``: names to tensor indices; ``second``: a graph without inputs or outputs."""
    model = schema.ModelT()
    model.version = 3
    model.buffers, model.operatorCodes = [schema.BufferT()], []
    model.subgraphs = [_graph(model, tensors, operators, inputs, outputs)]
    if second is not None:
        model.subgraphs.append(_graph(model, *second, [], []))
    if signature is not None:
        definition = schema.SignatureDefT()
        definition.signatureKey, definition.subgraphIndex = b"serving_default", 0
        definition.inputs, definition.outputs = (_maps(names) for names in signature)
        model.signatureDefs = [definition]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def _graph(
    model: Any, tensors: Sequence[Tensor], operators: Sequence[Operator], inputs: Sequence[int], outputs: Sequence[int]
) -> Any:
    graph = schema.SubGraphT()
    graph.tensors = [_tensor(model, tensor) for tensor in tensors]
    graph.operators = []
    for operator in operators:
        code = schema.OperatorCodeT()
        code.builtinCode, code.version = operator.code, operator.version
        code.deprecatedBuiltinCode = min(operator.code, 127)
        code.customCode = operator.custom or None
        made = schema.OperatorT()
        made.opcodeIndex = len(model.operatorCodes)
        model.operatorCodes.append(code)
        made.inputs, made.outputs = list(operator.inputs), list(operator.outputs)
        if operator.options is not None:
            made.builtinOptionsType, made.builtinOptions = operator.options
        graph.operators.append(made)
    graph.inputs, graph.outputs = list(inputs), list(outputs)
    return graph


def _tensor(model: Any, tensor: Tensor) -> Any:
    made = schema.TensorT()
    made.name, made.type, made.isVariable = tensor.name, TFLITE_TYPES[tensor.dtype], tensor.variable
    made.shape = [max(size, 1) for size in tensor.shape]
    made.hasRank = True
    if -1 in tensor.shape:
        made.shapeSignature = list(tensor.shape)
    made.buffer = 0
    if tensor.data is not None:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(tensor.data).tobytes(), np.uint8)
        made.buffer = len(model.buffers)
        model.buffers.append(buffer)
    if tensor.scale:
        made.quantization = schema.QuantizationParametersT()
        made.quantization.scale = list(tensor.scale)
        made.quantization.zeroPoint = [tensor.zero_point] * len(tensor.scale)
        made.quantization.quantizedDimension = 0
    return made


def _maps(names: Mapping[str, int]) -> list[Any]:
    rows = []
    for name, index in names.items():
        row = schema.TensorMapT()
        row.name, row.tensorIndex = name.encode(), index
        rows.append(row)
    return rows


def dense_tflite(path: Path, *, dynamic: bool = False, signature: bool = True) -> Path:
    """``y = x @ W.T + 1``, W = 0..11 as (3, 4); float32 x (1 or any, 4), y (…, 3)."""
    batch = -1 if dynamic else 1
    options = schema.FullyConnectedOptionsT()
    options.keepNumDims = False
    return write_tflite(
        path,
        [
            Tensor("the_x", "float32", (batch, 4)),
            Tensor("w", "float32", (3, 4), np.arange(12, dtype=np.float32).reshape(3, 4)),
            Tensor("b", "float32", (3,), np.ones(3, np.float32)),
            Tensor("the_y", "float32", (batch, 3)),
        ],
        [Operator(OPERATORS.FULLY_CONNECTED, [0, 1, 2], [3], (schema.BuiltinOptions.FullyConnectedOptions, options))],
        [0],
        [3],
        ({"x": 0}, {"y": 3}) if signature else None,
    )


def relu_int8_tflite(path: Path) -> Path:
    """Integer RELU: int8 x (1, 6) with scale 0.5 and zero point -3, y likewise."""
    quantized = {"scale": (0.5,), "zero_point": -3}
    return write_tflite(
        path,
        [Tensor("x", "int8", (1, 6), **quantized), Tensor("y", "int8", (1, 6), **quantized)],
        [Operator(OPERATORS.RELU, [0], [1])],
        [0],
        [1],
        ({"x": 0}, {"y": 1}),
    )


def conv_int8_tflite(path: Path) -> Path:
    """Integer 3x3 convolution with per-channel weights: int8 image (1, 8, 8, 3) -> int8 features (1, 8, 8, 4)."""
    generator = np.random.default_rng(3)
    weights = generator.integers(-127, 128, (4, 3, 3, 3), dtype=np.int8)
    scales = (0.01, 0.02, 0.015, 0.005)
    options = schema.Conv2DOptionsT()
    options.padding, options.strideH, options.strideW = schema.Padding.SAME, 1, 1
    options.dilationHFactor = options.dilationWFactor = 1
    return write_tflite(
        path,
        [
            Tensor("image", "int8", (1, 8, 8, 3), scale=(0.03,), zero_point=5),
            Tensor("w", "int8", (4, 3, 3, 3), weights, scale=scales),
            Tensor("b", "int32", (4,), np.array([100, -50, 0, 7], np.int32), scale=tuple(0.03 * s for s in scales)),
            Tensor("features", "int8", (1, 8, 8, 4), scale=(0.25,), zero_point=-10),
        ],
        [Operator(OPERATORS.CONV_2D, [0, 1, 2], [3], (schema.BuiltinOptions.Conv2DOptions, options), version=3)],
        [0],
        [3],
        ({"image": 0}, {"features": 3}),
    )


def conv_int8_by_hand(image: np.ndarray) -> np.ndarray:
    """What :func:`conv_int8_tflite` must give, worked out in float64 from the definition of affine quantization."""
    weights = np.random.default_rng(3).integers(-127, 128, (4, 3, 3, 3), dtype=np.int8).astype(np.float64)
    scales = np.array((0.01, 0.02, 0.015, 0.005))
    integers = np.clip(np.rint(image.astype(np.float64) / 0.03) + 5, -128, 127) - 5
    padded = np.pad(integers, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))  # (1, 8, 8, 3, 3, 3)
    sums = np.einsum("nhwcij,oijc->nhwo", windows, weights) + np.array([100, -50, 0, 7])
    return 0.25 * (np.clip(np.rint(sums * 0.03 * scales / 0.25) - 10, -128, 127) + 10)


def mixed_tflite(path: Path) -> Path:
    """``y = (x + x) cumulated along its axis, then added to itself``: ADD, CUMSUM, ADD; XNNPACK has no CUMSUM."""
    add = (schema.BuiltinOptions.AddOptions, schema.AddOptionsT())
    tensors = [Tensor(name, "float32", (1, 4)) for name in ("x", "a", "s", "y")]
    return write_tflite(
        path,
        [*tensors, Tensor("axis", "int32", (), np.array(1, np.int32))],
        [
            Operator(OPERATORS.ADD, [0, 0], [1], add),
            Operator(OPERATORS.CUMSUM, [1, 4], [2], (schema.BuiltinOptions.CumsumOptions, schema.CumsumOptionsT())),
            Operator(OPERATORS.ADD, [2, 2], [3], add),
        ],
        [0],
        [3],
        ({"x": 0}, {"y": 3}),
    )


def huge_tflite(path: Path, count: int) -> Path:
    """``y = x + z`` for x (count, 1) and z (1, count): ``count`` x ``count`` floats out of twice ``count``."""
    add = (schema.BuiltinOptions.AddOptions, schema.AddOptionsT())
    shapes = {"x": (count, 1), "z": (1, count), "y": (count, count)}
    tensors = [Tensor(name, "float32", shape) for name, shape in shapes.items()]
    return write_tflite(
        path, tensors, [Operator(OPERATORS.ADD, [0, 1], [2], add)], [0, 1], [2], ({"x": 0, "z": 1}, {"y": 2})
    )


def recurrent_tflite(path: Path) -> Path:
    """A sequence RNN, ``h = x + h`` per step without activation, h a variable tensor: x (1, 3 steps, 2), y likewise."""
    options = schema.SequenceRNNOptionsT()
    options.timeMajor = False
    options.fusedActivationFunction = schema.ActivationFunctionType.NONE
    eye = np.eye(2, dtype=np.float32)
    return write_tflite(
        path,
        [
            Tensor("x", "float32", (1, 3, 2)),
            Tensor("w", "float32", (2, 2), eye),
            Tensor("r", "float32", (2, 2), eye),
            Tensor("b", "float32", (2,), np.zeros(2, np.float32)),
            Tensor("h", "float32", (1, 2), variable=True),
            Tensor("y", "float32", (1, 3, 2)),
        ],
        [
            Operator(
                OPERATORS.UNIDIRECTIONAL_SEQUENCE_RNN,
                [0, 1, 2, 3, 4],
                [5],
                (schema.BuiltinOptions.SequenceRNNOptions, options),
            )
        ],
        [0],
        [5],
        ({"x": 0}, {"y": 5}),
    )


def resource_tflite(path: Path) -> Path:
    """``y = v + x; v = y`` with v a resource variable, set to zeros once by a graph of its own, as converters do."""
    unions = schema.BuiltinOptions
    handle, once = schema.VarHandleOptionsT(), schema.CallOnceOptionsT()
    handle.sharedName, handle.container = b"v", b""
    once.initSubgraphIndex = 1
    read = (unions.ReadVariableOptions, schema.ReadVariableOptionsT())
    assign = (unions.AssignVariableOptions, schema.AssignVariableOptionsT())
    variable = Tensor("v", "resource", ())
    get_handle = Operator(OPERATORS.VAR_HANDLE, [], [1], (unions.VarHandleOptions, handle))
    return write_tflite(
        path,
        [Tensor("x", "float32", (1, 2)), variable, Tensor("old", "float32", (1, 2)), Tensor("y", "float32", (1, 2))],
        [
            Operator(OPERATORS.CALL_ONCE, [], [], (unions.CallOnceOptions, once)),
            get_handle,
            Operator(OPERATORS.READ_VARIABLE, [1], [2], read),
            Operator(OPERATORS.ADD, [0, 2], [3], (unions.AddOptions, schema.AddOptionsT())),
            Operator(OPERATORS.ASSIGN_VARIABLE, [1, 3], [], assign),
        ],
        [0],
        [3],
        ({"x": 0}, {"y": 3}),
        (
            [Tensor("zeros", "float32", (1, 2), np.zeros((1, 2), np.float32)), variable],
            [get_handle, Operator(OPERATORS.ASSIGN_VARIABLE, [1, 0], [], assign)],
        ),
    )


def custom_op_tflite(path: Path) -> Path:
    """One custom operator that no runtime has."""
    return write_tflite(
        path,
        [Tensor("x", "float32", (1, 4)), Tensor("y", "float32", (1, 4))],
        [Operator(OPERATORS.CUSTOM, [0], [1], custom="Frobnicate")],
        [0],
        [1],
    )


def many_outputs_tflite(path: Path, count: int = 12) -> Path:
    """``output_k = x + k``; the SignatureDef lists its outputs by name, so that 10 stands before 2."""
    tensors = [Tensor("x", "float32", (1, 2))]
    operators = []
    for k in range(count):
        tensors += [
            Tensor(f"c{k}", "float32", (1, 2), np.full((1, 2), k, np.float32)),
            Tensor(f"t{k}", "float32", (1, 2)),
        ]
        operators.append(
            Operator(
                OPERATORS.ADD, [0, 1 + 2 * k], [2 + 2 * k], (schema.BuiltinOptions.AddOptions, schema.AddOptionsT())
            )
        )
    places = {f"output_{k}": 2 + 2 * k for k in range(count)}
    return write_tflite(
        path, tensors, operators, [0], list(places.values()), ({"args_0": 0}, dict(sorted(places.items())))
    )


def write_onnx(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[Any]],
    outputs: Mapping[str, Sequence[Any]],
    weights: Sequence[TensorProto] = (),
    *,
    opset: int = 18,
    ir: int = 10,
    domain: str = "",
    dtype: int = TensorProto.FLOAT,
) -> Path:
    """One graph as a file, unchecked; inputs and outputs are name -> shape, a string in a shape is a dynamic axis."""
    graph = helper.make_graph(
        list(nodes),
        "small",
        [helper.make_tensor_value_info(name, dtype, list(shape)) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, dtype, list(shape)) for name, shape in outputs.items()],
        list(weights),
    )
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    model = helper.make_model(graph, opset_imports=opsets)
    model.ir_version = ir
    path.write_bytes(model.SerializeToString())
    return path


def dense_onnx(path: Path, *, dynamic: bool = False) -> Path:
    """The same as :func:`dense_tflite`: ``y = x @ W.T + 1``."""
    batch = "batch" if dynamic else 1
    weights = np.arange(12, dtype=np.float32).reshape(3, 4).T
    return write_onnx(
        path,
        [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["p", "b"], ["y"])],
        {"x": (batch, 4)},
        {"y": (batch, 3)},
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.ones(3, np.float32), "b")],
    )


def product_onnx(path: Path) -> Path:
    """``y = x @ W``: x (8, 64), W (64, 64) seeded normal values."""
    w = np.random.default_rng(1).standard_normal((64, 64), dtype=np.float32)
    product = helper.make_node("MatMul", ["x", "w"], ["y"])
    return write_onnx(path, [product], {"x": (8, 64)}, {"y": (8, 64)}, [numpy_helper.from_array(w, "w")])


def concat_onnx(path: Path) -> Path:
    """Two inputs (batch, 2) and (batch, 3) side by side."""
    return write_onnx(
        path,
        [helper.make_node("Concat", ["a", "b"], ["y"], axis=1)],
        {"a": ("batch", 2), "b": ("batch", 3)},
        {"y": ("batch", 5)},
    )


def node_onnx(path: Path, operator: str, *, domain: str = "", imported: bool = True, **options: Any) -> Path:
    """One node x (1, 4) -> y (1, 4); ``imported=False`` leaves its domain out of the opset imports."""
    node = helper.make_node(operator, ["x"], ["y"], domain=domain)
    return write_onnx(path, [node], {"x": (1, 4)}, {"y": (1, 4)}, domain=domain if imported else "", **options)


def identity_onnx(path: Path, dtype: int) -> Path:
    """Identity over (1, 4) of any element type."""
    return write_onnx(path, [helper.make_node("Identity", ["x"], ["y"])], {"x": (1, 4)}, {"y": (1, 4)}, dtype=dtype)


def huge_onnx(path: Path, count: int) -> Path:
    """Makes ``count`` x ``count`` floats out of ``count``: the outer product of x (count, 1) with itself."""
    return write_onnx(
        path,
        [helper.make_node("Transpose", ["x"], ["t"]), helper.make_node("MatMul", ["x", "t"], ["y"])],
        {"x": (count, 1)},
        {"y": (count, count)},
    )


def external_onnx(path: Path, location: str) -> Path:
    """``y = x + w`` with w in another file, said to lie at ``location``."""
    weight = numpy_helper.from_array(np.ones((1, 4), np.float32), "w")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "16")):
        entry = weight.external_data.add()
        entry.key, entry.value = key, value
    return write_onnx(path, [helper.make_node("Add", ["x", "w"], ["y"])], {"x": (1, 4)}, {"y": (1, 4)}, [weight])
