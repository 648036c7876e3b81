"""Where the tensors of a file lie in the arena of TensorFlow Lite for Microcontrollers, written into the file.

Its own planner places the largest tensor first and knows nothing of loops: of every variable of a WHILE there are four
copies, before and behind it and in its two subgraphs. The metadata ``OfflineMemoryAllocation`` gives a tensor a fixed
place, around which the planner lays the others and the scratch of its kernels. Two things are planned here:

- in a file without subgraphs every tensor, in an order in which they take less;
- in a file with loops the variables of each, whose copies share one place. They are copied in an order in which that is
  the same value: a variable that a step hands on, or writes into (DYNAMIC_UPDATE_SLICE, whose kernel does so in place).

LiteRT passes over the metadata, so that outputs there are the same to the bit.

Sources: TensorFlow Lite for Microcontrollers, ``docs/memory_management.md``,
``micro/{micro_allocation_info,memory_planner/greedy_memory_planner}.cc``, ``micro/kernels/while.cc``. The interpreter
takes one list for all tensors of all subgraphs, and reads it from its beginning for each of them. It is written so that
reading on from one subgraph to the next gives the same places: see :func:`_arranged`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from edgekit.graph.loop_kernels import UPDATE
from edgekit.graph.tflite_editor import TYPES, Editor, Graph

ALIGNMENT: Final = 16
ONLINE: Final = -1
"""In the place of an offset: the interpreter's planner finds one."""
_LEAST: Final = 256
"""Bytes of a variable whose copies share a place; a place may cost an empty tensor in every subgraph, of 24 bytes."""
_TRIES: Final = 2_000
_EFFORT: Final = 4_000_000
"""Comparisons of two tensors that a search may take: a second."""
_SIZES: Final = {code: np.dtype(name).itemsize for name, code in TYPES.items()}
_VERSION: Final = 1

Tensor = tuple[int, int]
"""Number of a subgraph, and of a tensor in it."""


@dataclass
class _Block:
    """Memory that one tensor, or several in one place, take. ``first``, ``last``: moments of a run."""

    size: int
    first: int
    last: int
    tensors: list[Tensor] = field(default_factory=list)


def with_plan(content: bytes) -> bytes | None:
    """The file ``content`` with a plan by which its tensors take less, as far as tensors alone tell: what kernels want
    besides, the interpreter knows. None where no plan was found that takes less, or where a file cannot be planned."""
    editor = Editor(Editor(content).content())  # without tensors that nothing reads: they would be counted
    lives = _Lives(editor)
    if lives.unknown:
        return None
    blocks = [_Block(*lives.span[one], [one]) for one in lives.span]
    own, _ = _packed(_by_size(blocks), ())
    if len(editor.model.subgraphs) == 1:
        total, placed = _packed(_searched(blocks), ())
    else:
        fixed = [_joined(lives, group) for group in _groups(editor, lives)]
        together = {one for block in fixed for one in block.tensors}
        rest = [block for block in blocks if block.tensors[0] not in together]
        _, placed = _packed(_by_size(fixed), ())
        total, _ = _packed(_by_size(rest), placed)
    if total >= own:
        return None
    planned = {tensor: offset for offset, block in placed for tensor in block.tensors}
    return _arranged(editor, planned, lives)


