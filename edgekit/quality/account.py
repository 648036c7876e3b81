"""The integer account of a model file: which operators run on integers, which stayed in float, and why.

Works on files from elsewhere. ONNX is read as QDQ graphs are executed: an operator counts as integer when every tensor
that it reads comes out of a DequantizeLinear and everything it writes goes into a QuantizeLinear, and onnxruntime has a
kernel to fuse that (checked against its optimised graph by the tests). TFLite is read by its tensor types.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.errors import ModelError, UnsupportedError
from edgekit.types import Artifact, Format

QDQ_KERNELS = frozenset(
    [
        "Add",
        "ArgMax",
        "AveragePool",
        "Concat",
        "Conv",
        "Expand",
        "Flatten",
        "Gather",
        "Gemm",
        "GlobalAveragePool",
        "LeakyRelu",
        "MatMul",
        "MaxPool",
        "Mul",
        "Pad",
        "Reshape",
        "Resize",
        "Sigmoid",
        "Slice",
        "Softmax",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
        "Where",
    ]
)
"""ONNX operators that onnxruntime's CPU provider fuses between DequantizeLinear and QuantizeLinear (1.31)."""
INTEGER_ONNX = frozenset(
    [
        "QLinearConv",
        "QLinearMatMul",
        "QLinearAdd",
        "QLinearMul",
        "QLinearAveragePool",
        "QLinearGlobalAveragePool",
        "QLinearConcat",
        "QLinearSigmoid",
        "QLinearLeakyRelu",
        "QLinearSoftmax",
        "QLinearWhere",
        "QGemm",
        "ConvInteger",
        "MatMulInteger",
        "DynamicQuantizeMatMul",
        "MatMulIntegerToFloat",
        "DynamicQuantizeLSTM",
        "QAttention",
    ]
)
"""ONNX operators that compute on integers by definition."""
CONVERSIONS = frozenset(
    ["QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast", "QUANTIZE", "DEQUANTIZE", "CAST"]
)
"""Operators that only change the number format; counted apart from the work."""
ROUTINE = frozenset(["Shape", "Constant", "Identity", "ConstantOfShape", "Range"])
"""Operators on shapes and constants, done at load time; not counted."""
INTEGER_WEIGHTS = frozenset(("int8", "uint8", "int4", "uint4", "int16", "int32"))


@dataclass(frozen=True, slots=True)
class LeftFloat:
    """One operator that runs in float: its type, its name in the file, and why."""

    operator: str
    name: str
    reason: str


@dataclass(frozen=True)
class Account:
    """What of a model file is integer.

    Attributes:
        operators: operators that do work (conversions of number format and shape arithmetic are not counted).
        integer_operators: those of them that compute on integers.
        weight_bytes_integer_share: share of the bytes of constant tensors that is held in integers, 0..1.
        conversions: operators that only change the number format while the model runs.
        left_float: the rest, with reasons.
    """

    operators: int
    integer_operators: int
    weight_bytes_integer_share: float
    conversions: int
    left_float: tuple[LeftFloat, ...]

    @property
    def quantized(self) -> bool:
        """True when anything in the file is held or computed in integers."""
        return self.integer_operators > 0 or self.weight_bytes_integer_share > 0

    def document(self) -> dict[str, Any]:
        """The account as JSON values, with the names of CONTRACT."""
        return {
            "operators": self.operators,
            "integer_operators": self.integer_operators,
            "weight_bytes_integer_share": round(self.weight_bytes_integer_share, 4),
            "conversions": self.conversions,
            "left_float": [{"operator": f.operator, "name": f.name, "reason": f.reason} for f in self.left_float],
        }


