"""Fused LSTM and RNN layers of a TFLite file that start every call from zeros, though their state outlives a call.

TFLite's sequence operators keep their state in variable tensors, which nothing puts back between two calls unless the
app calls ``reset_all_variables()``. A stateless layer takes the steps of
:mod:`edgekit.quantization.tflite.state_reset` in front of its first one, and drops their outputs. With ``k`` steps and
``n`` inputs of them::

    x (B, T, I) -> PAD (B, k + T, I) ─┐
    rows (B, k, n) -> PAD (B, k + T, n) -> CONCATENATION (B, k + T, I + n) -> the operator -> SLICE (B, T, H)

A layer behind another one reads what that gives without the SLICE. Where the length is open, the inputs are padded
first, and the steps joined to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import GateError
from edgekit.flatbuffer_reader import keeps_variables, without_prefix
from edgekit.graph.tflite_editor import NONE, Editor, Graph
from edgekit.quality.state import rule
from edgekit.quantization.tflite.integers import (
    Scale,
    constant,
    constant_by_row,
    half,
    made,
    scale_of,
    steps_of,
)
from edgekit.quantization.tflite.state_reset import (
    BEYOND,
    SHUT,
    Reset,
    Weights,
    cancelled,
    cancelling,
    shut,
    shut_integers,
)
from edgekit.types import Array

LSTM, RNN = "UNIDIRECTIONAL_SEQUENCE_LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN"
MOST_COST = 1.3
"""Multiply-adds that integer layers may take, of what they take with their state kept."""
_WIDTH = 4
"""Floats that a kernel multiplies at once: a matrix with rows of another length takes longer than a wider one."""
_GATES, _CELL, _H, _C = 4, 2, 18, 19
"""Of an LSTM (``kernels/lstm_shared.h``): gates, the one without a sigmoid, which may stay open, places of the states.
Weights of the input stand from 1 on, of the state from 5, biases from 12."""
_SPECIAL = (*range(9, 12), 16, 17, *range(20, 24))
"""Peepholes, projection, layer norm."""
_TANH, _RELU = 4, 1  # schema.ActivationFunctionType
_MARK = "/state_reset"


def stateless(content: bytes) -> bytes:
    """The TFLite file ``content`` with every layer that keeps its state between calls made stateless.

    A file without such layers is returned as it is.

    Raises:
        GateError: a layer cannot be made so, or integer ones would take more than :data:`MOST_COST`.
    """
    if not keeps_variables(content):
        return content
    editor = Editor(content)
    edits = _planned(editor)
    why = _too_much(edits)
    if why:
        raise GateError(
            f"no LSTM layer of integers starts every call from zeros here: {why}. Nothing was published. {_instead()}; "
            "int8-weights and int8-dynamic need no more than one step for it"
        )
    for edit in edits:
        edit.run()
    return editor.content()


def why_not_in_integers(content: bytes) -> str:
    """Why LSTM layers of integers in a file cannot be made stateless; the empty string where they can."""
    return _too_much(_planned(Editor(content))) if keeps_variables(content) else ""


def _planned(editor: Editor) -> list[_Edit]:
    edits = [_Edit(graph) for graph in editor.graphs()]
    for edit in edits:
        edit.plan()
    return edits


def _too_much(edits: list[_Edit]) -> str:
    stuck = ", ".join(edit.stuck for edit in edits if edit.stuck)
    if stuck:
        return f"the weights of the state at {stuck} outweigh the 8 that shuts an integer gate"
    before, after = (sum(sums) for sums in zip(*(edit.integer for edit in edits), strict=True))
    if after <= MOST_COST * before:
        return ""
    return (
        f"it would take {after / before:.2f} times the multiply-adds, {MOST_COST} are allowed: weights of the input "
        "are small beside the 8 that shuts an integer gate, or the sequence is short"
    )


def stateful(content: bytes) -> bytes:
    """The float file that :func:`stateless` made ``content`` of; any other is returned as it is, the same object."""
    if _MARK.encode() not in content:
        return content
    editor = Editor(content)
    undone = [_undo(graph) for graph in editor.graphs()]
    return editor.content() if any(undone) else content


def is_stateless(path: Path) -> bool:
    """Whether :func:`stateless` made the float file at ``path``."""
    content = without_prefix(path.read_bytes())
    return stateful(content) is not content


@dataclass
class _Edit:
    """One subgraph on its way to stateless layers."""

    graph: Graph
    integer: tuple[float, float] = (0.0, 0.0)
    """Multiply-adds of its integer layers before and after."""
    stuck: str = ""
    """An integer layer whose state cannot be shut out."""
    makers: dict[int, Any] = field(default_factory=dict)
    """Tensor -> the DEQUANTIZE that gives it."""
    resets: dict[int, Reset] = field(default_factory=dict)
    """id of an operator -> what it takes more."""
    whole: dict[int, int] = field(default_factory=dict)
    """Outputs of an operator -> the same with those of the added steps, for one behind it that takes as many."""
    padded: dict[tuple[int, int, int, int], int] = field(default_factory=dict)
    """Sequence, axis, zeros before and after -> that."""

    def plan(self) -> None:
        """Finds what each layer takes more; raises GateError for one that cannot be made stateless in any form."""
        nodes = list(self.graph.raw.operators)
        for node in nodes:
            node.inputs = [int(k) for k in node.inputs]
        kept = [node for node in nodes if self._keeps_state(node)]
        self.makers = {int(n.outputs[0]): n for n in nodes if self.graph.kind(n) == "DEQUANTIZE"}
        for node in kept:
            self._require(node)
        back = max((cancelling(self._weights(node, 1, 2, 3)) for node in kept if self._is_tanh(node)), default=0.0)
        self.resets = {id(node): self._reset(node, back or 1.0) for node in kept}

    def run(self) -> None:
        """Rewrites the operators as planned."""
        operators: list[Any] = []
        self.graph.insert_at(operators)
        for node in list(self.graph.raw.operators):
            reset = self.resets.get(id(node))
            if reset is not None:
                self._widen(node, reset)
            operators.append(node)
            if reset is not None:
                self._drop(node, len(reset.rows))
        self.graph.raw.operators = operators
        _drop_unread(self.graph)

    def _keeps_state(self, node: Any) -> bool:
        if any(k != NONE and self.graph.raw.tensors[k].isVariable for k in node.inputs):
            return True
        main = self.graph.raw is self.graph.editor.model.subgraphs[0]
        return main and self.graph.kind(node) == "ASSIGN_VARIABLE"

    def _is_tanh(self, node: Any) -> bool:
        return self.graph.kind(node) == RNN and node.builtinOptions.fusedActivationFunction == _TANH

    def _require(self, node: Any) -> None:
        """Raises GateError for a layer that :meth:`_reset` does not know."""
        kind, inputs, why = self.graph.kind(node), node.inputs, ""
        if kind == LSTM:
            special = any(k < len(inputs) and inputs[k] != NONE for k in _SPECIAL) or NONE in inputs[1:9]
            why = "it has peepholes, a projection, layer norm or coupled gates" if special else ""
        elif kind != RNN or node.builtinOptions.fusedActivationFunction not in (_TANH, _RELU):
            why = "no input of it does that"
        if why:
            name = self.graph.name(node.outputs[0]) if len(node.outputs) else kind
            raise _refused(f"{kind} at {name!r}", why, kind)

    def _reset(self, node: Any, back: float) -> Reset:
        """``back``: value of the inputs that take a layer with tanh back to zeros; one for all, which share them."""
        if self._is_tanh(node):
            return cancelled(1, self._weights(node, 1, 2, 3), back, self._rounding(node.inputs[1]))
        if self.graph.kind(node) == RNN:
            return shut({1: self._weights(node, 1, 2, 3)}, BEYOND)
        gates = {1 + k: self._weights(node, 1 + k, 5 + k, 12 + k) for k in range(_GATES) if k != _CELL}
        taken, given = scale_of(self.graph, node.inputs[0]), scale_of(self.graph, node.inputs[_H])
        if taken is None or given is None:
            found = shut(gates, SHUT, self._reaches(node, gates))
        else:
            in_integers = shut_integers(gates, taken, given, self._step(node.inputs[_C]))
            if in_integers is None:
                self.stuck = self._name(node)
                return Reset({}, np.zeros((1, 1)))
            found = in_integers
            self._count(node, found)
        return Reset({**found.columns, 1 + _CELL: np.zeros_like(found.columns[1])}, found.rows)

    def _reaches(self, node: Any, places: Iterable[int]) -> dict[int, Array]:
        """What the rows of matrices with a scale a row can hold, by the places of these."""
        steps = {place: self._row_steps(node.inputs[place]) for place in places}
        return {place: 127 * found for place, found in steps.items() if found is not None}

    def _row_steps(self, tensor: int) -> Array | None:
        return steps_of(self.graph, int(self.makers[tensor].inputs[0]) if tensor in self.makers else tensor)

    def _count(self, node: Any, reset: Reset) -> None:
        """Adds the multiply-adds of an integer layer, for one unit and one of the batch."""
        shape, units = self.graph.shape(node.inputs[0]), self.graph.shape(node.inputs[_H])[1]
        length, (steps, count) = shape[_time(node)], reset.rows.shape
        longer = 1 if length < 0 else length + steps
        width = shape[2] + units
        before, after = self.integer
        self.integer = before + abs(length) * units * width, after + longer * units * (width + count)

    def _widen(self, node: Any, reset: Reset) -> None:
        """Gives ``node`` the added steps, inputs and weights."""
        graph, x, axis = self.graph, node.inputs[0], _time(node)
        shape, scale, name = graph.shape(x), scale_of(graph, x), self._name(node)
        (steps, count), length = reset.rows.shape, shape[axis]
        more = 0 if scale else -(shape[2] + count) % _WIDTH
        for place, columns in reset.columns.items():
            node.inputs[place] = self._widened(node.inputs[place], np.pad(columns, ((0, 0), (0, more))))
        rows = np.pad(reset.rows, ((0, 0), (shape[2] if length < 0 else 0, more)))
        rows = np.repeat(np.expand_dims(rows, 1 - axis), shape[1 - axis], 1 - axis)
        held = self._constant(f"{name}{_MARK}", rows, scale)
        if length < 0:
            sides, where = [held, self._padded(f"{name}/wide", x, 2, 0, count + more)], axis
        else:
            front = self.whole[x] if x in self.whole else self._padded(f"{name}/long", x, axis, steps, 0)
            sides, where = [front, self._padded(f"{name}/rows", held, axis, 0, length)], 2
        longer = _longer(_longer(shape, axis, steps), 2, count + more)
        node.inputs[0] = self._tensor(f"{name}/x", longer, scale)
        graph.operator("CONCATENATION", sides, [node.inputs[0]], _version(scale), axis=where)

    def _drop(self, node: Any, steps: int) -> None:
        """Gives the readers of ``node`` its outputs without the first ``steps``."""
        graph, axis, y = self.graph, _time(node), int(node.outputs[0])
        scale, shape = scale_of(graph, y), graph.shape(y)
        readers = [one for one in graph.raw.operators if y in map(int, one.inputs)]
        ends = [one for one in readers if _takes_end(graph, one, axis)]
        behind = [one for one in readers if self._takes_all(one, axis, steps)] if scale is None else []
        cut = len(ends) + len(behind) < len(readers) or y in map(int, graph.raw.outputs)
        name = self._name(node)
        whole = self._tensor(f"{name}/whole" if cut else graph.name(y), _longer(shape, axis, steps), scale)
        node.outputs = [whole]
        for one in ends:
            one.inputs = [whole if int(k) == y else int(k) for k in one.inputs]
        if behind:
            self.whole[y] = whole
        if cut:
            begin = [steps if k == axis else 0 for k in range(3)]
            bounds = [graph.constant(f"{name}/{part}", v, "int32") for part, v in (("from", begin), ("size", [-1] * 3))]
            graph.operator("SLICE", [whole, *bounds], [y], _version(scale))

    def _takes_all(self, node: Any, axis: int, steps: int) -> bool:
        """Whether an operator can do with the added steps of the one before it for its own."""
        reset = self.resets.get(id(node))
        if reset is None or len(reset.rows) != steps or _time(node) != axis:
            return False
        return self.graph.shape(node.inputs[0])[axis] >= 0

    def _name(self, node: Any) -> str:
        """What a layer is called, by its state's tensor."""
        name = self.graph.name(node.inputs[_H if len(node.inputs) > _H else 4])
        return name.rpartition("/")[0] or name

    def _padded(self, name: str, tensor: int, axis: int, before: int, after: int) -> int:
        """A sequence with zeros around it."""
        graph, scale, key = self.graph, scale_of(self.graph, tensor), (tensor, axis, before, after)
        if key not in self.padded:
            sides = np.zeros((3, 2), np.int32)
            sides[axis] = before, after
            result = self._tensor(name, _longer(graph.shape(tensor), axis, before + after), scale)
            graph.operator("PAD", [tensor, graph.constant(f"{name}/sides", sides, "int32")], [result], _version(scale))
            self.padded[key] = result
        return self.padded[key]

    def _tensor(self, name: str, shape: list[int], scale: Scale | None) -> int:
        return self.graph.tensor(name, shape) if scale is None else made(self.graph, name, shape, scale)

    def _constant(self, name: str, value: Array, scale: Scale | None) -> int:
        if scale is None:
            return self.graph.constant(name, value)
        return constant(self.graph, name, np.round(value / scale.step) + scale.zero, scale)

    def _step(self, tensor: int) -> float:
        return float(self.graph.raw.tensors[tensor].quantization.scale[0])

    def _weights(self, node: Any, *places: int) -> Weights:
        w, r, b = (self._real(node.inputs[place]) for place in places)
        return w, r, b

    def _real(self, tensor: int) -> Array:
        """What a constant stands for, or a DEQUANTIZE of one."""
        if tensor in self.makers:
            return self._real(int(self.makers[tensor].inputs[0]))
        value = self.graph.values(tensor)
        if value is None:
            raise _refused(f"the layer with the weights {self.graph.name(tensor)!r}", "they are computed in the file")
        steps = steps_of(self.graph, tensor)
        if steps is not None:
            return value * steps[:, None]
        return value.astype(np.float64) * (self._step(tensor) if value.dtype.kind == "i" else 1.0)

    def _rounding(self, tensor: int) -> Callable[[Array], Array]:
        """Numbers -> the nearest that the type of a constant holds."""
        if tensor in self.makers:
            return self._rounding(int(self.makers[tensor].inputs[0]))
        value, scale = self.graph.values(tensor), scale_of(self.graph, tensor)
        assert value is not None  # _real came first
        if scale is not None:
            return lambda numbers: np.clip(np.round(numbers / scale.step), -127, 127) * scale.step
        return lambda numbers: numbers.astype(value.dtype).astype(np.float64)

    def _widened(self, tensor: int, columns: Array) -> int:
        """A constant, or a DEQUANTIZE of one, with more columns."""
        graph, name = self.graph, self.graph.name(tensor)
        if tensor in self.makers:
            maker = self.makers[tensor]
            source = self._widened(int(maker.inputs[0]), columns)
            found = graph.tensor(name, graph.shape(source))
            graph.operator("DEQUANTIZE", [source], [found], graph.editor.model.operatorCodes[maker.opcodeIndex].version)
            return found
        value, scale = graph.values(tensor), scale_of(graph, tensor)
        assert value is not None  # _real came first
        if scale is not None:
            return constant(graph, name, np.concatenate([value, np.round(columns / scale.step)], 1), scale)
        steps = steps_of(graph, tensor)
        if steps is not None:
            return constant_by_row(graph, name, np.concatenate([value, np.round(columns / steps[:, None])], 1), steps)
        wider = np.concatenate([value, columns], 1)
        return half(graph, name, wider) if value.dtype == np.float16 else graph.constant(name, wider)