class _Lives:
    """Size, first and last moment of every tensor that is laid out, as the interpreter counts them.

    Attributes:
        unknown: whether lives or sizes are not known: of a subgraph that two operators run, or of strings.
    """

    def __init__(self, editor: Editor) -> None:
        self.graphs, self.moment, self.unknown = editor.graphs(), 0, False
        self.span: dict[Tensor, tuple[int, int, int]] = {}
        self._first: dict[Tensor, int] = {}
        self._last: dict[Tensor, int] = {}
        self._seen: set[int] = set()
        self._mark(0)
        for one, first in self._first.items():
            size = self.size(one)
            if size:
                self.span[one] = size, first, self._last[one]

    def size(self, one: Tensor) -> int:
        """Bytes, aligned; 0 for a constant, a state, which lies elsewhere, and an empty tensor."""
        number, tensor = one
        graph = self.graphs[number]
        raw = graph.raw.tensors[tensor]
        if raw.isVariable or graph.held(tensor):
            return 0
        count = math.prod(int(size) for size in (() if raw.shape is None else raw.shape))
        self.unknown |= raw.type not in _SIZES
        return -(-count * _SIZES.get(raw.type, 1) // ALIGNMENT) * ALIGNMENT

    def _mark(self, number: int) -> None:
        self.unknown |= number in self._seen
        self._seen.add(number)
        graph = self.graphs[number]
        for tensor in (*graph.raw.inputs, *graph.raw.outputs):
            self._begin(number, tensor)
        for node in graph.raw.operators:
            self.moment += 1
            for tensor in node.outputs:
                self._begin(number, tensor)
            for called in subgraphs_of(node):
                self.moment += 1
                self._mark(called)
            for tensor in (*node.inputs, *node.outputs):
                if tensor >= 0:
                    self._last[number, int(tensor)] = self.moment
        for tensor in graph.raw.outputs:
            self._last[number, int(tensor)] = self.moment

    def _begin(self, number: int, tensor: int) -> None:
        self._first[number, int(tensor)] = self._last[number, int(tensor)] = self.moment


def subgraphs_of(node: Any) -> list[int]:
    """Subgraphs that an operator runs, in their order."""
    names = ("condSubgraphIndex", "bodySubgraphIndex", "thenSubgraphIndex", "elseSubgraphIndex", "initSubgraphIndex")
    return [int(getattr(node.builtinOptions, name)) for name in names if hasattr(node.builtinOptions, name)]


def _by_size(blocks: Sequence[_Block]) -> list[_Block]:
    """As the interpreter's planner takes them: the largest first, of equal ones the last."""
    return sorted(sorted(blocks, key=lambda block: block.tensors, reverse=True), key=lambda block: -block.size)


def _packed(order: Sequence[_Block], given: Sequence[tuple[int, _Block]]) -> tuple[int, list[tuple[int, _Block]]]:
    """Bytes in all, and the offset of each block, placed one after the other in the first gap that is large enough."""
    placed = sorted(given, key=lambda one: one[0])
    for block in order:
        offset = 0
        for start, other in placed:
            if other.first > block.last or block.first > other.last:
                continue
            if start - offset >= block.size:
                break
            offset = max(offset, start + other.size)
        placed.append((offset, block))
        placed.sort(key=lambda one: one[0])
    return max((offset + block.size for offset, block in placed), default=0), placed


def _searched(blocks: Sequence[_Block]) -> list[_Block]:
    """The order in which blocks take least, of some thousand; the same for the same blocks."""
    least = max(
        (sum(block.size for block in blocks if block.first <= at <= block.last) for at in {b.first for b in blocks}),
        default=0,
    )
    best = _by_size(blocks)
    total, _ = _packed(best, ())
    random = np.random.default_rng(0)
    for _ in range(min(_TRIES, _EFFORT // (len(blocks) ** 2 + 1))):
        if total <= least:
            break
        order = list(best)
        first, second = (int(number) for number in random.integers(0, len(order), 2))
        order.insert(first, order.pop(second))
        found, _ = _packed(order, ())
        if found <= total:
            best, total = order, found
    return best


def _joined(lives: _Lives, group: Sequence[Tensor]) -> _Block:
    spans = [lives.span[one] for one in group]
    return _Block(spans[0][0], min(first for _, first, _ in spans), max(last for *_, last in spans), list(group))


def _groups(editor: Editor, lives: _Lives) -> list[list[Tensor]]:
    """Tensors that share a place: the copies of each variable of the loops."""
    leader: dict[Tensor, Tensor] = {}

    def find(one: Tensor) -> Tensor:
        while leader.setdefault(one, one) != one:
            one = leader[one]
        return one

    for number, graph in enumerate(lives.graphs):
        for node in graph.raw.operators:
            if graph.kind(node) == "WHILE":
                for copies in _copies(lives, number, node):
                    for other in copies[1:]:
                        leader[find(other)] = find(copies[0])
    found: dict[Tensor, list[Tensor]] = {}
    for one in leader:
        found.setdefault(find(one), []).append(one)
    return [sorted(group) for group in found.values()]


def _copies(lives: _Lives, number: int, node: Any) -> Iterator[list[Tensor]]:
    """The tensors of each variable of a WHILE that hold the same value whenever both are read."""
    graph = lives.graphs[number]
    check, step = (int(getattr(node.builtinOptions, name)) for name in ("condSubgraphIndex", "bodySubgraphIndex"))
    body = lives.graphs[step]
    before, after = (list(map(int, side)) for side in (body.raw.inputs, body.raw.outputs))
    given = [int(tensor) for tensor in node.inputs]
    for place, (source, result) in enumerate(zip(given, map(int, node.outputs), strict=True)):
        size = lives.size((number, result))
        handed_on = after[place] == before[place]
        elsewhere = any(k == before[place] for other, k in enumerate(after) if other != place)
        if size < _LEAST or elsewhere:
            continue
        tensors = [(number, result), (check, int(lives.graphs[check].raw.inputs[place])), (step, before[place])]
        if not handed_on and _is_written_into(body, before[place], after[place]):
            tensors.append((step, after[place]))
        if handed_on or _is_read_last(graph, node, source):
            outside = number > 0 and source in map(int, graph.raw.inputs)  # it may be wanted in the next step
            tensors += [] if outside or given.count(source) > 1 else [(number, source)]
        yield [one for one in dict.fromkeys(tensors) if lives.size(one) == size and one in lives.span]


def _is_written_into(body: Graph, before: int, after: int) -> bool:
    """Whether a variable comes out of an operator that only writes into it, behind all that reads it."""
    maker = body.makers().get(after)
    if maker is None or body.kind(maker) != UPDATE or int(maker.inputs[0]) != before:
        return False
    readers = [node for node in body.raw.operators if before in map(int, node.inputs)]
    return readers[-1] is maker and [int(k) for k in maker.inputs].count(before) == 1


def _is_read_last(graph: Graph, node: Any, tensor: int) -> bool:
    readers = [one for one in graph.raw.operators if tensor in map(int, one.inputs)]
    return readers[-1] is node and tensor not in map(int, graph.raw.outputs)


def _arranged(editor: Editor, planned: Mapping[Tensor, int], lives: _Lives) -> bytes:
    """The file with its plan, a list of one number a tensor.

    For each subgraph the interpreter reads the list from its beginning. So in each of them the tensors with a place
    come first, all subgraphs alike; one that has no such tensor has there, and wherever else such a number would be
    read, what is never laid out: a constant, or an empty tensor. Read on from one subgraph to the next, as it is
    written down, the list says the same.
    """
    counts = [len(graph.raw.tensors) for graph in lives.graphs]
    if len(counts) == 1:
        places = [planned.get((0, tensor), ONLINE) for tensor in range(counts[0])]
        return _written(editor, [range(counts[0])], places)
    slots = _slots(planned)
    while True:
        counts = [max(count, len(slots)) for count in counts]
        places = [place for count in counts for place in (*slots, *[ONLINE] * (count - len(slots)))]
        orders = [_order(lives, number, planned, places) for number in range(len(counts))]
        sizes = [max(count, len(order)) for count, order in zip(counts, orders, strict=True)]
        if sizes == counts:
            break
        counts = sizes
    padded = [[*order, *[None] * (count - len(order))] for count, order in zip(counts, orders, strict=True)]
    return _written(editor, padded, places)


def _slots(planned: Mapping[Tensor, int]) -> list[int]:
    """Every offset as often as the subgraph with most tensors there has them."""
    most: Counter[int] = Counter()
    for number in {number for number, _ in planned}:
        most |= Counter(offset for (owner, _), offset in planned.items() if owner == number)
    return sorted(most.elements())


def _order(lives: _Lives, number: int, planned: Mapping[Tensor, int], places: Sequence[int]) -> list[int | None]:
    """The tensors of a subgraph in an order in which ``places``, read from its beginning, are theirs."""
    left, order = list(range(len(lives.graphs[number].raw.tensors))), list[int | None]()
    sizes = {tensor: lives.size((number, tensor)) for tensor in left}
    while left:
        place = places[len(order)] if len(order) < len(places) else ONLINE
        fitting = [one for one in left if sizes[one] and planned.get((number, one), ONLINE) == place]
        chosen = next(iter(fitting or [one for one in left if not sizes[one]]), None)
        order.append(chosen)
        if chosen is not None:
            left.remove(chosen)
    return order


def _written(editor: Editor, orders: Sequence[Sequence[int | None]], places: Sequence[int]) -> bytes:
    return editor.content_with_plan(orders, np.array([_VERSION, 0, len(places), *places], np.int32))