def account(artifact: Artifact, reasons: Mapping[str, str] | None = None) -> Account:
    """The integer account of a model file.

    Args:
        artifact: an ONNX or TFLite file, from edgekit or from elsewhere.
        reasons: operator type or name -> why a pass left it in float, in place of what the file itself shows.

    Raises:
        UnsupportedError: a format without quantized operators (.pt2).
        ModelError: the file cannot be read.
    """
    if artifact.format is Format.ONNX:
        return onnx_account(artifact.path, reasons or {})
    if artifact.format is Format.TFLITE:
        return tflite_account(artifact.path, reasons or {})
    raise UnsupportedError(
        f"{artifact.path} is a .{artifact.format} file; an integer account is had for .onnx and .tflite"
    )


def quantized_already(artifact: Artifact) -> str:
    """What shows that a file is quantized already; the empty string for a float file."""
    for step in artifact.card.steps if artifact.card is not None else ():
        if step.name == "quantize":
            return f"its card has a step quantize, scheme {step.params.get('scheme', 'unknown')}"
    found, scaled = account(artifact), _has_scales(artifact)
    if found.integer_operators and scaled:
        return f"{found.integer_operators} of {found.operators} operators run on integers"
    share = found.weight_bytes_integer_share
    if (scaled and found.conversions and share > 0) or share > 0.5:
        return f"{share:.0%} of its weight bytes are integers"
    if _holds_half(artifact):
        return "its weights are float16"
    return ""


def _has_scales(artifact: Artifact) -> bool:
    """Whether anything in the file is held with a scale: integers without one are indices and sizes."""
    if artifact.format is Format.TFLITE:
        model = read_tflite(artifact.path)
        held = (t.quantization for g in model.subgraphs for t in g.tensors if t.quantization is not None)
        return any(q.scale is not None and len(q.scale) > 0 for q in held)
    import onnx

    kinds = {node.op_type for node in onnx.load(str(artifact.path), load_external_data=False).graph.node}
    return any(kind.startswith(("Q", "Dequantize", "DynamicQuantize")) or "Integer" in kind for kind in kinds)


def _holds_half(artifact: Artifact) -> bool:
    if artifact.format is Format.TFLITE:
        model = read_tflite(artifact.path)
        return any(
            t.type == 1 and holds_data(model, t) and t.shape is not None for g in model.subgraphs for t in g.tensors
        )
    import onnx

    model = onnx.load(str(artifact.path))
    return any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in model.graph.initializer)


# ---------------------------------------------------------------- ONNX


class OnnxGraph:
    """An ONNX graph with who makes and who reads each tensor."""

    def __init__(self, model: Any) -> None:
        self.nodes = list(model.graph.node)
        self.initializers = {tensor.name: tensor for tensor in model.graph.initializer}
        self.outputs = {value.name for value in model.graph.output}
        self.maker = {name: node for node in self.nodes for name in node.output}
        self.readers: dict[str, list[Any]] = {}
        for node in self.nodes:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.folded = self._constant_nodes()

    def _constant_nodes(self) -> set[str]:
        """Names of tensors made from constants alone by cheap nodes: the runtime makes them once, at load."""
        constant = set(self.initializers)
        for node in self.nodes:
            if node.op_type in ("DequantizeLinear", "QuantizeLinear"):
                continue  # onnxruntime keeps these in the graph
            if node.op_type == "Constant" or (node.input and all(n in constant for n in node.input if n)):
                constant.update(node.output)
        return constant - set(self.initializers)

    def real_work(self) -> list[Any]:
        """Nodes that do work when the model runs."""
        return [
            node
            for node in self.nodes
            if node.op_type not in CONVERSIONS | ROUTINE
            and not all(name in self.folded for name in node.output)
            and not self._rescales(node)
        ]

    def _rescales(self, node: Any) -> bool:
        """True for the Mul that turns the integers of a dynamically quantized product back into real values."""
        makers = [self.maker.get(name) for name in node.input]
        kinds = {maker.op_type for maker in makers if maker is not None}
        if node.op_type != "Mul":
            return False
        casts = [maker for maker in makers if maker is not None and maker.op_type == "Cast"]
        products = [self.maker.get(cast.input[0]) for cast in casts]
        return "DynamicQuantizeLinear" in kinds or any(p is not None and p.op_type in INTEGER_ONNX for p in products)


