"""Which layer of a model is the first whose values the reference never has.

A converted graph has other tensors than the module: fused (convolution + batch norm + ReLU), transposed, padded. So
values are matched, not names: an intermediate value is *met* when the reference has the same numbers somewhere, in any
order of axes. An operator whose value is not met may still be right (a padding, a transposed weight product) if all
that follows from it is met; it is then *cleared*. The first operator that is not cleared while everything it reads is
cleared is where the two part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import permutations

import numpy as np

from edgekit.graph import ops
from edgekit.graph.ops import Family
from edgekit.quality.trace import Node, Trace
from edgekit.types import Array

MATCH = 1e-3
"""Two values are the same numbers when they differ by less than this share of their largest magnitude: ten times the
proof's own tolerance, so that rounding that adds up is not taken for a fault."""
_MAX_RANK = 5
_MOVES = ops.names(None, Family.RESHAPE, Family.PAD)


def first_divergence(reference: Iterable[Array], trace: Trace, match: float = MATCH) -> Node | None:
    """The operator of ``trace`` where it parts from the reference; None when every value is met or cleared.

    Args:
        reference: every intermediate value of the reference on the same input.
        trace: the model's operators and values.
        match: share of the largest magnitude within which numbers are the same.
    """
    book = _Book(reference, match)
    met = {name for name, value in trace.values.items() if book.has(value)}
    readers = _readers(trace)
    cleared = _cleared(trace, met, readers)
    for node in trace.nodes:
        measured = [name for name in node.outputs if name in trace.values]
        if any(name not in cleared for name in measured) and all(
            name in cleared or name not in trace.values for name in node.inputs
        ):
            return _past_moves(node, readers)
    return None


def _past_moves(node: Node, readers: Mapping[str, list[Node]]) -> Node:
    """The operator that computes: one that only moves values is not what made them differ."""
    while node.operator in _MOVES:
        after = [reader for name in node.outputs for reader in readers.get(name, ())]
        if not after:
            break
        node = after[0]
    return node


def _readers(trace: Trace) -> dict[str, list[Node]]:
    readers: dict[str, list[Node]] = {}
    for node in trace.nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
    return readers


def _cleared(trace: Trace, met: set[str], readers: Mapping[str, list[Node]]) -> set[str]:
    """Met tensors, and those all of whose readers lead to cleared tensors only."""
    cleared = set(met)
    for node in reversed(trace.nodes):
        for name in node.outputs:
            after = readers.get(name, [])
            if after and all(out in cleared for reader in after for out in reader.outputs):
                cleared.add(name)
    return cleared


class _Book:
    """The reference's values, looked up by what no order of axes changes: count, largest magnitude."""

    def __init__(self, values: Iterable[Array], match: float) -> None:
        self._match = match
        self._by_size: dict[int, list[tuple[float, Array]]] = {}
        for value in values:
            array = np.asarray(value, np.float32)
            if array.size and np.isfinite(array).all():
                self._by_size.setdefault(array.size, []).append((float(np.abs(array).max()), array))

    def has(self, value: Array) -> bool:
        array = np.asarray(value, np.float32)
        if not array.size or not np.isfinite(array).all():
            return False
        top = float(np.abs(array).max())
        allowed = self._match * max(top, 1e-6)
        return any(
            abs(top - other_top) <= allowed and _same_numbers(array, other, allowed)
            for other_top, other in self._by_size.get(array.size, ())
        )


def _same_numbers(value: Array, other: Array, allowed: float) -> bool:
    """Equal as they lie in memory, or after some order of the axes (those of size 1 left out)."""
    if np.abs(value.ravel() - other.ravel()).max() <= allowed:
        return True
    a, b = np.squeeze(value), np.squeeze(other)
    if a.ndim != b.ndim or not 2 <= b.ndim <= _MAX_RANK:
        return False
    for order in permutations(range(b.ndim)):
        if tuple(b.shape[k] for k in order) == a.shape and np.abs(a - b.transpose(order)).max() <= allowed:
            return True
    return False


def describe(node: Node | None, prefix: str = "") -> str | None:
    """The node's label: module names without ``prefix`` (of an adapter) and without those that hold others of them."""
    if node is None:
        return None
    names = dict.fromkeys(name.removeprefix(prefix) for name in node.modules)
    names = dict.fromkeys(name for name in names if name and not prefix.startswith(f"{name}."))
    inner = tuple(name for name in names if not any(other.startswith(f"{name}.") for other in names))
    return replace(node, modules=inner).label
