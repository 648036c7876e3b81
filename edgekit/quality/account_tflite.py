"""The integer account of TFLite files, by their tensor types."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekit.errors import ModelError
from edgekit.quality.account_base import CONVERSIONS, Account, LeftFloat
from edgekit.wire_tflite import IDENTIFIER

INTEGER_WEIGHTS = frozenset(("int8", "uint8", "int4", "uint4", "int16", "int32"))


def read_tflite(path: Path) -> Any:
    """The flatbuffer of a TFLite file as the schema's objects (``ModelT``).

    Raises:
        ModelError: the bytes are no TFLite model.
    """
    from ai_edge_litert import schema_py_generated as schema

    data = path.read_bytes()
    if data[4:8] != IDENTIFIER:
        raise ModelError(f"{path} cannot be read as TFLite: its bytes 4 to 8 are {data[4:8]!r}, not {IDENTIFIER!r}")
    try:
        return schema.ModelT.InitFromPackedBuf(data, 0)
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
