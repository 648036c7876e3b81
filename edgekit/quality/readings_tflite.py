"""Readings of a TFLite file quantized by edgekit, by the scales of its tensors. See :mod:`edgekit.quality.readings`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from edgekit.graph import ops
from edgekit.graph.ops import Family
from edgekit.graph.tflite import kind_of, text
from edgekit.graph.tflite_editor import NONE, Editor, Graph, alone
from edgekit.quality.readings import Constant, Loop, Operator, Reading, Steps, given_key, hybrid_inputs, switch
from edgekit.types import Array, Feed, Format

_CONVERSIONS = frozenset(("QUANTIZE", "DEQUANTIZE"))
_SUFFIXES = ("", "_quantized", "_int8")
"""What may stand behind the name of a tensor whose real values nothing reads any more."""
_LOOPS = (*ops.names(Format.TFLITE, Family.LOOP, Family.BRANCH), *ops.layers(Format.TFLITE, Family.RECURRENT))
_BIASED = {op.name: op.bias for op in ops.of(Format.TFLITE) if op.bias is not None}
"""Operator -> its input that is added to each channel."""
_DTYPES = {0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 7: "int16", 9: "int8"}
_INT4 = 17
_ACTIVATIONS = ("int8", "uint8", "int16")


class TflitePair:
    """A prepared float file and the file quantized from it; see :class:`edgekit.quality.readings.Pair`.

    Args:
        parent, made: their bytes.
    """

    suffix = "tflite"

    def __init__(self, parent: bytes, made: bytes) -> None:
        self._parent, self._made = parent, made
        self._sides = [_Side(Editor(content), 0) for content in (parent, made)]
        mine, theirs = self._sides
        readings: list[Reading] = []
        constants: list[Constant] = []
        operators = []
        for number, op in enumerate(mine.raw.operators):
            partner = theirs.partner(mine, op)
            operators.append(_operator(mine, theirs, op, partner))
            if partner is not None:
                for place, tensor, other in _places(op, partner):
                    constants += _constant(mine, theirs, (number, place, tensor, other), 0)
                    if mine.flows(tensor) and theirs.flows(other):
                        readings.append(Reading(number, place, key(tensor), key(other), theirs.steps(other)))
        self.operators: Sequence[Operator] = operators
        self.readings: Sequence[Reading] = readings
        self.constants: Sequence[Constant] = [*constants, *_inner_constants(*map(Editor, (parent, made)))]
        names = mine.result_names()
        pairs = zip(names, mine.raw.outputs, theirs.raw.outputs, strict=True)
        self.results = {name: (key(int(a)), key(int(b)), theirs.steps(int(b))) for name, a, b in pairs}

    @property
    def loops(self) -> Sequence[Loop]:
        mine, theirs = self._sides
        both = ((op, theirs.partner(mine, op)) for op in mine.raw.operators if mine.kind(op) == "WHILE")
        found = (self._loop(op, partner) for op, partner in both if partner is not None)
        return tuple(loop for loop in found if loop is not None)

    def _loop(self, op: Any, partner: Any) -> Loop | None:
        """A WHILE of both files; None for one with variables that are real in the file."""
        side, made = self._sides[1], self._made
        step = alone(made, partner.builtinOptions.bodySubgraphIndex)
        names = _Side(Editor(step), 0).input_names()
        if any(side.raw.tensors[tensor].type == 0 for tensor in partner.inputs):
            return None
        start: dict[str, str | Array] = {}
        for name, tensor in zip(names, partner.inputs, strict=True):
            held = side.real(tensor)
            start[name] = key(tensor) if held is None else held[0]
        pair = TflitePair(alone(self._parent, op.builtinOptions.bodySubgraphIndex), step)
        return Loop(pair, step, alone(made, partner.builtinOptions.condSubgraphIndex), start)

    def shown(self) -> bytes:
        side = _Side(Editor(self._made), 0)
        begun = (start for loop in self.loops for start in loop.start.values() if isinstance(start, str))
        wanted = [int(other[1:]) for other in (*(reading.other for reading in self.readings), *begun)]
        return side.with_outputs(wanted)

    def shown_feed(self, feed: Feed) -> dict[str, Array]:
        return dict(zip(map(key, map(int, self._sides[1].raw.inputs)), self._in_order(feed), strict=True))

    def cut(self, given: Mapping[str, Array], *, own_constants: bool = False) -> bytes:
        editor = Editor(self._parent)
        side = _Side(editor, 0)
        graph, operators = side.graph, list(side.raw.operators)
        made = {other: graph.tensor(given_key(other), value.shape) for other, value in given.items()}
        for reading in self.readings:
            if reading.other in made:
                operators[reading.operator].inputs[reading.place] = made[reading.other]
        for number, constant in enumerate(() if own_constants else self.constants):
            own = side if not constant.graph else _Side(editor, constant.graph)
            tensor = own.graph.tensor(f"held/{number}", constant.found.shape)
            own.raw.tensors[tensor].buffer = editor.buffer(constant.found.astype(np.float32))
            list(own.raw.operators)[constant.operator].inputs[constant.place] = tensor
        side.raw.inputs = [*map(int, side.raw.inputs), *made.values()]
        written = [int(k) for op in operators for k in op.outputs]
        wanted = {int(reading.tensor[1:]) for reading in self.readings}
        wanted |= {int(self.operators[c.operator].outputs[0][1:]) for c in self.constants if c.bias}
        return side.with_outputs([k for k in written if k in wanted], keep=set(made.values()))

    def cut_feed(self, feed: Feed, given: Mapping[str, Array]) -> dict[str, Array]:
        own = dict(zip(map(key, map(int, self._sides[0].raw.inputs)), self._in_order(feed), strict=True))
        return own | {given_key(other): value for other, value in given.items()}

    def simulated(self, steps: Mapping[int, Steps]) -> bytes:
        editor = Editor(self._parent)
        sides = {0: _Side(editor, 0)}
        graph, operators = sides[0].graph, list(sides[0].raw.operators)
        before: list[list[Any]] = [[] for _ in operators]
        switches: list[int] = []

        def switched(operator: int, place: int, on: str, rounded: int) -> None:
            op = operators[operator]
            tensor = op.inputs[place]
            switches.append(graph.tensor(on, [1], "bool"))
            made = graph.tensor(f"{on}/read", graph.shape(tensor))
            graph.operator("SELECT_V2", [switches[-1], rounded, tensor], [made])
            op.inputs[place] = made

        for number, own in steps.items():
            reading, on = self.readings[number], switch("reading", number)
            graph.insert_at(before[reading.operator])
            tensor = operators[reading.operator].inputs[reading.place]
            for kind, value in (
                ("MUL", 1 / own.step), ("ROUND", None), ("MUL", own.step), ("MINIMUM", own.high), ("MAXIMUM", own.low),
            ):  # fmt: skip
                operands = [] if value is None else [graph.constant(f"{on}/{kind}", [value])]
                made = graph.tensor(f"{on}/{kind}/made", graph.shape(tensor))
                graph.operator(kind, [tensor, *operands], [made])
                tensor = made
            switched(reading.operator, reading.place, on, tensor)
        for number, constant in enumerate(self.constants):
            if not constant.graph:
                graph.insert_at(before[constant.operator])
                held = graph.tensor(f"held/{number}", constant.found.shape)
                graph.raw.tensors[held].buffer = editor.buffer(constant.found.astype(np.float32))
                switched(constant.operator, constant.place, switch("constant", number), held)
        sides[0].raw.operators = [op for number, own in enumerate(operators) for op in (*before[number], own)]
        sides[0].raw.inputs = [*map(int, sides[0].raw.inputs), *switches]
        return sides[0].with_outputs([], keep=set(switches))

    def rounded_while_running(self) -> frozenset[str]:
        return hybrid_inputs(self, self._float_inputs())

    def channels(self, values: Array) -> Array:
        return values.reshape(-1, values.shape[-1])

    def _float_inputs(self) -> Iterator[str]:
        side = self._sides[0]
        return (key(int(k)) for k in side.raw.inputs if side.raw.tensors[int(k)].type == 0)

    def _in_order(self, feed: Feed) -> list[Array]:
        """Arrays in the order of the graph's inputs; by position where a card names what the file leaves nameless."""
        named = self._sides[0].input_names()
        if set(named) != set(feed):
            named = dict(zip(feed, named.values(), strict=True))
        by_tensor = {tensor: feed[name] for name, tensor in named.items()}
        return [by_tensor[int(k)] for k in self._sides[0].raw.inputs]


