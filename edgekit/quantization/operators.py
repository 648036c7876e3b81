"""The operators of a float file by the names that quantizers know them by, and which of them are layers."""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.errors import UsageError
from edgekit.graph import ops
from edgekit.quantization.onnx import prepare as onnx_prepare
from edgekit.quantization.tflite import prepare as tflite_prepare
from edgekit.types import Artifact, Format


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator: its type, its name (TFLite: of its first output), whether it multiplies matrices."""

    kind: str
    name: str
    layer: bool


def operators(artifact: Artifact) -> tuple[Operator, ...]:
    """The operators of the main graph as they stand when it has been prepared to be quantized, in order."""
    layers = ops.layers(artifact.format)
    if artifact.format is Format.ONNX:
        nodes = onnx_prepare.prepared(artifact.path).graph.node
        return tuple(Operator(node.op_type, node.name, node.op_type in layers) for node in nodes)
    from edgekit.graph.tflite_editor import Editor

    graph = Editor(tflite_prepare.prepared(artifact.path)).main()
    found = [(graph.kind(node), graph.name(node.outputs[0])) for node in graph.raw.operators]
    return tuple(Operator(kind, name, kind in layers) for kind, name in found)


def named(text: str, known: tuple[Operator, ...]) -> tuple[str, ...]:
    """Names out of a list with commas; an operator type in it stands for all operators of that type."""
    given = [name.strip() for name in text.split(",") if name.strip()]
    spread = ([one.name for one in known if one.kind == name] or [name] for name in given)
    return tuple(dict.fromkeys(name for names in spread for name in names))


def check_names(names: frozenset[str], known: tuple[Operator, ...]) -> None:
    """Raises UsageError for names that no operator has."""
    unknown = sorted(names - {one.name for one in known})
    if unknown:
        layers = ", ".join(one.name for one in known if one.layer)
        raise UsageError(f"no operator is called {', '.join(unknown)}; layers of this file: {layers}")
