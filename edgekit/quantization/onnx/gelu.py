"""GELU in parts, as exporters below opset 20 write it (Div, Erf, Add, two Mul), becomes ONNX's one operator.

Between integers the parts are converted to and fro, and no runtime finds the function in them any more; neither does
onnxruntime where they are left in float, because it gives each reader of ``x`` a DequantizeLinear of its own.
docs/openvino.md has times.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.converters.newer_opset import opset_of
from edgekit.errors import ModelError
from edgekit.graph import ops
from edgekit.graph.onnx import OnnxGraph, reads
from edgekit.graph.onnx_editor import drop_unused, replace_nodes
from edgekit.graph.ops import Family
from edgekit.quantization.onnx.opset import converted
from edgekit.types import Array, Format

log = logging.getLogger("edgekit")
OPSET = 20
"""The first with Gelu."""
_IR_VERSION = 9
"""That of opset 20."""
_CURVES = ops.names(Format.ONNX, Family.ELEMENTWISE)
_PARTS = (*ops.names(Format.ONNX, Family.ARITHMETIC), *_CURVES)
_FLOAT = 1
_GRID = np.linspace(-12, 12, 481, dtype=np.float32)
_TOLERANCE = 2e-6
"""Largest difference from the function, for values up to 1 and as a share of larger ones: some roundings of float32.
The forms with erf and with tanh are up to 5e-4 apart."""


@dataclass(frozen=True, slots=True)
class _Gelu:
    """``parts``: the nodes that compute ``output`` from ``source``, in order; ``approximate``: as Gelu calls them."""

    source: str
    output: str
    parts: tuple[Any, ...]
    approximate: str


def fuse_gelus(model: Any, path: Path, apart: Set[str] = frozenset()) -> Any:
    """``model`` with a Gelu, called after the last of them, in the place of nodes that compute one; in opset 20 then.

    What nodes compute is found by running them, so that any spelling of the function is known, and nothing else is
    taken for it. Where onnx cannot bring the model to that opset it stays as it is.

    Args:
        path: the file, for messages.
        apart: names of nodes that stay.
    """
    import onnx

    if not _found(model, apart):
        return model
    try:
        made = model if opset_of(model) >= OPSET else converted(model, OPSET, path)
    except ModelError as error:
        log.info("GELU stays in parts: %s", error)
        return model
    gelus = {one.output: one for one in _found(made, apart)}
    gone = {part.output[0] for one in gelus.values() for part in one.parts}
    kept: list[Any] = []
    for node in made.graph.node:
        one = gelus.get(node.output[0])
        if one is not None:
            whole = onnx.helper.make_node("Gelu", [one.source], [one.output], node.name, approximate=one.approximate)
            whole.metadata_props.extend(node.metadata_props)
            kept.append(whole)
        elif node.output[0] not in gone:
            kept.append(node)
    replace_nodes(made.graph, kept)
    drop_unused(made)
    made.ir_version = max(made.ir_version, _IR_VERSION)
    return made


def _found(model: Any, apart: Set[str]) -> list[_Gelu]:
    """The GELUs of the main graph."""
    graph, uses = OnnxGraph(model.graph), reads(model.graph)
    place = {name: number for number, node in enumerate(model.graph.node) for name in node.output}
    scalars = {name for name, held in graph.constants.items() if held.data_type == _FLOAT and math.prod(held.dims) == 1}
    found = []
    for node in list(model.graph.node):
        if node.op_type != "Mul" or not scalars.isdisjoint(node.input):
            continue
        region = _region(node, graph, place, scalars)
        if region is None:
            continue
        source, parts = region
        after = _scaled(node, graph, scalars)  # half of it comes last in some spellings
        tries = [parts] if after is None else [parts, [*parts, after]]
        one = next(filter(None, (_recognised(source, given, model, graph) for given in tries)), None)
        if one is not None and apart.isdisjoint(part.name for part in one.parts) and _is_closed(one, uses):
            found.append(one)
    return found


def _region(last: Any, graph: OnnxGraph, place: Mapping[str, int], scalars: Set[str]) -> tuple[str, list[Any]] | None:
    """The one tensor from which ``last`` is computed by functions of single numbers, a curve among them, and the nodes
    between them in order; else None."""
    parts = {place[last.output[0]]: last}
    waiting = set(last.input)
    while len(waiting) > 1:
        latest = max(waiting, key=lambda name: place.get(name, -1))
        node = graph.makers.get(latest)
        if node is None or node.op_type not in _PARTS:
            return None
        parts[place[latest]] = node
        waiting = (waiting - {latest}) | {name for name in node.input if name not in scalars}
    if not waiting or not any(node.op_type in _CURVES for node in parts.values()):
        return None
    return waiting.pop(), [parts[number] for number in sorted(parts)]


def _scaled(node: Any, graph: OnnxGraph, scalars: Set[str]) -> Any | None:
    """The only reader of ``node``, where that multiplies it by a constant."""
    after = graph.readers.get(node.output[0], [])
    times = len(after) == 1 and after[0].op_type in ("Mul", "Div") and not scalars.isdisjoint(after[0].input)
    return after[0] if times else None


def _is_closed(one: _Gelu, uses: Mapping[str, int]) -> bool:
    """Whether nothing else reads what lies between."""
    inside: dict[str, int] = {}
    for part in one.parts:
        for name in part.input:
            inside[name] = inside.get(name, 0) + 1
    between = [name for part in one.parts[:-1] for name in part.output]
    return all(uses[name] == inside.get(name, 0) for name in between)


def _recognised(source: str, parts: list[Any], model: Any, graph: OnnxGraph) -> _Gelu | None:
    """The GELU that ``parts`` compute; None where they compute something else."""
    import onnx
    import onnxruntime

    output = parts[-1].output[0]
    used = {name for part in parts for name in part.input}
    made = onnx.helper.make_graph(
        parts,
        "parts",
        [onnx.helper.make_tensor_value_info(source, _FLOAT, [_GRID.size])],
        [onnx.helper.make_tensor_value_info(output, _FLOAT, None)],
        [held for name, held in graph.constants.items() if name in used],
    )
    opsets = [entry for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    content = onnx.helper.make_model(made, opset_imports=opsets, ir_version=model.ir_version).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # other numbers than float32, for one
        log.debug("not a GELU of float32: %s", error)
        return None
    (values,) = session.run(None, {source: _GRID})
    room = _TOLERANCE * np.maximum(1, np.abs(_GRID))
    for approximate, wanted in _gelus().items():
        if values.shape == _GRID.shape and bool((np.abs(values - wanted) <= room).all()):
            return _Gelu(source, output, tuple(parts), approximate)
    return None


def _gelus() -> Mapping[str, Array]:
    """The values on the grid, by what Gelu calls them. Hendrycks and Gimpel 2016."""
    x = _GRID.astype(np.float64)
    erf = np.array([math.erf(value / math.sqrt(2)) for value in x])
    return {
        "none": x / 2 * (1 + erf),
        "tanh": x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    }