def _undo(graph: Graph) -> bool:
    """Takes out of a subgraph of floats what :func:`stateless` put in; whether there was any."""
    makers = graph.makers()
    found, cuts = False, list[Any]()
    for node in graph.raw.operators:
        joined = makers.get(int(node.inputs[0])) if graph.kind(node) in (LSTM, RNN) else None
        if joined is None or graph.kind(joined) != "CONCATENATION":
            continue
        first, second = map(int, joined.inputs)
        padded = makers.get(second)
        rows = next((k for k in (first, int(padded.inputs[0]) if padded else first) if _marks(graph, k)), None)
        if rows is None or padded is None:
            continue
        found, axis, steps = True, _time(node), graph.shape(rows)[_time(node)]
        front = padded if rows == first else makers.get(first)
        ours = front is not None and graph.kind(front) == "PAD"  # else the layer before it
        node.inputs = [int(front.inputs[0]) if front is not None and ours else first, *map(int, node.inputs[1:])]
        width = graph.shape(node.inputs[0])[2]
        for place in range(1, 1 + (_GATES if graph.kind(node) == LSTM else 1)):
            value = graph.data(node.inputs[place])
            assert value is not None  # a float file holds them
            node.inputs[place] = graph.constant(graph.name(node.inputs[place]), value[:, :width])
        cuts += _uncut(graph, node, axis, steps)
    graph.raw.operators = [node for node in graph.raw.operators if not any(node is cut for cut in cuts)]
    _drop_unread(graph)
    return found


