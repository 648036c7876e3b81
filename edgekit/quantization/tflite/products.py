"""Hard swish as a sum and a product, which have fast integer kernels, where HARD_SWISH has none.

``hard_swish(x) = x · relu6(x + 3) / 6``. The sixth is folded into the weights that the result reaches through operators
that let a factor pass (means, paddings, products with something else); where it reaches anything else, a product with
a constant remains.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from edgekit.graph import ops
from edgekit.graph.ops import Family, Trait
from edgekit.graph.tflite_editor import Editor, Graph
from edgekit.quantization.calibrate.calibration import Calibration
from edgekit.quantization.calibrate.histogram import Range
from edgekit.types import Format

HARD_SWISH = "HARD_SWISH"
FACTOR = 6.0
SUFFIX = "/times_6"
"""Ends the name of a tensor that holds six times what it holds in the parent."""
_ABSORBS = tuple(op.name for op in ops.weighted(Format.TFLITE) if op.layout and op.data == 0)
"""Operators with weights as their second input, which take the factor."""
_PASSES = tuple(
    name
    for name in ops.names(Format.TFLITE, trait=Trait.HOMOGENEOUS)
    if name not in ops.names(Format.TFLITE, Family.ACTIVATION)
)
"""Operators of one computed input through which a factor passes unchanged."""


@dataclass
class Rewritten:
    """What :func:`as_products` changed.

    Attributes:
        scaled: old name -> new name of tensors that hold a multiple of what they hold in the parent.
        factors: old name -> that multiple.
        ranges: of new tensors.
        parts: name of a HARD_SWISH -> the names of the outputs of the operators in its place.
    """

    scaled: dict[str, str] = field(default_factory=dict)
    factors: dict[str, float] = field(default_factory=dict)
    ranges: dict[str, Range] = field(default_factory=dict)
    parts: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def scale(self, old: str, new: str) -> None:
        """Notes that the tensor called ``old``, which may have been scaled before, is called ``new`` now."""
        first = next((name for name, later in self.scaled.items() if later == old), old)
        self.scaled[first] = new
        self.factors[first] = FACTOR * self.factors.get(first, 1.0)

    def named(self, names: frozenset[str]) -> frozenset[str]:
        """Operators of the parent, called by their outputs, as they are called in the rewritten graph."""
        return frozenset(self.scaled.get(name, name) for name in names)

    def calibration(self, given: Calibration) -> Calibration:
        """The parent's calibration for the rewritten graph."""
        ranges: dict[str, Range] = {**given.ranges, **self.ranges}
        means = dict(given.means)
        for old, new in self.scaled.items():
            factor = self.factors[old]
            if old in ranges:
                ranges[new] = Range(factor * given.ranges[old].low, factor * given.ranges[old].high)
            if old in means:
                means[new] = tuple(factor * mean for mean in means[old])
        return replace(given, ranges=ranges, means=means)


def with_products(content: bytes, names: frozenset[str]) -> tuple[bytes, Rewritten]:
    """The file with the HARD_SWISH operators called ``names`` rewritten, and what was changed."""
    if not names:
        return content, Rewritten()
    editor = Editor(content)
    done = as_products(editor.main(), names)
    return editor.content(), done


def as_products(graph: Graph, names: frozenset[str]) -> Rewritten:
    """Rewrites the HARD_SWISH operators called ``names`` (of their outputs) in place."""
    done = Rewritten()
    taken = {graph.name(k) for k in range(len(graph.raw.tensors))}
    nodes = {graph.name(n.outputs[0]): n for n in graph.raw.operators if graph.kind(n) == HARD_SWISH}
    chosen = {name: node for name, node in nodes.items() if name in names}
    folds = _foldable(graph, {name: _reached(graph, int(node.outputs[0])) for name, node in chosen.items()})
    for weights, times in _powers(folds).items():
        value = graph.data(weights)
        assert value is not None
        divided = (value.astype(np.float64) / FACTOR**times).astype(np.float32)
        graph.raw.tensors[weights].buffer = graph.editor.buffer(divided)
    for name, node in chosen.items():
        _rewrite(graph, node, name, folds.get(name), taken, done)
    return done


@dataclass(frozen=True)
class _Fold:
    """Where a factor goes: the tensors it passes through, the weights that take it up with their operator's place."""

    tensors: list[int]
    absorbers: list[tuple[int, int]]