class _Side:
    """One of the two files, read: who writes what, and what its tensors stand for."""

    def __init__(self, editor: Editor, number: int) -> None:
        self.editor, self.raw = editor, editor.model.subgraphs[number]
        self.graph = Graph(editor, self.raw)
        for op in self.raw.operators:
            op.inputs, op.outputs = [[int(k) for k in side] for side in (op.inputs, op.outputs)]
        self.maker = self.graph.makers()
        self._named = {self.name(k): k for k in range(len(self.raw.tensors))}

    def name(self, tensor: int) -> str:
        return self.graph.name(tensor)

    def kind(self, op: Any) -> str:
        return kind_of(self.editor.model, op)

    def partner(self, parent: _Side, op: Any) -> Any | None:
        """The operator here that computes what ``op`` of the parent does: of its kind, behind a tensor of its name."""
        for suffix in _SUFFIXES:
            tensor = self._named.get(parent.name(op.outputs[0]) + suffix)
            found = None if tensor is None else self.maker.get(tensor)
            while found is not None and self.kind(found) in _CONVERSIONS:
                found = self.maker.get(found.inputs[0])
            if found is not None and self.kind(found) == parent.kind(op):
                return found
        return None

    def flows(self, tensor: int) -> bool:
        """Whether a tensor is computed or given, of numbers that stand for reals."""
        raw = self.raw.tensors[tensor]
        integers = _DTYPES.get(raw.type) in _ACTIVATIONS and self._scale(tensor) is not None
        return (raw.type == 0 or integers) and not raw.isVariable and not self.held(tensor)

    def held(self, tensor: int) -> bool:
        """Whether a tensor is a constant, or one turned into reals."""
        maker = self.maker.get(tensor)
        if maker is not None:
            return self.kind(maker) == "DEQUANTIZE" and self.held(maker.inputs[0])
        return self.graph.held(tensor)

    def steps(self, tensor: int) -> Steps | None:
        """What the integers say that a tensor is made of, all conversions on the way; None for a real one."""
        found: Steps | None = None
        while True:
            scale, raw = self._scale(tensor), self.raw.tensors[tensor]
            if scale is not None and _DTYPES.get(raw.type) in _ACTIVATIONS:
                found = Steps.of(scale, int(raw.quantization.zeroPoint[0]), _DTYPES[raw.type]).joined(found)
            maker = self.maker.get(tensor)
            if maker is None or self.kind(maker) not in _CONVERSIONS:
                return found
            tensor = maker.inputs[0]

    def real(self, tensor: int) -> tuple[Array, Array] | None:
        """Real values of a constant, one behind a DEQUANTIZE, too, and how far rounding may have moved them; None for a
        tensor that is computed."""
        if not self.held(tensor):
            return None
        if tensor in self.maker:
            return self.real(self.maker[tensor].inputs[0])
        raw = self.raw.tensors[tensor]
        content = np.asarray(self.editor.model.buffers[raw.buffer].data, np.uint8)
        shape = tuple(self.graph.shape(tensor))
        if raw.type == _INT4:
            halves = np.stack([content & 15, content >> 4], -1).reshape(-1)[: int(np.prod(shape))]
            values = ((halves.astype(np.int8) ^ 8) - 8).reshape(shape)
        elif raw.type in _DTYPES:
            values = np.frombuffer(content.tobytes(), _DTYPES[raw.type]).reshape(shape)
        else:
            return None
        return _in_real(values, raw.quantization)

    def with_outputs(self, wanted: Sequence[int], keep: set[int] | frozenset[int] = frozenset()) -> bytes:
        """The file with more outputs, everything in its main graph under :func:`key`, ``keep`` under its own name."""
        there = [int(k) for k in self.raw.outputs]
        given = {int(k) for k in self.raw.inputs}
        self.raw.outputs = list(dict.fromkeys([*there, *(k for k in wanted if k not in given)]))
        for number, tensor in enumerate(self.raw.tensors):
            if number not in keep:
                tensor.name = key(number)
        model = self.editor.model
        model.signatureDefs, model.metadata, model.metadataBuffer = [], [], None
        return self.editor.content()

    def input_names(self) -> dict[str, int]:
        """Name as a user sees it -> tensor."""
        entries = self._signature("inputs")
        return entries or {self.name(k): int(k) for k in self.raw.inputs}

    def result_names(self) -> list[str]:
        """The outputs, as a user sees them."""
        left: dict[int, list[str]] = {}  # a tensor may be given twice, under two names
        for name, tensor in self._signature("outputs").items():
            left.setdefault(tensor, []).append(name)
        tensors = [int(k) for k in self.raw.outputs]
        return [left[k].pop() if left.get(k) else f"{self.name(k)}:{place}" for place, k in enumerate(tensors)]

    def _signature(self, side: str) -> dict[str, int]:
        first = (self.editor.model.signatureDefs or [None])[0]
        return {} if first is None else {text(e.name): int(e.tensorIndex) for e in getattr(first, side) or ()}

    def _scale(self, tensor: int) -> float | None:
        how = self.raw.tensors[tensor].quantization
        return None if how is None or how.scale is None or len(how.scale) != 1 else float(how.scale[0])


