"""One step of a cell in TFLite operators: the gates' part of the input and the state give the next state."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from edgekit.graph.tflite_editor import Graph

Array = np.ndarray[Any, Any]
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


CELLS: dict[str, Step] = {
    "gru": _gru,
    "lstm": _lstm,
    "rnn_tanh": partial(_rnn, activation="TANH"),
    "rnn_relu": partial(_rnn, activation="RELU"),
}