def _foldable(graph: Graph, given: dict[str, _Fold | None]) -> dict[str, _Fold]:
    """Those of the folds that can be made together: all operators that share weights need the same factor."""
    folds = {name: fold for name, fold in given.items() if fold is not None}
    while True:
        times = Counter(absorber for fold in folds.values() for absorber in fold.absorbers)
        wrong = {
            weights for weights, _ in times if len({times[weights, place] for place in _users(graph, weights)}) > 1
        }
        kept = {n: fold for n, fold in folds.items() if not wrong & {weights for weights, _ in fold.absorbers}}
        if len(kept) == len(folds):
            return folds
        folds = kept


def _powers(folds: dict[str, _Fold]) -> dict[int, int]:
    """Weights -> how often the factor goes into them."""
    times = Counter(absorber for fold in folds.values() for absorber in fold.absorbers)
    return {weights: count for (weights, _), count in times.items()}


def _users(graph: Graph, tensor: int) -> list[int]:
    return [place for place, node in enumerate(graph.raw.operators) if tensor in map(int, node.inputs)]


def _rewrite(graph: Graph, node: Any, name: str, fold: _Fold | None, taken: set[str], done: Rewritten) -> None:
    source, result = int(node.inputs[0]), int(node.outputs[0])
    shape, operators = graph.shape(source), list[Any]()
    place = graph.raw.operators.index(node)
    graph.insert_at(operators)
    gate = graph.tensor(_unique(f"{name}/relu6", taken), shape)
    three = graph.constant(_unique(f"{name}/three", taken), np.full((1,), 3.0, np.float32))
    graph.operator("ADD", [source, three], [gate], fusedActivationFunction=_relu6())
    done.ranges[graph.name(gate)] = Range(0.0, FACTOR)
    if fold is None:
        product = graph.tensor(_unique(f"{name}{SUFFIX}", taken), shape)
        sixth = graph.constant(_unique(f"{name}/sixth", taken), np.full((1,), 1 / FACTOR, np.float32))
        graph.operator("MUL", [source, gate], [product])
        graph.operator("MUL", [product, sixth], [result])
        done.scale(name, graph.name(product))
        done.parts[name] = (graph.name(gate), graph.name(product), name)
    else:
        graph.operator("MUL", [source, gate], [result])
        for tensor in fold.tensors:
            old = graph.name(tensor)
            graph.raw.tensors[tensor].name = new = _unique(f"{old}{SUFFIX}", taken)
            done.scale(old, new)
        done.parts[name] = (graph.name(gate), graph.name(result))
    graph.raw.operators[place : place + 1] = operators
    graph.insert_at(graph.raw.operators)


def _reached(graph: Graph, result: int) -> _Fold | None:
    """Where a factor of ``result`` goes; None where it reaches what neither passes it on nor takes it up."""
    fold, waiting = _Fold([result], []), [result]
    while waiting:
        tensor = waiting.pop()
        if tensor in map(int, graph.raw.outputs):
            return None
        for place in _users(graph, tensor):
            user = graph.raw.operators[place]
            inputs = [int(k) for k in user.inputs]
            if _takes_factor(graph, user, inputs, tensor):
                fold.absorbers.append((inputs[1], place))
            elif _lets_through(graph, user, inputs, tensor) and int(user.outputs[0]) not in fold.tensors:
                fold.tensors.append(int(user.outputs[0]))
                waiting.append(int(user.outputs[0]))
            else:
                return None
    return fold


def _takes_factor(graph: Graph, user: Any, inputs: list[int], tensor: int) -> bool:
    weights = inputs[1] if len(inputs) > 1 else -1
    own = graph.kind(user) in _ABSORBS and inputs[0] == tensor and inputs.count(tensor) == 1
    return own and weights >= 0 and graph.data(weights) is not None


def _lets_through(graph: Graph, user: Any, inputs: list[int], tensor: int) -> bool:
    kind = graph.kind(user)
    if kind == "MUL":
        return inputs.count(tensor) == 1 and user.builtinOptions.fusedActivationFunction == 0
    plain = getattr(user.builtinOptions, "fusedActivationFunction", 0) == 0
    return kind in _PASSES and inputs[0] == tensor and plain


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