def onnx_account(path: Path, reasons: Mapping[str, str]) -> Account:
    """The account of an ONNX file; see :func:`account`."""
    import onnx

    try:
        graph = OnnxGraph(onnx.load(str(path)))
    except Exception as error:  # protobuf and file errors share no base class
        raise ModelError(f"{path} cannot be read as ONNX: {error}") from error
    work = [node for node in graph.real_work() if not _fused_activation(graph, node)]
    left = []
    for node in work:
        reason = _onnx_float_reason(graph, node)
        if reason:
            left.append(
                LeftFloat(node.op_type, node.name, reasons.get(node.name) or reasons.get(node.op_type) or reason)
            )
    floats = {one.name for one in left}
    running = sum(_converts(graph, node, floats) for node in graph.nodes)
    return Account(len(work), len(work) - len(left), _onnx_integer_share(graph), running, tuple(left))


def _converts(graph: OnnxGraph, node: Any, floats: set[str]) -> bool:
    """True for a conversion that is left over when integer operators have taken in those around them."""
    if node.op_type not in CONVERSIONS or node.output[0] in graph.folded:
        return False
    if node.op_type == "QuantizeLinear":
        maker = graph.maker.get(node.input[0])
        return maker is None or maker.name in floats
    if node.op_type == "DequantizeLinear":
        readers = graph.readers.get(node.output[0], [])
        return not readers or any(reader.name in floats for reader in readers)
    return True


def _fused_activation(graph: OnnxGraph, node: Any) -> bool:
    """True for a Relu or Clip between an integer operator and its QuantizeLinear: it becomes part of that operator."""
    if node.op_type not in ("Relu", "Clip"):
        return False
    before = graph.maker.get(node.input[0])
    return before is not None and before.op_type in ("Conv", "Gemm", "Add", "MatMul") and not _writes_float(graph, node)


def _from_dequantize(graph: OnnxGraph, name: str) -> bool:
    maker = graph.maker.get(name)
    return maker is not None and maker.op_type == "DequantizeLinear"


def _writes_float(graph: OnnxGraph, node: Any) -> str:
    """The output tensor of ``node`` that somebody reads in float, or the empty string."""
    for name in node.output:
        if not name:
            continue
        readers = graph.readers.get(name, [])
        if name in graph.outputs or not readers:
            return str(name)
        for reader in readers:
            if reader.op_type in ("Relu", "Clip") and not _writes_float(graph, reader):
                continue
            if reader.op_type != "QuantizeLinear":
                return str(name)
    return ""


def _onnx_float_reason(graph: OnnxGraph, node: Any) -> str:
    """Why ``node`` runs in float; the empty string when it runs on integers."""
    if node.op_type in INTEGER_ONNX:
        return ""
    data = [name for name in node.input if name and not _is_shape_input(graph, node, name)]
    if not any(_from_dequantize(graph, name) for name in data):
        return _unquantized_reason(graph, node)
    if node.op_type not in QDQ_KERNELS:
        return f"onnxruntime has no integer kernel for {node.op_type} between DequantizeLinear and QuantizeLinear"
    activation = data[0]
    if not _from_dequantize(graph, activation):
        return f"weight-only: its weights are integers, its input {activation!r} is float"
    loose = [name for name in data if not _from_dequantize(graph, name)]
    if node.op_type == "Conv" and len(data) == 3:
        loose = [name for name in loose if name != data[2]]  # onnxruntime quantizes a constant float bias itself
    if loose:
        return f"its input {loose[0]!r} is float"
    if _mixed_signs(graph, node, data):
        return (
            "int8 activations, some of them read by two operators: onnxruntime on x86 turns only the others into uint8 "
            "and cannot fuse the mixture; uint8 activations avoid it"
        )
    loose_output = _writes_float(graph, node)
    if loose_output and node.op_type not in ("MatMul", "Gemm"):
        return f"its output {loose_output!r} is read in float"
    return ""


