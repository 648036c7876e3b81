"""A recurrent layer as a WHILE over one step: for GRUs, which TFLite has no operator for, and for given states.

Source: TensorFlow Lite, ``kernels/while.cc``. A loop's variables are the step, the outputs so far, the state, and what
the input gives to each gate, which the body hands on untouched: such a variable is not copied. The outputs are: by
DYNAMIC_UPDATE_SLICE, which writes a step into a new tensor of their full size, and by WHILE itself, each time round.
Over a long sequence that would cost more than the layer, so it is run in blocks: an inner loop over the steps of one
block, an outer loop that writes whole blocks. Blocks end where the sequence ends; the first may reach out in front of
it, into room that is cut off afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from edgekit.graph.tflite_editor import Graph

Array = np.ndarray[Any, Any]
SHORT = 128
"""Steps that are run without blocks, which are not faster there (64 units: 0.17 ms for 100 steps both ways)."""
BLOCK = 32
"""Steps of a block of a sequence of any length; of one that is known, about the root of its length."""
COMPACT = "_compact_step"
"""How the name of the step of a compact loop ends."""


@dataclass(frozen=True)
class _Cell:
    """What a step is made of."""

    kind: str
    weights: list[Array]
    reverse: bool
    of_input: tuple[Array, Array] | None = None
    """Weights and bias of the input, where its product is taken step by step inside of the loop."""


def emit(
    graph: Graph,
    cell: str,
    name: str,
    x: int,
    weights: list[Array],
    state: list[int],
    outputs: list[int],
    *,
    sequence: bool,
    reverse: bool,
    compact: bool = False,
) -> None:
    """The loop for one layer and direction, see :func:`edgekit.converters.recurrent.custom_ops.loop`.

    Args:
        x: (T, B, I).
        weights: of the input, its bias, of the state, for a GRU the bias of the state.
        state, outputs: tensors of ``graph``; no state for zeros; the first output is the sequence (T, B, H) where
            ``sequence``.
        compact: in the form that takes least memory where a loop's variables are copied, as TensorFlow Lite for
            Microcontrollers does: the input goes round, which is smaller than what it gives to the gates, without
            blocks, and the room for the outputs is a constant. For a known number of steps.
    """
    steps, batch, _ = graph.shape(x)
    hidden = weights[2].shape[1]
    if compact:
        step = _Cell(cell, weights[2:], reverse, (weights[0], weights[1]))
        _compact(graph, step, name, x, state, outputs, sequence)
        return
    gates = _gates(graph, name, x, weights[0], weights[1])
    state = state or _zeros(graph, name, x, batch, hidden, len(outputs) - sequence)
    step = _Cell(cell, weights[2:], reverse)
    length = graph.constant(f"{name}/length", steps, "int32") if steps >= 0 else _length(graph, name, gates)
    if sequence and not 0 <= steps <= SHORT:
        block = BLOCK if steps < 0 else max(8, min(64, round(math.sqrt(steps))))
        room = _room(graph, name, gates, hidden, block - 1)
        ends = _blocks(graph, name, step, gates, length, [room, *state], outputs, block)
        begin = graph.constant(f"{name}/begin", [block - 1, 0, 0], "int32")
        graph.operator("SLICE", [ends, begin, _rest(graph, name)], [outputs[0]])
        return
    first, stop = graph.constant(f"{name}/first", 0, "int32"), length
    if reverse:
        one = graph.constant(f"{name}/one", 1, "int32")
        first, stop = graph.made("SUB", [length, one], f"{name}/last", []), graph.constant(f"{name}/stop", -1, "int32")
    room_of = [_room(graph, name, gates, hidden, 0)] if sequence else []
    _steps(graph, name, step, gates, first, stop, None, [*room_of, *state], outputs)


def _compact(
    graph: Graph, cell: _Cell, name: str, x: int, state: list[int], outputs: list[int], sequence: bool
) -> None:
    """The loop with the input's product inside, see ``compact`` of :func:`emit`."""
    steps, batch, _ = graph.shape(x)
    hidden = cell.weights[0].shape[1]
    state = state or _zeros(graph, name, x, batch, hidden, len(outputs) - sequence)
    room = [graph.constant(f"{name}/room", np.zeros((steps, batch, hidden)))] if sequence else []
    first, stop = (steps - 1, -1) if cell.reverse else (0, steps)
    begin, end = (graph.constant(f"{name}/{key}", v, "int32") for key, v in (("first", first), ("stop", stop)))
    _steps(graph, name, cell, x, begin, end, None, [*room, *state], outputs)


