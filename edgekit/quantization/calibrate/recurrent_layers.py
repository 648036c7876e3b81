"""What happens inside of torch's stacked recurrent layers, which give their last layer only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


def inner_states(stack: nn.RNNBase, given: Any, state: Any = None) -> Iterator[tuple[str, Tensor]]:
    """Values inside of an RNN, GRU or LSTM ``stack`` on the input ``given``, for layer 0 (T steps, B batch, H units):

    ``l0`` its outputs, as the stack gives its own; ``l0:state`` its last (B, H); ``l0:gates`` what the input gives to
    the gates (T, B, G H), ``l0:gates:first`` the first of them; ``l0:cell`` an LSTM's cell states (T, B, H). In the
    other direction ``_reverse`` is added.

    Nothing for packed sequences, projections and a state that is given: files with these are calibrated themselves.
    """
    if not isinstance(given, Tensor) or given.ndim != 3 or state is not None or stack.proj_size:
        return
    x = given
    for layer in range(stack.num_layers):
        directions = []
        for suffix in ("", "_reverse")[: 2 if stack.bidirectional else 1]:
            steps = x.transpose(0, 1) if stack.batch_first else x
            steps = steps.flip(0) if suffix else steps
            single = _single(stack, layer, suffix)
            outputs, cells = _run(single, steps)
            gates = _gates(single, steps)
            yield f"l{layer}:state{suffix}", outputs[-1]
            yield f"l{layer}:gates{suffix}", gates
            yield f"l{layer}:gates:first{suffix}", gates[..., : stack.hidden_size]
            if cells is not None:
                yield f"l{layer}:cell{suffix}", cells
            outputs = outputs.flip(0) if suffix else outputs
            directions.append(outputs.transpose(0, 1) if stack.batch_first else outputs)
        x = torch.cat(directions, -1)
        yield f"l{layer}", x


def _single(stack: nn.RNNBase, layer: int, suffix: str) -> nn.RNNBase:
    """One layer in one direction, time first, with the stack's own weights."""
    weight = getattr(stack, f"weight_ih_l{layer}{suffix}")
    options = {"nonlinearity": stack.nonlinearity} if isinstance(stack, nn.RNN) else {}
    single = type(stack)(weight.shape[1], stack.hidden_size, 1, bias=stack.bias, **options)
    single.load_state_dict(
        {name: getattr(stack, name.replace("_l0", f"_l{layer}{suffix}")) for name in single.state_dict()}
    )
    return single.eval()


def _gates(layer: nn.RNNBase, x: Tensor) -> Tensor:
    """Weights of the input and both biases; a GRU's bias of the state at n stands inside of its reset gate."""
    named = dict(layer.named_parameters())
    gates = x @ named["weight_ih_l0"].T
    if not layer.bias:
        return gates
    inner, both = named["bias_ih_l0"], named["bias_ih_l0"] + named["bias_hh_l0"]
    if isinstance(layer, nn.GRU):
        new = 2 * layer.hidden_size
        both = torch.cat([both[:new], inner[new:]])
    return gates + both


def _run(layer: nn.RNNBase, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """(T, B, I) -> outputs (T, B, H), and the cell states of an LSTM (T, B, H), one step at a time."""
    if not isinstance(layer, nn.LSTM):
        return layer(x)[0], None
    outputs, cells, state = [], [], None
    for step in x:
        output, state = layer(step[None], state)
        outputs.append(output)
        cells.append(state[1])
    return torch.cat(outputs), torch.cat(cells)
