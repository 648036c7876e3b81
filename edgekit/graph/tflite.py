"""TFLite files as objects of the flatbuffer schema; what the reader raises over them becomes a ModelError."""

from __future__ import annotations

import struct
from functools import cache
from pathlib import Path
from typing import Any

from edgekit.errors import ModelError
from edgekit.flatbuffer_reader import check
from edgekit.reading import reading


def read_tflite(path: Path) -> Any:
    """The flatbuffer of a TFLite file as the schema's objects (``ModelT``), its lists never None.

    Raises:
        ModelError: the bytes are not a TFLite model, or one of operators and types that the schema does not have.
        LimitError: more operators than a model may have.
    """
    from ai_edge_litert import schema_py_generated as schema

    data = path.read_bytes()
    try:
        check(data)
    except ModelError as error:
        raise ModelError(f"{path} cannot be read as TFLite: {error}") from error
    with reading(path, ModelError, "TFLite", struct.error):
        model = schema.ModelT.InitFromPackedBuf(data, 0)
    _complete(path, model)
    return model


def _complete(path: Path, model: Any) -> None:
    """Empty lists for those that the file leaves out; ModelError for what the schema does not have."""
    kinds, types = enum_names("BuiltinOperator"), enum_names("TensorType")
    for name in ("operatorCodes", "subgraphs", "buffers"):
        setattr(model, name, getattr(model, name) or [])
    for code in model.operatorCodes:
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        if number not in kinds:
            raise ModelError(
                f"{path} cannot be read as TFLite: it has an operator {number}, which is not in the schema"
            )
    for graph in model.subgraphs:
        graph.tensors, graph.operators = graph.tensors or [], graph.operators or []
        graph.inputs, graph.outputs = _listed(graph.inputs), _listed(graph.outputs)
        for operator in graph.operators:
            operator.inputs, operator.outputs = _listed(operator.inputs), _listed(operator.outputs)
        unknown = next((tensor.type for tensor in graph.tensors if tensor.type not in types), None)
        if unknown is not None:
            raise ModelError(f"{path} cannot be read as TFLite: it has a tensor of the unknown type {unknown}")


def _listed(numbers: Any) -> Any:
    return () if numbers is None or isinstance(numbers, int) else numbers


def holds_data(model: Any, tensor: Any) -> bool:
    """True when the values of ``tensor`` stand in the file (a weight, a shape)."""
    return held_bytes(model, tensor) > 0


def held_bytes(model: Any, tensor: Any) -> int:
    """Bytes of the values of ``tensor`` in the file, in its flatbuffer or behind it; 0 for one that is computed."""
    buffer = model.buffers[tensor.buffer]
    if buffer.offset > 1:  # schema.fbs: data behind the flatbuffer, as Google's quantizer writes large constants
        return int(buffer.size)
    return 0 if buffer.data is None else len(buffer.data)


def text(value: Any) -> str:
    """A flatbuffer string as text."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")


def kind_of(model: Any, operator: Any) -> str:
    """The schema's name of an operator, or the own name of a custom one."""
    code = model.operatorCodes[operator.opcodeIndex]
    return text(code.customCode) or enum_names("BuiltinOperator")[max(code.builtinCode, code.deprecatedBuiltinCode)]


@cache
def enum_names(enum: str) -> dict[int, str]:
    """Value -> name of an enumeration of the schema."""
    from ai_edge_litert import schema_py_generated as schema

    table = getattr(schema, enum)
    return {value: name for name, value in vars(table).items() if isinstance(value, int)}