def _blocks(
    graph: Graph,
    name: str,
    cell: _Cell,
    gates: int,
    length: int,
    carried: list[int],
    outputs: list[int],
    block: int,
) -> int:
    """The outer loop; its variable is the first place of a block, which stands ``block - 1`` further on in the room.

    Args:
        carried: room for the outputs, state.
        outputs: the state's tensors stand behind the first.

    Returns:
        The room, filled.
    """
    size = graph.constant(f"{name}/block", block, "int32")
    if cell.reverse:
        low, end = (
            graph.made("SUB", [length, size], f"{name}/first_block", []),
            graph.constant(f"{name}/before", -block, "int32"),
        )
    else:
        low, end = _first_block(graph, name, length, size), length
    filled = graph.tensor(f"{name}/filled", graph.shape(carried[0]))
    variables = [low, *carried, gates, end]
    body_number, body = graph.editor.graph(f"{name}_blocks")
    inputs = _inputs(body, graph, variables)
    low_now, room, *state, gates_now, end_now = inputs
    zero, size = body.constant("zero", 0, "int32"), body.constant("block", block, "int32")
    one = body.constant("one", 1, "int32")
    beyond = body.made("ADD", [low_now, size], "beyond", [])
    start = body.made("MAXIMUM", [low_now, zero], "start", [])
    first, stop = start, beyond
    if cell.reverse:
        first, stop = body.made("SUB", [beyond, one], "first", []), body.made("SUB", [start, one], "stop", [])
    _, batch, hidden = body.shape(room)
    some = [body.constant("begin", [0, 0, 0], "int32"), body.constant("block_size", [block, -1, -1], "int32")]
    piece = body.made("SLICE", [room, *some], "piece", [block, batch, hidden])
    results = [body.tensor(f"block_{k}", body.shape(t)) for k, t in enumerate((piece, *state))]
    _steps(body, name, cell, gates_now, first, stop, low_now, [piece, *state], results)
    place = body.made("SUB", [beyond, one], "place", [])
    written = _written(body, room, results[0], place)
    following = body.made("SUB" if cell.reverse else "ADD", [low_now, size], "following", [])
    body.raw.inputs, body.raw.outputs = inputs, [following, written, *results[1:], gates_now, end_now]
    _while(graph, name, variables, [filled, *outputs[1:]], body_number, cell.reverse)
    return filled


def _steps(
    graph: Graph,
    name: str,
    cell: _Cell,
    gates: int,
    first: int,
    stop: int,
    low: int | None,
    carried: list[int],
    outputs: list[int],
) -> None:
    """The loop over single steps, from the place ``first`` until before ``stop``.

    Args:
        low: place that stands first in the outputs; None for 0.
        carried: room for the outputs where the state is not all of it, then the state.
    """
    variables = [first, *carried, gates, *([] if low is None else [low]), stop]
    number, body = graph.editor.graph(f"{name}{COMPACT if cell.of_input else '_step'}")
    inputs = _inputs(body, graph, variables)
    place, *rest, stop_now = inputs
    low_now = None if low is None else rest.pop()
    gates_now = rest.pop()
    room = rest.pop(0) if len(body.shape(rest[0])) == 3 else None
    batch = body.shape(rest[0])[0]
    row = body.made("GATHER", [gates_now, place], "row", [batch, body.shape(gates_now)[2]], axis=0)
    if cell.of_input is not None:
        weights, bias = cell.of_input
        row = _linear(body, row, weights, bias, name="of_input")
    state = CELLS[cell.kind](body, row, cell.weights, rest)
    one = body.constant("one", 1, "int32")
    results = [body.made("SUB" if cell.reverse else "ADD", [place, one], "next", [])]
    if room is not None:
        inside = place if low_now is None else body.made("SUB", [place, low_now], "inside", [])
        sizes = body.constant("one_step", [1, batch, body.shape(room)[2]], "int32")
        update = body.made("RESHAPE", [state[0], sizes], "update", [1, batch, body.shape(room)[2]])
        results.append(_written(body, room, update, inside))
    results += [*state, gates_now, *([] if low_now is None else [low_now]), stop_now]
    body.raw.inputs, body.raw.outputs = inputs, results
    _while(graph, name, variables, outputs, number, cell.reverse)


