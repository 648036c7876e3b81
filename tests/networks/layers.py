"""Recurrent layers with each of their options, as factories by name: ``lstm_layers``, ``gru_both_ways`` and so on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

KINDS: dict[str, tuple[type[nn.RNNBase], dict[str, Any]]] = {
    "rnn": (nn.RNN, {}),
    "rnn_relu": (nn.RNN, {"nonlinearity": "relu"}),
    "lstm": (nn.LSTM, {}),
    "gru": (nn.GRU, {}),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "batch_first": {"batch_first": True},
    "layers": {"num_layers": 2},
    "both_ways": {"bidirectional": True},
    "layers_both_ways": {"num_layers": 2, "bidirectional": True},
    "no_bias": {"bias": False},
    "projection": {"proj_size": 3},
}
"""``state`` is the plain layer with its first state as an input; a projection is the LSTM's alone."""
NAMES = (*OPTIONS, "state")


class Layer(nn.Module):
    """A recurrent layer that gives its outputs and its last state."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, last = self.layer(x)
        return y, last[0] if isinstance(last, tuple) else last


class Stateful(nn.Module):
    """A recurrent layer whose first state is an input: (1, B, H)."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        return self.layer(x, (state, state) if isinstance(self.layer, nn.LSTM) else state)[0]


def _factory(kind: str, option: str) -> Callable[[], tuple[nn.Module, Any]]:
    make, always = KINDS[kind]

    def made() -> tuple[nn.Module, Any]:
        x = torch.randn(12, 1, 5)  # (T, B, I)
        if option == "state":
            return Stateful(make(5, 8, **always)), (x, torch.randn(1, 1, 8))
        more = OPTIONS[option]
        return Layer(make(5, 8, **always, **more)), x.transpose(0, 1) if more.get("batch_first") else x

    return made


FACTORIES = {
    f"{kind}_{option}": _factory(kind, option)
    for kind in KINDS
    for option in NAMES
    if option != "projection" or kind == "lstm"
}
globals().update(FACTORIES)
