"""A recurrent layer as a WHILE over one step: for GRUs, which TFLite has no operator for, and for given states.

Source: TensorFlow Lite, ``kernels/while.cc``. The loop's variables are the step, the outputs so far, the state, and
what the input gives to each gate, which the body hands on untouched: such a variable is not copied. Outputs are
written into a tensor of the full length by DYNAMIC_UPDATE_SLICE, whose first content is never read.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from edgekit.converters.recurrent.flatbuffer import Graph

Array = np.ndarray[Any, Any]


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
) -> None:
    """The loop for one layer and direction, see :func:`edgekit.converters.recurrent.operators.loop`.

    Args:
        x: (T, B, I).
        weights: of the input, its bias, of the state, for a GRU the bias of the state.
        state, outputs: tensors of ``graph``; no state for zeros; the first output is the sequence (T, B, H) where
            ``sequence``.
    """
    steps, batch, _ = graph.shape(x)
    hidden = weights[2].shape[1]
    gates = _gates(graph, name, x, weights[0], weights[1])
    variables = [graph.constant(f"{name}/first", 0, "int32")]
    if sequence:
        variables.append(_room(graph, name, gates, hidden))
    variables += [*(state or _zeros(graph, name, x, batch, hidden, len(outputs) - sequence)), gates]
    if steps < 0:
        variables.append(_length(graph, name, gates))
    results = [graph.tensor(f"{name}/step", [], "int32"), *outputs]
    results += [
        graph.tensor(f"{name}/left_{k}", graph.shape(t), _dtype(graph, t))
        for k, t in enumerate(variables[len(results) :])
    ]
    shapes = [(graph.shape(t), _dtype(graph, t)) for t in variables]
    condition, check = graph.editor.graph(f"{name}_condition")
    _condition(check, shapes, steps)
    body_number, body = graph.editor.graph(f"{name}_body")
    _body(body, shapes, cell, weights[2:], sequence=sequence, reverse=reverse, steps=steps, batch=batch)
    graph.operator("WHILE", variables, results, condSubgraphIndex=condition, bodySubgraphIndex=body_number)


def _condition(graph: Graph, shapes: list[tuple[list[int], str]], steps: int) -> None:
    inputs = _inputs(graph, shapes)
    length = inputs[-1] if steps < 0 else graph.constant("length", steps, "int32")
    result = graph.made("LESS", [inputs[0], length], "more", [], dtype="bool")
    graph.raw.inputs, graph.raw.outputs = inputs, [result]


def _body(
    graph: Graph,
    shapes: list[tuple[list[int], str]],
    cell: str,
    weights: list[Array],
    *,
    sequence: bool,
    reverse: bool,
    steps: int,
    batch: int,
) -> None:
    inputs = _inputs(graph, shapes)
    step, *rest = inputs
    one = graph.constant("one", 1, "int32")
    last = rest.pop() if steps < 0 else graph.constant("length", steps, "int32")
    gates = rest.pop()
    place = step
    if reverse:
        beyond = graph.made("SUB", [last, step], "steps_left", [])
        place = graph.made("SUB", [beyond, one], "place", [])
    row = graph.made("GATHER", [gates, place], "gates", [batch, graph.shape(gates)[2]], axis=0)
    so_far = rest.pop(0) if sequence else None
    cells = {"gru": _gru, "lstm": _lstm}
    new_state = cells.get(cell, _rnn)(graph, cell, row, weights, rest)
    results = [graph.made("ADD", [step, one], "next", [])]
    if so_far is not None:
        results.append(_written(graph, so_far, new_state[0], place))
    results += [*new_state, gates, *([last] if steps < 0 else [])]
    graph.raw.inputs, graph.raw.outputs = inputs, results


def _gru(graph: Graph, cell: str, row: int, weights: list[Array], state: list[int]) -> list[int]:
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


def _lstm(graph: Graph, cell: str, row: int, weights: list[Array], state: list[int]) -> list[int]:
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


def _rnn(graph: Graph, cell: str, row: int, weights: list[Array], state: list[int]) -> list[int]:
    batch, hidden = graph.shape(state[0])
    total = graph.made("ADD", [row, _linear(graph, state[0], weights[0])], "sum", [batch, hidden])
    return [graph.made("RELU" if cell == "rnn_relu" else "TANH", [total], "h", [batch, hidden])]


def _linear(graph: Graph, x: int, weights: Array, bias: Array | None = None) -> int:
    operands = [x, graph.constant("weights", weights)]
    if bias is not None:
        operands.append(graph.constant("bias", bias))
    return graph.made("FULLY_CONNECTED", operands, "of_state", [graph.shape(x)[0], len(weights)])


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


def _written(graph: Graph, so_far: int, h: int, place: int) -> int:
    """``so_far`` (T, B, H) with ``h`` (B, H) at step ``place``."""
    _, batch, hidden = graph.shape(so_far)
    wanted = graph.constant("one_step", [1, batch, hidden], "int32")
    update = graph.made("RESHAPE", [h, wanted], "update", [1, batch, hidden])
    zero = graph.constant("zero", 0, "int32")
    start = graph.made("PACK", [place, zero, zero], "start", [3], valuesCount=3, axis=0)
    return graph.made("DYNAMIC_UPDATE_SLICE", [so_far, update, start], "outputs", graph.shape(so_far))


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


def _room(graph: Graph, name: str, gates: int, hidden: int) -> int:
    """A tensor (T, B, H) of any content, in which the outputs are collected: a part of the gates."""
    steps, batch, width = graph.shape(gates)
    if width == hidden:
        return gates
    begin = graph.constant(f"{name}/begin", [0, 0, 0], "int32")
    size = graph.constant(f"{name}/size", [-1, -1, hidden], "int32")
    return graph.made("SLICE", [gates, begin, size], f"{name}/room", [steps, batch, hidden])


def _length(graph: Graph, name: str, gates: int) -> int:
    """The number of steps, for sequences of any length."""
    shape = graph.made("SHAPE", [gates], f"{name}/shape", [3], dtype="int32", outType=2)  # schema.TensorType.INT32
    return _element(graph, name, shape, 0)


def _inputs(graph: Graph, shapes: list[tuple[list[int], str]]) -> list[int]:
    return [graph.tensor(f"input_{k}", shape, dtype) for k, (shape, dtype) in enumerate(shapes)]


def _dtype(graph: Graph, tensor: int) -> str:
    return "int32" if graph.raw.tensors[tensor].type == 2 else "float32"