def _while(graph: Graph, name: str, variables: list[int], outputs: list[int], body: int, down: bool) -> None:
    """A loop whose first variable counts up, or ``down``, to its last; ``outputs`` are those behind the first."""
    number, check = graph.editor.graph(f"{name}_condition")
    inputs = _inputs(check, graph, variables)
    more = check.made("GREATER" if down else "LESS", [inputs[0], inputs[-1]], "more", [], dtype="bool")
    check.raw.inputs, check.raw.outputs = inputs, [more]
    unused = [graph.tensor(f"{name}/left_{k}", graph.shape(t), graph.dtype(t)) for k, t in enumerate(variables)]
    results = [unused[0], *outputs, *unused[1 + len(outputs) :]]
    graph.operator("WHILE", variables, results, condSubgraphIndex=number, bodySubgraphIndex=body)


def _written(graph: Graph, room: int, update: int, place: int) -> int:
    """``room`` (n, B, H) with ``update`` (k, B, H) from the place on."""
    zero = graph.constant("zero", 0, "int32")
    start = graph.made("PACK", [place, zero, zero], "at", [3], valuesCount=3, axis=0)
    return graph.made("DYNAMIC_UPDATE_SLICE", [room, update, start], "outputs", graph.shape(room))


def _gates(graph: Graph, name: str, x: int, weights: Array, bias: Array) -> int:
    """What the input gives to the gates of every step, in one product: (T, B, I) -> (T, B, G * H)."""
    operands = [x, graph.constant(f"{name}/input_weights", weights), graph.constant(f"{name}/input_bias", bias)]
    steps, batch, _ = graph.shape(x)
    shape = [steps, batch, len(weights)]
    return graph.made("FULLY_CONNECTED", operands, f"{name}/gates", shape, version=5, keepNumDims=True)


def _zeros(graph: Graph, name: str, x: int, batch: int, hidden: int, count: int) -> list[int]:
    """A state of zeros, (B, H) each; of the size that the batch has, where it is dynamic."""
    if batch >= 0:
        return [graph.constant(f"{name}/zeros", np.zeros((batch, hidden)))] * count
    shape = graph.made("SHAPE", [x], f"{name}/sizes", [3], dtype="int32", outType=2)  # schema.TensorType.INT32
    width = graph.constant(f"{name}/hidden", hidden, "int32")
    sizes = graph.made("PACK", [_element(graph, name, shape, 1), width], f"{name}/state_shape", [2], valuesCount=2)
    nothing = graph.constant(f"{name}/nothing", 0.0)
    return [graph.made("FILL", [sizes, nothing], f"{name}/zeros", [-1, hidden], dtype="float32")] * count


def _element(graph: Graph, name: str, vector: int, place: int) -> int:
    """One number of a vector of int32."""
    ends = [graph.constant(f"{name}/{k}", [v], "int32") for k, v in (("from", place), ("to", place + 1), ("by", 1))]
    return graph.made("STRIDED_SLICE", [vector, *ends], f"{name}/size_{place}", [], shrinkAxisMask=1)


def _room(graph: Graph, name: str, gates: int, hidden: int, more: int) -> int:
    """A tensor (more + T, B, H) of any content, in which the outputs are collected: a part of the gates."""
    steps, batch, width = graph.shape(gates)
    part = gates
    if width != hidden:
        begin = graph.constant(f"{name}/begin", [0, 0, 0], "int32")
        size = graph.constant(f"{name}/width", [-1, -1, hidden], "int32")
        part = graph.made("SLICE", [gates, begin, size], f"{name}/part", [steps, batch, hidden])
    if not more:
        return part
    padding = graph.constant(f"{name}/padding", [[more, 0], [0, 0], [0, 0]], "int32")
    longer = [-1 if steps < 0 else steps + more, batch, hidden]
    return graph.made("PAD", [part, padding], f"{name}/room", longer)


def _rest(graph: Graph, name: str) -> int:
    """The size of a SLICE that goes to every end."""
    return graph.constant(f"{name}/rest", [-1, -1, -1], "int32")


def _length(graph: Graph, name: str, gates: int) -> int:
    """The number of steps, for sequences of any length."""
    shape = graph.made("SHAPE", [gates], f"{name}/shape", [3], dtype="int32", outType=2)  # schema.TensorType.INT32
    return _element(graph, name, shape, 0)


def _first_block(graph: Graph, name: str, length: int, size: int) -> int:
    """The place of the first block: 0, or before it, so that the last block ends with the sequence."""
    zero = graph.constant(f"{name}/zero", 0, "int32")
    missing = graph.made("SUB", [zero, length], f"{name}/less_length", [])
    missing = graph.made("FLOOR_MOD", [missing, size], f"{name}/missing", [])
    return graph.made("SUB", [zero, missing], f"{name}/first_block", [])