def _marks(graph: Graph, tensor: int) -> bool:
    return graph.name(tensor).endswith(_MARK) and graph.data(tensor) is not None


def _uncut(graph: Graph, node: Any, axis: int, steps: int) -> list[Any]:
    """Gives ``node`` the output that its readers want; returns the operators that cut the added steps off."""
    whole = int(node.outputs[0])
    readers = [one for one in graph.raw.operators if whole in map(int, one.inputs)]
    cuts = [one for one in readers if graph.kind(one) == "SLICE"]
    y = int(cuts[0].outputs[0]) if cuts else graph.tensor(graph.name(whole), _longer(graph.shape(whole), axis, -steps))
    for one in readers:
        one.inputs = [y if int(k) == whole else int(k) for k in one.inputs]
    node.outputs = [y]
    return cuts


def _refused(what: str, why: str, kind: str = LSTM) -> GateError:
    return GateError(
        f"{what} keeps a state between calls, and cannot be made to start every call from zeros: {why}. Nothing was "
        f"published. {_instead(kind)}"
    )


def _instead(kind: str = LSTM) -> str:
    return f"--stateful keeps the state between calls, and leaves the rest to the app: {rule([kind])}"


def _time(node: Any) -> int:
    """The axis of the steps of a sequence operator."""
    return 0 if node.builtinOptions.timeMajor else 1