def key(tensor: int) -> str:
    """What a tensor is called in the models that are run."""
    return f"t{tensor}"


def _places(op: Any, partner: Any) -> Iterator[tuple[int, int, int]]:
    """(place, tensor of the parent, tensor of the file)"""
    for place, (tensor, other) in enumerate(zip(op.inputs, partner.inputs, strict=False)):
        if tensor != NONE and other != NONE:
            yield place, tensor, other


def _operator(mine: _Side, theirs: _Side, op: Any, partner: Any | None) -> Operator:
    kind, inexact, integers = mine.kind(op), "", False
    if partner is not None:
        held = [k for k in partner.inputs if k != NONE and _direct_integers(theirs, k)]
        real = any(theirs.raw.tensors[k].type == 0 for k in partner.outputs)
        whole = any(theirs.steps(k) for k in (*partner.inputs, *partner.outputs) if k != NONE)
        integers = whole or bool(held)
        if kind in _LOOPS:
            inexact = "loop" if integers or kind in ("WHILE", "IF") else ""
        elif held and real:
            inexact = "hybrid"
    return Operator(kind, mine.name(op.outputs[0]), tuple(map(key, op.outputs)), inexact, integers)


def _direct_integers(side: _Side, tensor: int) -> bool:
    """Whether an operator reads a constant of integers as it is."""
    how = side.raw.tensors[tensor].quantization
    scaled = how is not None and how.scale is not None and len(how.scale) > 0
    return tensor not in side.maker and scaled and side.held(tensor)


