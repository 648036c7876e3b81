"""ONNX files as protobuf messages: how they are read, and what their graphs are asked.

What protobuf and onnx raise over a file becomes a ModelError.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from graphlib import CycleError, TopologicalSorter
from itertools import chain
from pathlib import Path
from typing import Any, Final

from edgekit.errors import ModelError
from edgekit.protobuf_reader import PLACEHOLDERS
from edgekit.reading import reading
from edgekit.types import Array


def load_onnx(path: Path, *, weights: bool = True) -> Any:
    """The ``ModelProto`` in ``path``, with what lies in other files beside it unless ``weights`` is False.

    Dimensions that are called ``?`` are left nameless: onnxruntime takes two of one name for equal and reuses memory.

    Raises:
        ModelError: it cannot be read, a name in it is not text, a constant is of no known type or has not as many
            values as its shape says, or its weights lie outside its folder.
    """
    import onnx
    from google.protobuf.message import DecodeError

    with reading(path, ModelError, "ONNX", DecodeError, onnx.checker.ValidationError):
        model = onnx.load(str(path), load_external_data=weights)
    damaged = next((text for text in _texts(model) if not isinstance(text, str)), None)
    if damaged is not None:
        raise ModelError(f"{path} cannot be read as ONNX: it has the name {damaged[:60]!r}, which is not UTF-8")
    for constant in _constants(model):
        if (weights or constant.data_location != onnx.TensorProto.EXTERNAL) and (fault := _fault(constant)):
            raise ModelError(f"{path} cannot be read as ONNX: its constant {constant.name[:60]!r} {fault}")
    _without_placeholders(model.graph)
    return model


def _constants(model: Any) -> Iterator[Any]:
    """Every tensor that ``model`` holds: initializers and attributes, in its functions and inner graphs as well."""
    for graph in graphs(model.graph):
        yield from graph.initializer
    for node in chain(nodes(model.graph), *(function.node for function in model.functions)):
        for attribute in node.attribute:
            yield from (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors)


def _fault(tensor: Any) -> str:
    """What keeps the values of ``tensor`` from being what its type and its shape say; "" where nothing does."""
    from onnx import numpy_helper

    if any(size < 0 for size in tensor.dims):
        return f"has the shape {list(tensor.dims)}"
    try:
        numpy_helper.to_array(tensor)
    except KeyError:
        return f"has the type {tensor.data_type}, which ONNX does not have"
    except (TypeError, ValueError) as error:
        return f"does not fit its type and shape: {error}"
    return ""


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
    for one in graphs(graph):
        for value in (*one.input, *one.output, *one.value_info):
            for dim in value.type.tensor_type.shape.dim:
                if dim.HasField("dim_param") and dim.dim_param in PLACEHOLDERS:
                    dim.ClearField("dim_param")


class OnnxGraph:
    """What stands where in one graph, not in those inside it: each answer is that of the first time it is asked, so a
    graph that was changed is asked through a new object.

    Args:
        graph: a ``GraphProto``.
    """

    def __init__(self, graph: Any) -> None:
        self.graph = graph

    @cached_property
    def constants(self) -> dict[str, Any]:
        """Name -> initializer."""
        return {tensor.name: tensor for tensor in self.graph.initializer}

    @cached_property
    def inputs(self) -> list[str]:
        """Names of the inputs; those that are initializers as well, as old files list them, are left out."""
        return [value.name for value in self.graph.input if value.name not in self.constants]

    @cached_property
    def outputs(self) -> list[str]:
        """Names of the outputs."""
        return [value.name for value in self.graph.output]

    @cached_property
    def makers(self) -> dict[str, Any]:
        """Tensor -> the node that writes it."""
        return {name: node for node in self.graph.node for name in node.output if name}

    @cached_property
    def readers(self) -> dict[str, list[Any]]:
        """Tensor -> the nodes that take it, once for each input it is."""
        found: dict[str, list[Any]] = {}
        for node in self.graph.node:
            for name in node.input:
                found.setdefault(name, []).append(node)
        return found

    def value(self, name: str) -> Array | None:
        """The values of an initializer; None for another tensor."""
        from onnx import numpy_helper

        return numpy_helper.to_array(self.constants[name]) if name in self.constants else None


def numeric_attributes(node: Any) -> dict[str, Any]:
    """The attributes of a node that are one number, by name."""
    found = {attribute.name: attribute.i for attribute in node.attribute if attribute.type == _INT}
    return found | {attribute.name: attribute.f for attribute in node.attribute if attribute.type == _FLOAT}


_FLOAT, _INT = 1, 2
"""``AttributeProto.AttributeType``."""


def graphs(graph: Any) -> Iterator[Any]:
    """``graph`` and the graphs of the branches and loops inside it, at any depth."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from graphs(inner)


LARGE = 1024
"""Bytes of a constant from which on no shape hangs on its values."""


def with_shapes(model: Any) -> Any:
    """A copy of the graph of ``model`` with the shapes and types that onnx infers, without the values of large
    constants: these would be copied several times for it."""
    import onnx

    light = onnx.ModelProto()
    light.CopyFrom(model)
    for tensor in light.graph.initializer:
        if tensor.ByteSize() > LARGE:
            bare = onnx.TensorProto(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)
            bare.data_location = onnx.TensorProto.EXTERNAL
            bare.external_data.add(key="location", value="left out")
            tensor.CopyFrom(bare)
    return onnx.shape_inference.infer_shapes(light).graph


def nodes(graph: Any) -> Iterator[Any]:
    """The nodes of ``graph`` and of all graphs inside it."""
    for one in graphs(graph):
        yield from one.node


def reads(graph: Any) -> Counter[str]:
    """Name -> how often a node, or an output of a graph, takes it; in ``graph`` and all graphs inside it."""
    found: Counter[str] = Counter()
    for one in graphs(graph):
        found.update(name for node in one.node for name in node.input if name)
        found.update(value.name for value in one.output)
    return found


def inner_reads(graph: Any) -> frozenset[str]:
    """Names that the graphs inside ``graph`` take, whoever makes them."""
    inside = [one for one in graphs(graph) if one is not graph]
    return frozenset(name for one in inside for name in reads(one))


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