def _is_shape_input(graph: OnnxGraph, node: Any, name: str) -> bool:
    """True for inputs that carry shapes, axes or indices: everything constant that is no float."""
    if name in graph.initializers:
        return int(graph.initializers[name].data_type) not in (1, 10, 16)
    return name in graph.folded and node.op_type not in ("Conv", "Gemm", "MatMul")


def _unquantized_reason(graph: OnnxGraph, node: Any) -> str:
    weights = [name for name in node.input if name in graph.folded and _folded_from_integer(graph, name)]
    if weights:
        return "weight-only: its weights are held in integers and turned into float when the file is loaded"
    if node.op_type in ("Conv", "Gemm", "MatMul", "ConvTranspose", "LSTM", "GRU", "RNN"):
        return "not quantized in this file"
    return "its inputs are float"


def _folded_from_integer(graph: OnnxGraph, name: str) -> bool:
    node = graph.maker.get(name)
    while node is not None:
        if node.op_type == "Cast" and node.input[0] in graph.initializers:
            return int(graph.initializers[node.input[0]].data_type) in _ONNX_INTEGERS
        node = graph.maker.get(node.input[0]) if node.input else None
    return False


def _mixed_signs(graph: OnnxGraph, node: Any, data: list[str]) -> bool:
    """True when signed activations around ``node`` are partly shared with other readers, partly not.

    onnxruntime on x86 rewrites an int8 QuantizeLinear/DequantizeLinear pair to uint8 only where it has a single reader.
    """
    shared = set()
    for name in data:
        quantize = graph.maker.get(graph.maker[name].input[0]) if _from_dequantize(graph, name) else None
        if quantize is not None and _is_signed(graph, quantize):
            shared.add(len(graph.readers[name]) > 1 or len(graph.readers[quantize.output[0]]) > 1)
    for quantize in (reader for name in node.output for reader in graph.readers.get(name, [])):
        if quantize.op_type == "QuantizeLinear" and _is_signed(graph, quantize):
            pairs = graph.readers.get(quantize.output[0], [])
            shared.add(len(pairs) != 1 or len(graph.readers.get(pairs[0].output[0], [])) > 1)
    return len(shared) > 1


def _is_signed(graph: OnnxGraph, node: Any) -> bool:
    if len(node.input) < 3 or node.input[2] not in graph.initializers:
        return False
    return int(graph.initializers[node.input[2]].data_type) == 3  # INT8


_ONNX_INTEGERS = frozenset((2, 3, 4, 5, 6, 21, 22))
_ONNX_BITS = {1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 10: 16, 11: 64, 16: 16, 21: 4, 22: 4}


def _onnx_integer_share(graph: OnnxGraph) -> float:
    total = integer = 0.0
    scales = {
        name
        for node in graph.nodes
        if node.op_type in ("QuantizeLinear", "DequantizeLinear")
        for name in node.input[1:]
    }
    for name, tensor in graph.initializers.items():
        if name in scales or int(tensor.data_type) == 7:
            continue  # scales and zero points are no weights; int64 holds shapes
        count = 1
        for extent in tensor.dims:
            count *= extent
        size = count * _ONNX_BITS.get(int(tensor.data_type), 32) / 8
        total += size
        integer += size if int(tensor.data_type) in _ONNX_INTEGERS else 0.0
    return integer / total if total else 0.0


# ---------------------------------------------------------------- TFLite


def read_tflite(path: Path) -> Any:
    """The flatbuffer of a TFLite file as the schema's objects (``ModelT``).

    Raises:
        ModelError: the bytes are no TFLite model.
    """
    from ai_edge_litert import schema_py_generated as schema

    try:
        return schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    except Exception as error:  # the generated reader fails with whatever it meets first
        raise ModelError(f"{path} cannot be read as TFLite: {type(error).__name__}: {error}") from error


def holds_data(model: Any, tensor: Any) -> bool:
    """True when the values of ``tensor`` stand in the file (a weight, a shape)."""
    data = model.buffers[tensor.buffer].data
    return data is not None and len(data) > 0


