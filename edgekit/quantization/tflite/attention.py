"""What lies around the matrix products of attention in a TFLite file: slower with integers than in float on CPUs.

XNNPACK takes batched products, squared differences (of normalisation) and most of what joins them in float only; with
integers they run on TFLite's own kernels, between conversions. docs/quantization.md has the times.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from edgekit.graph import ops
from edgekit.graph.ops import Family, Trait
from edgekit.graph.tflite_editor import Editor
from edgekit.types import Format

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
