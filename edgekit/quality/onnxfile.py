"""ONNX files as protobuf messages; what protobuf and onnx raise over them becomes a ModelError."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, Final

from edgekit.errors import ModelError
from edgekit.reading import reading
from edgekit.runtime.ports import PLACEHOLDERS


def load_onnx(path: Path, *, weights: bool = True) -> Any:
    """The ``ModelProto`` in ``path``, with what lies in other files beside it unless ``weights`` is False.

    Dimensions that are called ``?`` are left nameless: onnxruntime takes two of one name for equal and reuses memory.

    Raises:
        ModelError: it cannot be read, a name in it is not text, or its weights lie outside its folder.
    """
    import onnx
    from google.protobuf.message import DecodeError

    with reading(path, ModelError, "ONNX", DecodeError, onnx.checker.ValidationError):
        model = onnx.load(str(path), load_external_data=weights)
    damaged = next((text for text in _texts(model) if not isinstance(text, str)), None)
    if damaged is not None:
        raise ModelError(f"{path} cannot be read as ONNX: it has the name {damaged[:60]!r}, which is not UTF-8")
    _without_placeholders(model.graph)
    return model


_FREE: Final = ("doc_string", "value")
"""Texts of the format for people, and those of ``metadata_props``: nothing is looked up by them."""


def _texts(message: Any) -> Iterator[str | bytes]:
    """Every name in ``message``; protobuf gives those that are not UTF-8 as bytes."""
    from google.protobuf.message import Message

    for field, value in message.ListFields():
        parts: Any = (value,) if isinstance(value, str | bytes | Message) else value
        if field.type == field.TYPE_STRING and field.name not in _FREE:
            yield from parts
        elif field.type == field.TYPE_MESSAGE and field.message_type.name == "TensorProto":
            yield from (tensor.name for tensor in parts)  # without a copy of their values
        elif field.type == field.TYPE_MESSAGE:
            for part in parts:
                yield from _texts(part)


def _without_placeholders(graph: Any) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.HasField("dim_param") and dim.dim_param in PLACEHOLDERS:
                dim.ClearField("dim_param")
    for attribute in (attribute for node in graph.node for attribute in node.attribute):
        for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            _without_placeholders(inner)


_OF_ONNXRUNTIME: Mapping[str, tuple[int, tuple[str, ...]]] = {
    "MatMulNBits": (3, ("K", "N")), "GatherBlockQuantized": (3, ()), "DynamicQuantizeLSTM": (3, ()),
}  # fmt: skip
"""Operator -> the inputs it has at least, and attributes that it must have."""


def check_graph(path: Path, graph: Any) -> None:
    """Raises ModelError unless the operators of ``graph`` have their inputs, and none waits for its own output."""
    makers = {name: number for number, node in enumerate(graph.node) for name in node.output}
    for node in graph.node:
        least, needed = _OF_ONNXRUNTIME.get(node.op_type) or (_least_inputs(node.op_type, node.domain), ())
        lacking = [name for name in needed if all(attribute.name != name for attribute in node.attribute)]
        if len(node.input) < least or not node.output or lacking:
            raise ModelError(
                f"{path} cannot be read as ONNX: its operator {node.op_type[:60]} ({node.name[:60]}) has "
                f"{len(node.input)} inputs and {len(node.output)} outputs{f', and no {lacking[0]}' if lacking else ''}"
            )
    waits = {number: {makers[name] for name in node.input if name in makers} for number, node in enumerate(graph.node)}
    try:
        TopologicalSorter(waits).prepare()
    except CycleError as error:
        raise ModelError(f"{path} cannot be read as ONNX: its operators wait for each other in a circle") from error


@cache
def _least_inputs(kind: str, domain: str) -> int:
    import onnx

    try:
        return int(onnx.defs.get_schema(kind, domain="" if domain == "ai.onnx" else domain).min_input)
    except onnx.defs.SchemaError:  # an operator of somebody else's
        return 0