def text(value: Any) -> str:
    """A flatbuffer string as text."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")


def tflite_account(path: Path, reasons: Mapping[str, str]) -> Account:
    """The account of a TFLite file; see :func:`account`."""
    model = read_tflite(path)
    names = _enum_names("BuiltinOperator")
    types = {value: name.lower() for value, name in _enum_names("TensorType").items()}
    operators = conversions = integer = 0
    left = []
    for graph in model.subgraphs:
        for op in graph.operators or ():
            code = model.operatorCodes[op.opcodeIndex]
            kind = text(code.customCode) or names[max(code.builtinCode, code.deprecatedBuiltinCode)]
            if kind in CONVERSIONS:
                conversions += not all(holds_data(model, graph.tensors[i]) for i in op.inputs if i >= 0)
                continue
            operators += 1
            name = text(graph.tensors[op.outputs[0]].name) if len(op.outputs) else kind
            reason = _tflite_float_reason(model, graph, op, kind, types)
            if reason:
                left.append(LeftFloat(kind, name, reasons.get(name) or reasons.get(kind) or reason))
            else:
                integer += 1
    return Account(operators, integer, _tflite_integer_share(model, types), conversions, tuple(left))


def _enum_names(enum: str) -> dict[int, str]:
    from ai_edge_litert import schema_py_generated as schema

    table = getattr(schema, enum)
    return {value: name for name, value in vars(table).items() if isinstance(value, int)}


def _tflite_float_reason(model: Any, graph: Any, op: Any, kind: str, types: Mapping[int, str]) -> str:
    inputs = [graph.tensors[i] for i in op.inputs if i >= 0]
    activations = [types[t.type] for t in inputs if not holds_data(model, t)]
    outputs = [types[graph.tensors[i].type] for i in op.outputs if i >= 0]
    weights = [
        types[t.type] for t in inputs if holds_data(model, t) and len(t.shape if t.shape is not None else ()) > 1
    ]
    real = [t for t in (*activations, *outputs) if t.startswith("float")]
    if not real:
        return ""
    hybrid = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL", "UNIDIRECTIONAL_SEQUENCE_LSTM")
    if kind in hybrid and any(w in INTEGER_WEIGHTS for w in weights):
        return ""  # dynamic range: the kernel quantizes its input and multiplies integers
    if _dequantized_weight(model, graph, op):
        return "weight-only: its weights are held in fewer bits and turned into float when the model runs"
    return "not quantized in this file" if kind in hybrid else "its inputs are float"


def _dequantized_weight(model: Any, graph: Any, op: Any) -> bool:
    makers = {int(i): maker for maker in graph.operators for i in maker.outputs}
    names = _enum_names("BuiltinOperator")
    for index in op.inputs:
        maker = makers.get(int(index))
        if maker is None or not holds_data(model, graph.tensors[maker.inputs[0]]):
            continue
        if names[model.operatorCodes[maker.opcodeIndex].builtinCode] == "DEQUANTIZE":
            return True
    return False


def _tflite_integer_share(model: Any, types: Mapping[int, str]) -> float:
    total = integer = 0
    seen: set[int] = set()
    for graph in model.subgraphs:
        shapes = _shape_inputs(model, graph)
        for index, tensor in enumerate(graph.tensors):
            if tensor.buffer in seen or index in shapes or not holds_data(model, tensor):
                continue
            seen.add(tensor.buffer)
            size = len(model.buffers[tensor.buffer].data)
            total += size
            integer += size if types[tensor.type] in INTEGER_WEIGHTS else 0
    return integer / total if total else 0.0


def _shape_inputs(model: Any, graph: Any) -> set[int]:
    """Tensors that hold shapes, axes or paddings: int32 constants without quantization parameters."""
    found = set()
    for index, tensor in enumerate(graph.tensors):
        scaled = tensor.quantization is not None and tensor.quantization.scale is not None
        if tensor.type == _INT32 and not scaled and holds_data(model, tensor):
            found.add(index)
    return found


_INT32 = 2