def _constant(mine: _Side, theirs: _Side, at: tuple[int, int, int, int], graph: int) -> Iterator[Constant]:
    """The constant that stands in place of one of the parent's, where that is real."""
    number, place, tensor, other = at
    if mine.raw.tensors[tensor].type != 0:
        return
    wanted, found = mine.real(tensor), theirs.real(other)
    if wanted is not None and found is not None:
        kind = mine.kind(list(mine.raw.operators)[number])
        shape = wanted[0].shape
        values = found[0].reshape(shape)
        allowed = np.broadcast_to(found[1], found[0].shape).reshape(shape)
        bias = _BIASED.get(kind) == place and not graph
        yield Constant(number, place, mine.name(tensor), wanted[0], values, allowed, bias, graph)


def _inner_constants(parent: Editor, made: Editor) -> Iterator[Constant]:
    """Those of loops and branches, whose operators have the names that preparing gave them."""
    for graph in range(1, min(len(parent.model.subgraphs), len(made.model.subgraphs))):
        mine, theirs = _Side(parent, graph), _Side(made, graph)
        for number, op in enumerate(mine.raw.operators):
            partner = theirs.partner(mine, op)
            for place, tensor, other in () if partner is None else _places(op, partner):
                yield from _constant(mine, theirs, (number, place, tensor, other), graph)


def _in_real(values: Array, how: Any) -> tuple[Array, Array]:
    if values.dtype == np.float16:
        return values.astype(np.float32), np.spacing(np.abs(values)).astype(np.float32) / 2
    scaled = how is not None and how.scale is not None and len(how.scale) > 0
    if values.dtype.kind == "f" or not scaled:
        return values, np.zeros((), np.float32)
    shape = [1] * values.ndim
    if len(how.scale) > 1:
        shape[int(how.quantizedDimension)] = -1
    step = np.asarray(how.scale, np.float32).reshape(shape if values.ndim else ())
    given = np.zeros(1) if how.zeroPoint is None or not len(how.zeroPoint) else np.asarray(how.zeroPoint, np.float64)
    zero = given.reshape(shape if values.ndim else ())
    return ((values.astype(np.float64) - zero) * step).astype(np.float32), step / 2