def _longer(shape: list[int], axis: int, by: int) -> list[int]:
    return [size + by if k == axis and size >= 0 else size for k, size in enumerate(shape)]


def _version(scale: Scale | None) -> int:
    """Of PAD, CONCATENATION and SLICE: the first of floats, the first of int8."""
    return 1 if scale is None else 2


def _takes_end(graph: Graph, node: Any, axis: int) -> bool:
    """Whether an operator takes the last step alone, wherever the first is."""
    options = node.builtinOptions
    if graph.kind(node) != "STRIDED_SLICE" or options.shrinkAxisMask != 1 << axis or options.beginMask & 1 << axis:
        return False
    begin = graph.values(int(node.inputs[1]))
    return begin is not None and bool(begin[axis] == -1)


def _drop_unread(graph: Graph) -> None:
    """Takes out conversions, steps and inputs that nothing reads any more."""
    kinds = ("DEQUANTIZE", "CONCATENATION", "PAD")
    while True:
        read = {int(k) for node in graph.raw.operators for k in node.inputs} | set(map(int, graph.raw.outputs))
        kept = [n for n in graph.raw.operators if graph.kind(n) not in kinds or int(n.outputs[0]) in read]
        if len(kept) == len(graph.raw.operators):
            return
        graph.raw.operators = kept