def _inputs(graph: Graph, outer: Graph, variables: list[int]) -> list[int]:
    """Inputs of a loop's graph for variables of the graph that the loop stands in."""
    return [graph.tensor(f"input_{k}", outer.shape(t), outer.dtype(t)) for k, t in enumerate(variables)]


Step = Callable[[Graph, int, list[Array], list[int]], list[int]]
"""Graph, what the input gives to the gates (B, G * H), weights of the state, state (B, H) each -> state."""


def _gru(graph: Graph, row: int, weights: list[Array], state: list[int]) -> list[int]:
    """n = tanh(n_input + r * n_state), h' = n + z * (h - n)."""
    w_state, bias = weights
    h = state[0]
    batch, hidden = graph.shape(h)
    of_state = _linear(graph, h, w_state, bias)
    rz_input, n_input = _split(graph, row, [2 * hidden, hidden], "of_input")
    rz_state, n_state = _split(graph, of_state, [2 * hidden, hidden], "of_state")
    rz = graph.made("ADD", [rz_input, rz_state], "rz_sum", [batch, 2 * hidden])
    rz = graph.made("LOGISTIC", [rz], "rz", [batch, 2 * hidden])
    r, z = _split(graph, rz, [hidden, hidden], "rz")
    inside = graph.made("MUL", [r, n_state], "reset", [batch, hidden])
    inside = graph.made("ADD", [n_input, inside], "n_sum", [batch, hidden])
    n = graph.made("TANH", [inside], "n", [batch, hidden])
    change = graph.made("SUB", [h, n], "h_less_n", [batch, hidden])
    change = graph.made("MUL", [z, change], "kept", [batch, hidden])
    return [graph.made("ADD", [n, change], "h", [batch, hidden])]


def _lstm(graph: Graph, row: int, weights: list[Array], state: list[int]) -> list[int]:
    """c' = f * c + i * g, h' = o * tanh(c'); the gates stand in the order i f o g."""
    h, c = state
    batch, hidden = graph.shape(h)
    total = graph.made("ADD", [row, _linear(graph, h, weights[0])], "sum", [batch, 4 * hidden])
    ifo, g = _split(graph, total, [3 * hidden, hidden], "sum")
    ifo = graph.made("LOGISTIC", [ifo], "ifo", [batch, 3 * hidden])
    i, f, o = _split(graph, ifo, [hidden] * 3, "ifo")
    g = graph.made("TANH", [g], "g", [batch, hidden])
    kept = graph.made("MUL", [f, c], "kept", [batch, hidden])
    new = graph.made("MUL", [i, g], "new", [batch, hidden])
    c = graph.made("ADD", [kept, new], "c", [batch, hidden])
    shown = graph.made("TANH", [c], "shown", [batch, hidden])
    return [graph.made("MUL", [o, shown], "h", [batch, hidden]), c]


def _rnn(graph: Graph, row: int, weights: list[Array], state: list[int], activation: str) -> list[int]:
    """h' = activation(W_in x + W h + b)."""
    batch, hidden = graph.shape(state[0])
    total = graph.made("ADD", [row, _linear(graph, state[0], weights[0])], "sum", [batch, hidden])
    return [graph.made(activation, [total], "h", [batch, hidden])]


def _linear(graph: Graph, x: int, weights: Array, bias: Array | None = None, name: str = "of_state") -> int:
    operands = [x, graph.constant("weights", weights)]
    if bias is not None:
        operands.append(graph.constant("bias", bias))
    return graph.made("FULLY_CONNECTED", operands, name, [graph.shape(x)[0], len(weights)])


def _split(graph: Graph, x: int, sizes: list[int], name: str) -> list[int]:
    batch = graph.shape(x)[0]
    axis = graph.constant("axis", 1, "int32")
    parts = [graph.tensor(f"{name}_{k}", [batch, size]) for k, size in enumerate(sizes)]
    if len(set(sizes)) == 1:
        graph.operator("SPLIT", [axis, x], parts, numSplits=len(sizes))
    else:
        graph.operator(
            "SPLIT_V", [x, graph.constant(f"{name}_sizes", sizes, "int32"), axis], parts, numSplits=len(sizes)
        )
    return parts


CELLS: dict[str, Step] = {
    "gru": _gru,
    "lstm": _lstm,
    "rnn_tanh": partial(_rnn, activation="TANH"),
    "rnn_relu": partial(_rnn, activation="RELU"),
}
