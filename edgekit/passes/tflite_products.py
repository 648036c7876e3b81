"""Hard swish as a sum and a product, which have fast integer kernels, where HARD_SWISH has none.

``hard_swish(x) = x · relu6(x + 3) / 6``. The sixth is folded into the weights that the result reaches through operators
that let a factor pass (means, paddings, products with something else); where it reaches anything else, a product with
a constant remains.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from edgekit.converters.recurrent.flatbuffer import Editor, Graph
from edgekit.passes.calibration import Calibration
from edgekit.passes.histogram import Range
from edgekit.passes.tflite_integers import builtin, name_of

HARD_SWISH = "HARD_SWISH"
FACTOR = 6.0
SUFFIX = "/times_6"
"""Ends the name of a tensor that holds six times what it holds in the parent."""
_ABSORBS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
"""Operators with weights as their second input, which take the factor."""
_PASSES = (
    *("MEAN", "RESHAPE", "TRANSPOSE", "PAD", "MAX_POOL_2D", "AVERAGE_POOL_2D", "SQUEEZE", "EXPAND_DIMS", "SLICE"),
    "STRIDED_SLICE",
)
"""Operators of one computed input through which a factor passes unchanged."""


@dataclass
class Rewritten:
    """What :func:`as_products` changed: old name -> new name of tensors with the factor, ranges of new tensors, and the
    new operators of each HARD_SWISH by its name, as names of their outputs."""

    scaled: dict[str, str] = field(default_factory=dict)
    ranges: dict[str, Range] = field(default_factory=dict)
    parts: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def named(self, names: frozenset[str]) -> frozenset[str]:
        """Operators of the parent, called by their outputs, as they are called in the rewritten graph."""
        return frozenset(self.scaled.get(name, name) for name in names)

    def calibration(self, given: Calibration) -> Calibration:
        """The parent's calibration for the rewritten graph."""
        ranges: dict[str, Range] = {**given.ranges, **self.ranges}
        means = dict(given.means)
        for old, new in self.scaled.items():
            if old in ranges:
                ranges[new] = Range(FACTOR * given.ranges[old].low, FACTOR * given.ranges[old].high)
            if old in means:
                means[new] = tuple(FACTOR * mean for mean in means[old])
        return replace(given, ranges=ranges, means=means)


def with_products(content: bytes, names: frozenset[str]) -> tuple[bytes, Rewritten]:
    """The file with the HARD_SWISH operators called ``names`` rewritten, and what was changed."""
    if not names:
        return content, Rewritten()
    editor = Editor(content)
    done = as_products(Graph(editor, editor.model.subgraphs[0]), names)
    return editor.content(), done


def as_products(graph: Graph, names: frozenset[str]) -> Rewritten:
    """Rewrites the HARD_SWISH operators called ``names`` (of their outputs) in place."""
    done = Rewritten()
    taken = {name_of(graph, k) for k in range(len(graph.raw.tensors))}
    for node in [n for n in graph.raw.operators if builtin(graph, n) == HARD_SWISH]:
        name = name_of(graph, int(node.outputs[0]))
        if name in names:
            _rewrite(graph, node, name, taken, done)
    return done


def _rewrite(graph: Graph, node: Any, name: str, taken: set[str], done: Rewritten) -> None:
    source, result = int(node.inputs[0]), int(node.outputs[0])
    reached = _reached(graph, result)
    shape, operators = graph.shape(source), list[Any]()
    place = graph.raw.operators.index(node)
    graph.insert_at(operators)
    gate = graph.tensor(_unique(f"{name}/relu6", taken), shape)
    three = graph.constant(_unique(f"{name}/three", taken), np.full((1,), 3.0, np.float32))
    graph.operator("ADD", [source, three], [gate], fusedActivationFunction=_relu6())
    done.ranges[name_of(graph, gate)] = Range(0.0, FACTOR)
    if reached is None:
        product = graph.tensor(_unique(f"{name}{SUFFIX}", taken), shape)
        sixth = graph.constant(_unique(f"{name}/sixth", taken), np.full((1,), 1 / FACTOR, np.float32))
        graph.operator("MUL", [source, gate], [product])
        graph.operator("MUL", [product, sixth], [result])
        done.scaled.setdefault(name, name_of(graph, product))
        done.parts[name] = (name_of(graph, gate), name_of(graph, product), name)
    else:
        tensors, absorbers = reached
        graph.operator("MUL", [source, gate], [result])
        for absorber in absorbers:
            _absorb(graph, absorber)
        for tensor in tensors:
            old = name_of(graph, tensor)
            graph.raw.tensors[tensor].name = done.scaled[old] = _unique(f"{old}{SUFFIX}", taken)
        done.parts[name] = (name_of(graph, gate), name_of(graph, result))
    graph.raw.operators[place : place + 1] = operators
    graph.insert_at(graph.raw.operators)


def _reached(graph: Graph, result: int) -> tuple[list[int], list[Any]] | None:
    """The tensors that a factor of ``result`` passes through, and the operators whose weights take it up; None where it
    reaches anything else."""
    tensors, absorbers, waiting = [result], list[Any](), [result]
    while waiting:
        tensor = waiting.pop()
        if tensor in map(int, graph.raw.outputs):
            return None
        for user in graph.raw.operators:
            inputs = [int(k) for k in user.inputs]
            if tensor not in inputs:
                continue
            if _takes_factor(graph, user, inputs, tensor):
                absorbers.append(user)
            elif _lets_through(graph, user, inputs, tensor) and int(user.outputs[0]) not in tensors:
                tensors.append(int(user.outputs[0]))
                waiting.append(int(user.outputs[0]))
            else:
                return None
    return tensors, absorbers


def _takes_factor(graph: Graph, user: Any, inputs: list[int], tensor: int) -> bool:
    weights = inputs[1] if len(inputs) > 1 else -1
    own = builtin(graph, user) in _ABSORBS and inputs[0] == tensor and inputs.count(tensor) == 1
    return own and weights >= 0 and graph.data(weights) is not None


def _lets_through(graph: Graph, user: Any, inputs: list[int], tensor: int) -> bool:
    kind = builtin(graph, user)
    if kind == "MUL":
        return inputs.count(tensor) == 1 and user.builtinOptions.fusedActivationFunction == 0
    plain = getattr(user.builtinOptions, "fusedActivationFunction", 0) == 0
    return kind in _PASSES and inputs[0] == tensor and plain


def _absorb(graph: Graph, node: Any) -> None:
    """Divides the weights of ``node`` by the factor, in a constant of its own where others read them, too."""
    weights = int(node.inputs[1])
    value = graph.data(weights)
    assert value is not None
    buffer = graph.editor.buffer((value.astype(np.float64) / FACTOR).astype(np.float32))
    if graph.users(weights) == 1:
        graph.raw.tensors[weights].buffer = buffer
        return
    own = graph.tensor(f"{name_of(graph, weights)}/{name_of(graph, int(node.outputs[0]))}", value.shape)
    graph.raw.tensors[own].buffer = buffer
    node.inputs = [own if place == 1 else int(k) for place, k in enumerate(node.inputs)]


def _unique(name: str, taken: set[str]) -> str:
    wanted, count = name, 1
    while wanted in taken:
        count += 1
        wanted = f"{name}#{count}"
    taken.add(wanted)
    return wanted


def _relu6() -> int:
    from ai_edge_litert import schema_py_generated as schema

    return int(schema.ActivationFunctionType.RELU6)
