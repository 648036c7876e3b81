"""All layers and directions of a recurrent layer as sequence operators: how they are stacked, and their weights.

:func:`run_fused` and :func:`run_loop` stand in a program in place of ``aten.lstm.input`` and its like, and run while
litert-torch traces it. B: batch, T: steps, H: hidden units, D: directions, L: layers, G: gates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from edgekit.converters.recurrent.custom_ops import gates, states, step


def fused_weights(kind: str, group: Sequence[Tensor]) -> list[Tensor]:
    """Weights for :func:`operators.fused`: the biases of input and state are added."""
    w_input, w_state, *biases = group
    bias = biases[0] + biases[1] if biases else w_input.new_zeros(len(w_input))
    return [w_input, w_state, bias]


def loop_weights(kind: str, group: Sequence[Tensor]) -> list[Tensor]:
    """Weights for :func:`operators.loop`: of the input, its bias, of the state, for a GRU the bias of the state.

    r and z of a GRU add both biases at once; that of n stands inside the product with r (Cho et al. 2014 as cuDNN
    and torch have it: n = tanh(W_in x + b_in + r * (W_hn h + b_hn))). An LSTM's gates i f g o are put in the order
    i f o g, so that one LOGISTIC serves three.
    """
    w_input, w_state, *biases = group
    zeros = w_input.new_zeros(len(w_input))
    b_input, b_state = biases or (zeros, zeros)
    if kind == "gru":
        inside = b_state.clone()
        inside[: -w_state.shape[1]] = 0
        return [w_input, b_input + (b_state - inside), w_state, inside]
    weights = [w_input, b_input + b_state, w_state]
    if kind == "lstm":
        return [torch.cat([i, f, o, g]) for i, f, g, o in (part.chunk(4) for part in weights)]
    return weights


@dataclass(frozen=True, slots=True)
class Stack:
    """What the layers of one recurrent module are.

    Attributes:
        name: of the module in the network.
        kind: ``lstm``, ``gru``, ``rnn_tanh``, ``rnn_relu``.
        sequence: the outputs are wanted, not only the last states.
    """

    name: str
    kind: str
    bidirectional: bool
    batch_first: bool
    sequence: bool

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    def part(self, layer: int, direction: int) -> str:
        """A layer's name in the file, after torch's own names of its weights: ``lstm/l1_reverse``."""
        return f"{self.name}/l{layer}{'_reverse' if direction else ''}"


Run = Callable[[Tensor, Sequence[Tensor], Sequence[Sequence[Tensor]], Stack], tuple[Tensor, ...]]


def _of_a_stack(run: Run) -> Callable[..., tuple[Tensor, ...]]:
    """``run`` with the fields of its stack as keywords: a call in a captured program takes nothing but plain values."""

    @wraps(run)
    def call(
        x: Tensor, given: Sequence[Tensor], weights: Sequence[Sequence[Tensor]], **stack: Any
    ) -> tuple[Tensor, ...]:
        return run(x, given, weights, Stack(**stack))

    return call


@_of_a_stack
def run_fused(
    x: Tensor, given: Sequence[Tensor], weights: Sequence[Sequence[Tensor]], stack: Stack
) -> tuple[Tensor, ...]:
    """All layers from a state of zeros; arguments and results as of :func:`run_loop`."""
    last = []
    directions = stack.directions
    for layer in range(len(weights) // directions):
        outputs = []
        for direction in range(directions):
            own, part = list(weights[layer * directions + direction]), stack.part(layer, direction)
            y, end = torch.ops.edgekit.fused(part, stack.kind, x, own, stack.batch_first, bool(direction))
            outputs.append(y)
            last.append(end)
        x = _beside(outputs)
    stacked = _stacked(last)
    return x, *([stacked] * states(stack.kind)), *last  # nobody reads the cell state of a fused LSTM


@_of_a_stack
def run_loop(
    x: Tensor, given: Sequence[Tensor], weights: Sequence[Sequence[Tensor]], stack: Stack
) -> tuple[Tensor, ...]:
    """All layers from a given state.

    Args:
        given: h, for an LSTM also c, (L * D, B, H) each; nothing for zeros.
        weights: of each layer and direction, as :func:`loop_weights` puts them.
        stack: what the layers are, given as its fields.

    Returns:
        Outputs (some other tensor where none are wanted), h_n, for an LSTM also c_n; then what each layer and
        direction has in those.
    """
    directions = stack.directions
    ends: list[list[Tensor]] = [[] for _ in range(states(stack.kind))]
    x = x.transpose(0, 1) if stack.batch_first else x
    layers = len(weights) // directions
    for layer in range(layers):
        outputs = []
        wanted = stack.sequence or layer + 1 < layers
        for direction in range(directions):
            k = layer * directions + direction
            state, part = [whole[k] for whole in given], stack.part(layer, direction)
            call = torch.ops.edgekit.loop if wanted else torch.ops.edgekit.last
            results = list(call(part, stack.kind, x, list(weights[k]), state, bool(direction)))
            if wanted:
                outputs.append(results.pop(0))
            for end, result in zip(ends, results, strict=True):
                end.append(result)
        if wanted:
            x = _beside(outputs)
    return (
        (x.transpose(0, 1) if stack.batch_first else x),
        *map(_stacked, ends),
        *(part for end in ends for part in end),
    )


@_of_a_stack
def run_step(
    x: Tensor, given: Sequence[Tensor], weights: Sequence[Sequence[Tensor]], stack: Stack
) -> tuple[Tensor, ...]:
    """One step of all layers in plain operators, which need no loop; arguments and results as of :func:`run_loop`."""
    directions = stack.directions
    ends: list[list[Tensor]] = [[] for _ in range(states(stack.kind))]
    row = x.select(1 if stack.batch_first else 0, 0)  # (B, I)
    for layer in range(len(weights) // directions):
        outputs = []
        for k in range(layer * directions, (layer + 1) * directions):
            own = weights[k]
            results = step(stack.kind, gates(row, own), own[2:], [whole[k] for whole in given])
            outputs.append(results[0])
            for end, result in zip(ends, results, strict=True):
                end.append(result)
        row = torch.cat(outputs, 1) if directions > 1 else outputs[0]
    y = row.unsqueeze(1 if stack.batch_first else 0)
    return y, *map(_stacked, ends), *(part for end in ends for part in end)


def _beside(outputs: list[Tensor]) -> Tensor:
    """Outputs of both directions: (..., H) each -> (..., D * H)."""
    return torch.ops.edgekit.join(outputs, 2) if len(outputs) > 1 else outputs[0]


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    """(B, H) each -> (n, B, H)."""
    rows = [part.unsqueeze(0) for part in parts]
    return torch.ops.edgekit.join(rows, 0) if len(rows) > 1 else rows[0]
