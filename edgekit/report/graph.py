"""A model file's operators as a drawing: SVG, or one HTML page that needs nothing else.

Layers from top to bottom by the longest way from an input, in each layer in the order of what is above (Sugiyama 1981).
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.errors import UnsupportedError
from edgekit.graph import ops
from edgekit.graph.onnx import OnnxGraph, load_onnx, with_shapes
from edgekit.graph.ops import Family
from edgekit.graph.tflite import enum_names, holds_data, kind_of, read_tflite, text
from edgekit.types import Artifact, Format

SUFFIXES = (".svg", ".html")
_WIDTH, _HEIGHT, _ACROSS, _DOWN, _MARGIN = 168, 40, 24, 44, 20
_SWEEPS = 4
_HEAVY = (Family.CONVOLUTION, Family.MATMUL, Family.RECURRENT, Family.ATTENTION, Family.LOOKUP)
_SHAPING = (Family.RESHAPE, Family.SLICE, Family.SPLIT, Family.JOIN, Family.STACK, Family.PAD)
_STYLE = """\
text { font: 12px sans-serif; fill: #222 } .s { font-size: 10px; fill: #555 } path { fill: none; stroke: #999 }
rect { fill: #f4f4f4; stroke: #bbb } .heavy { fill: #cfe0f5 } .shape { fill: #f7edd6 } .integer { fill: #d5efd8 }
.end { fill: #fff; stroke: #666; stroke-dasharray: 3 }"""


@dataclass(frozen=True)
class Node:
    """One box. ``reads``, ``writes``: names of tensors; ``shown``: shape and type of what it gives; ``look``: its
    class in the style."""

    kind: str
    name: str
    shown: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    look: str = ""


def draw(artifact: Artifact, target: Path) -> str:
    """The text of a file with the suffix of ``target``.

    Raises:
        UnsupportedError: a format whose operators are not drawn.
        ModelError: the file cannot be read.
    """
    if artifact.format is Format.ONNX:
        nodes = _onnx(artifact.path)
    elif artifact.format is Format.TFLITE:
        nodes = _tflite(artifact.path)
    else:
        raise UnsupportedError(f"the operators of .{artifact.format} files are not drawn; .onnx and .tflite files are")
    drawing = _svg(nodes, artifact.path.name)
    if target.suffix.lower() == ".svg":
        return drawing
    head = f'<!doctype html>\n<meta charset="utf-8">\n<title>{html.escape(artifact.path.name)}</title>\n'
    return f'{head}<body style="margin:0">\n{drawing}</body>\n'


def _look(format_: Format, kind: str, integer: bool) -> str:
    if integer:
        return "integer"
    known = ops.get(format_, kind)
    family = None if known is None else known.family
    return "heavy" if family in _HEAVY else "shape" if family in _SHAPING else ""


def _onnx(path: Path) -> list[Node]:
    inferred = with_shapes(load_onnx(path))
    graph = OnnxGraph(inferred)
    described = {v.name: _onnx_shape(v) for v in (*inferred.input, *inferred.value_info, *inferred.output)}
    nodes = [Node("input", name, described.get(name, ""), (), (name,), "end") for name in graph.inputs]
    for node in inferred.node:
        shown = next((described[name] for name in node.output if name in described), "")
        integer = "int8" in shown and node.op_type not in ops.conversions()
        writes = tuple(filter(None, node.output))
        reads = tuple(name for name in node.input if name and name not in graph.constants)
        nodes.append(Node(node.op_type, node.name, shown, reads, writes, _look(Format.ONNX, node.op_type, integer)))
    return [*nodes, *(Node("output", name, described.get(name, ""), (name,), (), "end") for name in graph.outputs)]


def _onnx_shape(value: Any) -> str:
    import onnx

    tensor = value.type.tensor_type
    sizes = [str(d.dim_value) if d.HasField("dim_value") else d.dim_param or "?" for d in tensor.shape.dim]
    if not tensor.elem_type:
        return ""
    return f"{'×'.join(sizes)} {onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name}"


def _tflite(path: Path) -> list[Node]:
    model = read_tflite(path)
    graph = model.subgraphs[0]
    types = {value: name.lower() for value, name in enum_names("TensorType").items()}

    def shown(index: int) -> str:
        tensor = graph.tensors[index]
        return f"{'×'.join(map(str, tensor.shape if tensor.shape is not None else ()))} {types[tensor.type]}"

    def name(index: int) -> str:
        return text(graph.tensors[index].name)

    nodes = [Node("input", name(k), shown(k), (), (str(k),), "end") for k in graph.inputs]
    for op in graph.operators or ():
        kind, outputs = kind_of(model, op), [int(k) for k in op.outputs]
        reads = tuple(str(k) for k in op.inputs if k >= 0 and not holds_data(model, graph.tensors[k]))
        first = shown(outputs[0]) if outputs else ""
        integer = first.endswith("int8") and kind not in ops.conversions()
        label = name(outputs[0]) if outputs else kind
        nodes.append(Node(kind, label, first, reads, tuple(map(str, outputs)), _look(Format.TFLITE, kind, integer)))
    return [*nodes, *(Node("output", name(k), shown(k), (str(k),), (), "end") for k in graph.outputs)]


def _svg(nodes: Sequence[Node], title: str) -> str:
    makers = {name: k for k, node in enumerate(nodes) for name in node.writes}
    above = [sorted({makers[name] for name in node.reads if name in makers}) for node in nodes]
    rows = _ordered(_layers(above), above)
    widest = max((len(row) for row in rows), default=1)
    place: dict[int, tuple[float, float]] = {}
    for depth, row in enumerate(rows):
        left = _MARGIN + (widest - len(row)) * (_WIDTH + _ACROSS) / 2
        for k, index in enumerate(row):
            place[index] = (left + k * (_WIDTH + _ACROSS), _MARGIN + depth * (_HEIGHT + _DOWN))
    width = 2 * _MARGIN + widest * (_WIDTH + _ACROSS) - _ACROSS
    height = 2 * _MARGIN + len(rows) * (_HEIGHT + _DOWN) - _DOWN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" role="img">',
        f"<title>{html.escape(title)}</title>",
        f"<style>{_STYLE}</style>",
        *(_edge(place[source], place[k]) for k, sources in enumerate(above) for source in sources),
        *(_box(node, *place[k]) for k, node in enumerate(nodes)),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _layers(above: Sequence[Sequence[int]]) -> list[list[int]]:
    """Nodes by the longest way from one without a maker; they come in an order in which makers stand first."""
    depth: list[int] = []
    for sources in above:
        depth.append(1 + max((depth[k] for k in sources if k < len(depth)), default=-1))
    rows: list[list[int]] = [[] for _ in range(max(depth, default=-1) + 1)]
    for k, one in enumerate(depth):
        rows[one].append(k)
    return rows


def _ordered(rows: list[list[int]], above: Sequence[Sequence[int]]) -> list[list[int]]:
    """Each row in the order of the mean place of its neighbours, downwards and upwards in turn."""
    below: dict[int, list[int]] = {}
    for k, sources in enumerate(above):
        for source in sources:
            below.setdefault(source, []).append(k)
    for sweep in range(_SWEEPS):
        place = {k: at / max(len(row), 1) for row in rows for at, k in enumerate(row)}
        near: Mapping[int, Sequence[int]] = dict(enumerate(above)) if sweep % 2 == 0 else below
        for row in rows if sweep % 2 == 0 else reversed(rows):
            row.sort(key=lambda k: _mean((place[n] for n in near.get(k, ())), place[k]))
            place |= {k: at / len(row) for at, k in enumerate(row)}
    return rows


def _mean(values: Iterable[float], otherwise: float) -> float:
    known = list(values)
    return sum(known) / len(known) if known else otherwise


def _edge(start: tuple[float, float], end: tuple[float, float]) -> str:
    x, y, u, v = start[0] + _WIDTH / 2, start[1] + _HEIGHT, end[0] + _WIDTH / 2, end[1]
    return f'<path d="M{x:g} {y:g}C{x:g} {(y + v) / 2:g} {u:g} {(y + v) / 2:g} {u:g} {v:g}"/>'


def _box(node: Node, x: float, y: float) -> str:
    head = node.name if node.look == "end" else node.kind
    middle = x + _WIDTH / 2
    return (
        f"<g><title>{html.escape(f'{node.kind} {node.name}')}</title>"
        f'<rect class="{node.look}" x="{x:g}" y="{y:g}" width="{_WIDTH}" height="{_HEIGHT}" rx="5"/>'
        f'<text x="{middle:g}" y="{y + 17:g}" text-anchor="middle">{html.escape(head[-26:])}</text>'
        f'<text class="s" x="{middle:g}" y="{y + 32:g}" text-anchor="middle">{html.escape(node.shown[:34])}</text></g>'
    )
