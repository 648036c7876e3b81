"""Edits of an ONNX model: the order of its nodes, names that nothing in it has, constants that nothing reads."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from heapq import heapify, heappop, heappush
from typing import Any

from edgekit.graph.onnx import graphs, nodes, reads

CONTRIB = "com.microsoft"
"""Domain of onnxruntime's own operators."""


def replace_nodes(graph: Any, made: Iterable[Any]) -> None:
    """Puts the nodes ``made`` in the place of those of ``graph``."""
    made = list(made)  # before the old ones go, of which some may stay
    del graph.node[:]
    graph.node.extend(made)


def drop_unused(model: Any) -> None:
    """Removes constants of the main graph that nothing reads, in no graph of the model."""
    used = reads(model.graph)
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def keep_origins(made: Any, model: Any) -> None:
    """Tells nodes of ``made``, which a converter of onnx made of ``model``, which module they came from: it forgets."""
    origin = {name: node.metadata_props for node in model.graph.node for name in node.output}
    for node in made.graph.node:
        for name in node.output:
            if name in origin and not node.metadata_props:
                node.metadata_props.extend(origin[name])


def allow_contrib(model: Any) -> None:
    """Lets the model hold operators of :data:`CONTRIB`."""
    import onnx

    if not any(entry.domain == CONTRIB for entry in model.opset_import):
        model.opset_import.append(onnx.helper.make_opsetid(CONTRIB, 1))


def sort(graph: Any) -> None:
    """Puts the nodes of ``graph`` behind those that make what they, or graphs inside them, read; else as they are."""
    made = {name: place for place, node in enumerate(graph.node) for name in node.output if name}
    waits: list[set[int]] = []
    for node in graph.node:
        inner = (one for attribute in node.attribute for one in (attribute.g, *attribute.graphs))
        read = {*node.input, *(name for one in inner for name in reads(one))}
        waits.append({made[name] for name in read if name in made})
    behind: list[list[int]] = [[] for _ in waits]
    for place, before in enumerate(waits):
        for other in before:
            behind[other].append(place)
    ready = [place for place, before in enumerate(waits) if not before]
    heapify(ready)
    order = []
    while ready:
        place = heappop(ready)
        order.append(graph.node[place])
        for other in behind[place]:
            waits[other].discard(place)
            if not waits[other]:
                heappush(ready, other)
    replace_nodes(graph, order)


class Names:
    """Gives out names that nothing in a model has, none of ``taken``, and never one twice."""

    def __init__(self, model: Any, taken: Iterable[str] = ()) -> None:
        self._taken = {*taken, *_tensors(model.graph), *(node.name for node in nodes(model.graph))}

    def fresh(self, wanted: str) -> str:
        """``wanted``, or where that is taken, the same with a number behind it."""
        name, count = wanted, 1
        while name in self._taken:
            count += 1
            name = f"{wanted}_{count}"
        self._taken.add(name)
        return name


def rename(graph: Any, names: Mapping[str, str]) -> None:
    """Gives tensors other names in ``graph`` and all graphs inside it."""
    for one in graphs(graph):
        for entry in (*one.initializer, *one.input, *one.output, *one.value_info):
            entry.name = names.get(entry.name, entry.name)
        for tensor in one.sparse_initializer:
            tensor.values.name = names.get(tensor.values.name, tensor.values.name)
        for node in one.node:
            node.input[:] = [names.get(name, name) for name in node.input]
            node.output[:] = [names.get(name, name) for name in node.output]


class Apart:
    """Keeps a model's own names from those that another tool makes by putting letters behind them (``w_scale``).

    Names that begin with another one are replaced before the tool runs; :meth:`put_back` gives them back afterwards,
    and another name to whatever the tool called so.
    """

    def __init__(self, model: Any) -> None:
        known = set(_tensors(model.graph))
        mark = "apart"
        while any(name.startswith(mark) for name in known):
            mark += "_"
        risky = sorted(name for name in known if any(name[:end] in known for end in range(1, len(name))))
        self._token = re.compile(rf"{mark}\.\d+\.")
        self._original = {f"{mark}.{number}.": name for number, name in enumerate(risky)}
        self.names = {name: token for token, name in self._original.items()}
        """Own name -> the name it has while the tool runs."""
        rename(model.graph, self.names)

    def put_back(self, model: Any) -> None:
        """Gives the tensors of ``model``, what the tool made of it, the names they had."""
        names = Names(model, self.names)
        given: dict[str, str] = {}
        for name in _tensors(model.graph):
            token, rest = self._split(name)
            if token and not rest:
                given[name] = self._original[token]
            elif token:
                given[name] = names.fresh(self._original[token] + rest)
            elif name in self.names:
                given[name] = names.fresh(name)
        rename(model.graph, given)
        for node in nodes(model.graph):
            token, rest = self._split(node.name)
            node.name = self._original[token] + rest if token else node.name

    def _split(self, name: str) -> tuple[str, str]:
        """The replaced name that ``name`` begins with, if there is one, and what stands behind it."""
        found = self._token.match(name)
        return (found[0], name[found.end() :]) if found else ("", name)


def _tensors(graph: Any) -> dict[str, None]:
    """Names of the tensors in ``graph`` and all graphs inside it, in order."""
    found: dict[str, None] = {}
    for one in graphs(graph):
        entries = (*one.initializer, *one.input, *one.output, *one.value_info)
        found.update(dict.fromkeys(entry.name for entry in entries))
        found.update(dict.fromkeys(tensor.values.name for tensor in one.sparse_initializer))
        found.update(dict.fromkeys(name for node in one.node for name in (*node.input, *node.output) if name))
    return found
