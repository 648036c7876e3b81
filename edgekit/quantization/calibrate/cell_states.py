"""The cell states of a TFLite file's LSTMs, step by step, for calibration.

The operator keeps its cell state in a variable tensor, of which only the last step can be read after a run. The steps
between are computed here from what went into the operator, with the file's own weights, one batch at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.graph.tflite_editor import NONE, Editor, Graph
from edgekit.types import Array


@dataclass(frozen=True)
class Cells:
    """One UNIDIRECTIONAL_SEQUENCE_LSTM: B batch, T steps, I inputs, H hidden units.

    Attributes:
        name: of the variable tensor with the cell state.
        source: number of the tensor that is read, (T, B, I) where ``time_major``, else (B, T, I).
        w_input: (4 H, I), gates input, forget, cell, output.
        w_state: (4 H, H).
        bias: (4 H).
    """

    name: str
    source: int
    w_input: Array
    w_state: Array
    bias: Array
    time_major: bool

    def run(self, x: Array) -> Array:
        """Cell states from a state of zeros, (T, B, H) float32 (Hochreiter and Schmidhuber 1997, Gers et al. 2000)."""
        gates = x @ self.w_input.T + self.bias
        steps = gates if self.time_major else gates.swapaxes(0, 1)
        hidden = self.w_state.shape[1]
        h = c = np.zeros((steps.shape[1], hidden), np.float32)
        cells = np.empty((len(steps), *c.shape), np.float32)
        for t, step in enumerate(steps):
            i, f, g, o = np.split(step + h @ self.w_state.T, 4, axis=1)
            c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
            h = _sigmoid(o) * np.tanh(c)
            cells[t] = c
        return cells


def cell_states(content: bytes) -> Callable[[Callable[[int], Array]], Mapping[str, Array]]:
    """A function from a reader of the main subgraph's tensors, by number, to cell states by name."""
    graph = Editor(content).main()
    found = [_cells(graph, node) for node in graph.raw.operators if _plain(graph, node)]
    return lambda read: {cells.name: cells.run(read(cells.source)) for cells in found}


def _plain(graph: Graph, node: Any) -> bool:
    """An LSTM with float weights and four gates, without peepholes, projection or layer norm."""
    if graph.kind(node) != "UNIDIRECTIONAL_SEQUENCE_LSTM":
        return False
    inputs = [int(k) for k in node.inputs]
    special = any(k < len(inputs) and inputs[k] != NONE for k in (9, 10, 11, 16, 17, 20, 21, 22, 23))
    return not special and all(k != NONE and graph.data(k) is not None for k in (*inputs[1:9], *inputs[12:16]))


def _cells(graph: Graph, node: Any) -> Cells:
    inputs = [int(k) for k in node.inputs]

    def stacked(first: int) -> Array:
        parts = [graph.data(k) for k in inputs[first : first + 4]]
        return np.concatenate([part for part in parts if part is not None])

    time_major = bool(node.builtinOptions.timeMajor)
    return Cells(graph.name(inputs[19]), inputs[0], stacked(1), stacked(5), stacked(12), time_major)


def _sigmoid(x: Array) -> Array:
    result: Array = 0.5 * np.tanh(0.5 * x) + np.float32(0.5)  # without overflow at either end
    return result
