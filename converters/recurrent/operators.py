"""The sequence operators that a TFLite file can hold: one layer, one direction.

They run in torch too, step by step, which is how a lowering is tested without a file. B: batch, T: steps, I: inputs,
H: hidden units, G: gates of the cell.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


@torch.library.custom_op("edgekit::fused", mutates_args=())
def fused(
    name: str, cell: str, x: Tensor, weights: Sequence[Tensor], batch_first: bool, reverse: bool
) -> tuple[Tensor, Tensor]:
    """A layer from a state of zeros, as TFLite's own sequence operator.

    Args:
        name: the layer's in the network, for the file.
        cell: ``lstm``, ``rnn_tanh`` or ``rnn_relu``.
        x: (B, T, I) batch first, else (T, B, I).
        weights: of the input (G * H, I), of the state (G * H, H), bias (G * H); gates in torch's order i f g o.
        reverse: from the last step to the first.

    Returns:
        h of every step, (B, T, H) or (T, B, H), and h after the last step taken, (B, H).
    """
    if cell == "lstm":
        weights = [torch.cat([i, f, o, g]) for i, f, g, o in (part.chunk(4) for part in weights)]
    w_input, w_state, bias = weights
    steps = x.transpose(0, 1) if batch_first else x
    y, last = _run(cell, gates(steps, [w_input, bias]), [w_state], [], reverse)[:2]
    return (y.transpose(0, 1) if batch_first else y).contiguous(), last


@fused.register_fake
def _(
    name: str, cell: str, x: Tensor, weights: Sequence[Tensor], batch_first: bool, reverse: bool
) -> tuple[Tensor, Tensor]:
    hidden = weights[1].shape[1]
    return x.new_empty((*x.shape[:2], hidden)), x.new_empty((x.shape[0 if batch_first else 1], hidden))


@torch.library.custom_op("edgekit::loop", mutates_args=())
def loop(
    name: str, cell: str, x: Tensor, weights: Sequence[Tensor], state: Sequence[Tensor], reverse: bool
) -> list[Tensor]:
    """A layer as a loop over one step.

    Args:
        name: the layer's in the network, for the file.
        cell: ``lstm``, ``gru``, ``rnn_tanh`` or ``rnn_relu``.
        x: (T, B, I).
        weights: of the input (G * H, I), its bias (G * H), of the state (G * H, H), for a GRU also its bias (G * H),
            of which only n's is not zero. Gates in the order i f o g of an LSTM and r z n of a GRU.
        state: h, for an LSTM also c, (B, H) each; none for zeros.
        reverse: from the last step to the first.

    Returns:
        h of every step (T, B, H), then the last state.
    """
    return _run(cell, gates(x, weights), weights[2:], state, reverse)


@loop.register_fake
def _(
    name: str, cell: str, x: Tensor, weights: Sequence[Tensor], state: Sequence[Tensor], reverse: bool
) -> list[Tensor]:
    hidden = weights[2].shape[1]
    return [x.new_empty((*x.shape[:2], hidden)), *(x.new_empty((x.shape[1], hidden)) for _ in range(states(cell)))]


@torch.library.custom_op("edgekit::last", mutates_args=())
def last(
    name: str, cell: str, x: Tensor, weights: Sequence[Tensor], state: Sequence[Tensor], reverse: bool
) -> list[Tensor]:
    """As :func:`loop`, without the outputs of the steps: the last state only."""
    return _run(cell, gates(x, weights), weights[2:], state, reverse)[1:]


@last.register_fake
def _(
    name: str, cell: str, x: Tensor, weights: Sequence[Tensor], state: Sequence[Tensor], reverse: bool
) -> list[Tensor]:
    return [x.new_empty((x.shape[1], weights[2].shape[1])) for _ in range(states(cell))]


@torch.library.custom_op("edgekit::end", mutates_args=())
def end(x: Tensor, axis: int) -> Tensor:
    """The last of ``x`` along an axis: ``x.select(axis, -1)``."""
    return x.select(axis, -1).clone()


@end.register_fake
def _(x: Tensor, axis: int) -> Tensor:
    return x.new_empty((*x.shape[:axis], *x.shape[axis + 1 :]))


@torch.library.custom_op("edgekit::join", mutates_args=())
def join(parts: Sequence[Tensor], axis: int) -> Tensor:
    """``torch.cat``, which litert-torch writes as zeros where sizes are dynamic."""
    return torch.cat(list(parts), axis).clone()


@join.register_fake
def _(parts: Sequence[Tensor], axis: int) -> Tensor:
    return torch.cat(list(parts), axis)


def states(cell: str) -> int:
    """How many tensors the state of a cell has."""
    return 2 if cell == "lstm" else 1


def gates(x: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """What the input gives to each gate: (T, B, I) -> (T, B, G * H)."""
    return torch.nn.functional.linear(x, weights[0], weights[1])


def _run(cell: str, gates: Tensor, weights: Sequence[Tensor], state: Sequence[Tensor], reverse: bool) -> list[Tensor]:
    now, outputs = list(state), []
    if not now:
        now = [gates.new_zeros(gates.shape[1], weights[0].shape[1])] * states(cell)
    for t in reversed(range(len(gates))) if reverse else range(len(gates)):
        now = step(cell, gates[t], weights, now)
        outputs.append(now[0])
    y = torch.stack(outputs[::-1] if reverse else outputs)
    return [y, *(part.clone() for part in now)]


def step(cell: str, gates: Tensor, weights: Sequence[Tensor], state: list[Tensor]) -> list[Tensor]:
    """One step: (B, G * H), state (B, H) -> state."""
    h = state[0]
    of_state = torch.nn.functional.linear(h, *weights)
    if cell == "gru":
        rz, n_input = gates[:, : -h.shape[1]], gates[:, -h.shape[1] :]
        r, z = torch.sigmoid(rz + of_state[:, : -h.shape[1]]).chunk(2, 1)
        n = torch.tanh(n_input + r * of_state[:, -h.shape[1] :])
        return [n + z * (h - n)]
    if cell == "lstm":
        i, f, o, g = (gates + of_state).chunk(4, 1)
        c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
        return [torch.sigmoid(o) * torch.tanh(c), c]
    return [torch.relu(gates + of_state) if cell == "rnn_relu" else torch.tanh(gates + of_state)]
