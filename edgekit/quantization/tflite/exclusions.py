"""Operators of a TFLite file that stay in float: those that a scheme cannot hold (see
:mod:`edgekit.quantization.exclusions`), and what lies around the matrix products of attention.

XNNPACK takes batched products, squared differences (of normalisation) and most of what joins them in float only; with
integers they run on TFLite's own kernels, between conversions. docs/quantization.md has the times.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgekit.errors import UnsupportedError
from edgekit.graph import ops
from edgekit.graph.ops import Family, Trait
from edgekit.graph.tflite_editor import Editor
from edgekit.quantization.calibrate.histogram import Range
from edgekit.quantization.exclusions import MASKED, Ranged
from edgekit.quantization.onnx.weights import fits_half
from edgekit.types import Format

HALF = "half precision is too coarse or too small for its weights"
_AXES = {op.name: op.scale_axes[0] for op in ops.weighted(Format.TFLITE) if 1 in op.weights and op.scale_axes}
"""Operators whose second input holds weights -> the axis of its outputs."""


def exclusions(content: bytes, scheme: str, integer_io: bool, ranges: Mapping[str, Range]) -> dict[str, str]:
    """Name of an operator -> why ``scheme`` leaves it in float.

    Args:
        ranges: of the file's tensors, for the static schemes ``int8`` and ``int16x8``.

    Raises:
        UnsupportedError: ``fp16``, and no weights of the file can be float16.
    """
    if scheme == "fp16":
        return _beyond_half(content)
    found = Ranged.tflite(content, ranges).exclusions(integer_io)
    static = scheme in ("int8", "int16x8")
    return {name: why for name, why in found.items() if static or why == MASKED}


def _beyond_half(content: bytes) -> dict[str, str]:
    fits = dict(_weighted(content))
    if fits and not any(fits.values()):
        raise UnsupportedError(f"no weight can be float16: {HALF.replace('its', 'all')}; use int8-weights, with scales")
    return {name: HALF for name, held in fits.items() if not held}


def _weighted(content: bytes) -> Iterator[tuple[str, bool]]:
    """Every operator with constant weights, in all graphs, and whether float16 holds these."""
    for graph in Editor(content).graphs():
        for node in graph.raw.operators:
            axis = _AXES.get(graph.kind(node))
            weight = graph.data(int(node.inputs[1])) if axis is not None else None
            if weight is not None and axis is not None:
                yield graph.name(node.outputs[0]), fits_half(weight, (axis,))


SEEDS = ops.names(Format.TFLITE, trait=Trait.MARKS_ATTENTION)
WEIGHTED = frozenset(op.name for op in ops.weighted(Format.TFLITE) if op.family is not Family.RECURRENT)
"""Operators whose integer kernels win: where attention ends."""


def around_attention(content: bytes) -> frozenset[str]:
    """Names (of their first outputs) of the operators of the main graph that are joined to a batched product by
    tensors, with no operator that has weights between them. None in a file without batched products."""
    graph = Editor(content).main()
    nodes = list(graph.raw.operators)
    kinds = [graph.kind(node) for node in nodes]
    if "BATCH_MATMUL" not in kinds:
        return frozenset()
    neighbours = _neighbours(nodes, kinds)
    found: set[int] = set()
    waiting = [place for place, kind in enumerate(kinds) if kind in SEEDS]
    while waiting:
        place = waiting.pop()
        if place not in found:
            found.add(place)
            waiting += neighbours[place]
    return frozenset(graph.name(nodes[place].outputs[0]) for place in found)


def _neighbours(nodes: list[Any], kinds: list[str]) -> list[list[int]]:
    """For each operator those without weights that write what it reads or read what it writes."""
    writer = {int(tensor): place for place, node in enumerate(nodes) for tensor in node.outputs}
    found: list[list[int]] = [[] for _ in nodes]
    for place, other in _edges(nodes, writer):
        if kinds[place] not in WEIGHTED and kinds[other] not in WEIGHTED:
            found[place].append(other)
            found[other].append(place)
    return found


def _edges(nodes: list[Any], writer: dict[int, int]) -> Iterator[tuple[int, int]]:
    for place, node in enumerate(nodes):
        yield from ((place, writer[int(tensor)]) for tensor in node.inputs if int(tensor) in writer)
