"""Which operators of a file run on integers: the assignment that takes least time, conversions at its borders included.

An operator has a time with integers and one in float; a tensor that crosses from one side to the other is converted
once, however many operators take it. The cheapest assignment is a minimum cut: integers on the side of the source,
float on the side of the sink (Stone 1977, 10.1109/TSE.1977.233840, assigns the modules of a program to two processors
so).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

INTEGERS, FLOAT = "integer", "float"
WORTH_OF_SIZE = 0.1
"""What having all weights as integers is worth, as a share of the time of the float file. An operator that holds a part
of the weights stays in float only where that saves more than this part of it."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """One operator with its two times, in nanoseconds.

    Attributes:
        name, kind: as :class:`edgekit.quantization.prepared.Operator` has them.
        integer_ns: None where it has no integer kernel on the target, or one that crashes.
        float_ns: None where it can only run on integers.
        weights: its constants in float: name -> bytes.
        reads, writes: tensors that are computed, by name.
    """

    name: str
    kind: str
    integer_ns: float | None
    float_ns: float | None
    weights: Mapping[str, int]
    reads: tuple[str, ...]
    writes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """One operator as two files: with integers (None where the quantizer has none for it) and in float.

    ``signature`` names the work: equal ones are timed once. ``folded``: the runtime makes it a part of its reader,
    whose files hold it; it takes no time of its own.
    """

    name: str
    kind: str
    signature: str
    weights: Mapping[str, int]
    integer: Callable[[], bytes] | None
    float: Callable[[], bytes]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    folded: bool = False


@dataclass(frozen=True, slots=True)
class Conversion:
    """What it takes to convert a tensor, in nanoseconds."""

    quantize_ns: float
    dequantize_ns: float


def choose(
    kernels: Sequence[Kernel], conversions: dict[str, Conversion], inputs: Sequence[str], outputs: Sequence[str]
) -> frozenset[str]:
    """Names of the operators that stay in float.

    Args:
        conversions: of every tensor that ``kernels`` read or write.
        inputs, outputs: tensors of the graph, which are real outside of it.
    """
    import networkx

    graph = networkx.DiGraph()
    graph.add_nodes_from((INTEGERS, FLOAT))
    writer: dict[str, object] = dict.fromkeys(inputs, FLOAT)
    readers: dict[str, list[object]] = {name: [FLOAT] for name in outputs}
    worth = _worth(kernels)
    sharing: dict[str, int] = {}
    for place, kernel in enumerate(kernels):
        size = sum(bytes_ for name, bytes_ in kernel.weights.items() if name not in sharing)
        _edge(graph, INTEGERS, place, _finite(kernel.float_ns) + worth * size)
        for name in kernel.weights:  # whoever shares weights shares a side, else the file would hold them twice
            other = sharing.setdefault(name, place)
            _edge(graph, place, other, math.inf)
            _edge(graph, other, place, math.inf)
        _edge(graph, place, FLOAT, _finite(kernel.integer_ns))
        writer |= dict.fromkeys(kernel.writes, place)
        for tensor in kernel.reads:
            readers.setdefault(tensor, []).append(place)
    for tensor, takers in readers.items():
        if tensor not in writer:  # made by an operator that is not weighed
            continue
        cost, made = conversions[tensor], writer[tensor]
        _edge(graph, made, ("dequantized", tensor), cost.dequantize_ns)
        _edge(graph, ("quantized", tensor), made, cost.quantize_ns)
        for taker in takers:
            _edge(graph, ("dequantized", tensor), taker, math.inf)
            _edge(graph, taker, ("quantized", tensor), math.inf)
    _, (_, floats) = networkx.minimum_cut(graph, INTEGERS, FLOAT)
    return frozenset(kernels[place].name for place in floats if isinstance(place, int))


def _worth(kernels: Sequence[Kernel]) -> float:
    """Nanoseconds that a byte of float weights costs, see :data:`WORTH_OF_SIZE`."""
    time = sum(one.float_ns or 0.0 for one in kernels)
    size = sum({name: bytes_ for one in kernels for name, bytes_ in one.weights.items()}.values())
    return WORTH_OF_SIZE * time / size if size else 0.0


def _finite(time_ns: float | None) -> float:
    return math.inf if time_ns is None else time_ns


def _edge(graph: object, start: object, end: object, capacity: float) -> None:
    """Adds to the capacity from one node to the other; without the attribute it is infinite in networkx."""
    if start == end:
        return
    if capacity == math.inf:
        graph.add_edge(start, end)  # type: ignore[attr-defined]
        graph.edges[start, end].pop("capacity", None)  # type: ignore[attr-defined]
    elif not graph.has_edge(start, end):  # type: ignore[attr-defined]
        graph.add_edge(start, end, capacity=capacity)  # type: ignore[attr-defined]
    elif "capacity" in graph.edges[start, end]:  # type: ignore[attr-defined]
        graph.edges[start, end]["capacity"] += capacity  # type: ignore[attr-defined]
