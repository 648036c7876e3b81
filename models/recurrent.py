"""``rnn``, ``lstm``, ``gru``: recurrent layers and one linear layer, for sequences: sounds, series, images row by row.

Elman's network with tanh (1990), the LSTM (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000)
and the GRU (Cho et al. 2014). Nothing in ``forward`` depends on the data or on the length, so every exporter takes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from edgekit.data import Dataset
from edgekit.errors import DataError
from edgekit.models.family import Family, Fitted, Hyperparameters, classifier, input_shape, measure_contract
from edgekit.types import InputSpec, Task, TensorSpec

CELLS: Mapping[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
POOLINGS = ("last", "mean")
QUIET = 0.3
"""Gain of a plain cell's input weights."""


class Recurrent(nn.Module):
    """Recurrent layers, pooling over time, a linear layer; see :func:`recurrent` for the numbers."""

    def __init__(self, layers: nn.RNNBase, outputs: int, pooling: str, residual: int | None) -> None:
        super().__init__()
        self.layers = layers
        self.dropout = nn.Dropout(layers.dropout)
        self.head = nn.Linear(layers.hidden_size * (2 if layers.bidirectional else 1), outputs)
        self.pooling, self.residual = pooling, residual

    def forward(self, sequence: Tensor) -> Tensor:
        """(B, T, features) -> (B, outputs); T may be any length from 1."""
        if self.residual is None:
            return self._read(sequence)
        last = sequence[:, -1:]  # (B, 1, features)
        return self._read(sequence - last) + last[:, 0, self.residual : self.residual + 1]

    def _read(self, sequence: Tensor) -> Tensor:
        states, _ = self.layers(sequence)  # (B, T, H), or (B, T, 2 H)
        result: Tensor = self.head(self.dropout(self._pooled(states)))  # (B, outputs)
        return result

    def _pooled(self, states: Tensor) -> Tensor:
        if self.pooling == "mean":
            return states.mean(1)
        if not self.layers.bidirectional:
            return states[:, -1]
        width = self.layers.hidden_size  # the backward direction has seen everything at the first step
        return torch.cat([states[:, -1, :width], states[:, 0, width:]], 1)


def recurrent(
    cell: str,
    *,
    features: int,
    outputs: int,
    hidden: int = 64,
    layers: int = 2,
    bidirectional: bool = False,
    dropout: float = 0.2,
    pooling: str = "last",
    residual: int | None = None,
) -> Recurrent:
    """A recurrent network for sequences of any length.

    Args:
        cell: ``rnn`` (tanh), ``lstm`` or ``gru``.
        features: numbers a step.
        outputs: classes, or steps of a forecast.
        hidden: width of each layer and direction.
        layers: recurrent layers.
        bidirectional: reads the sequence both ways.
        dropout: between layers and before the last one, in training.
        pooling: ``last``: what each direction says when it has read all; ``mean`` over the steps.
        residual: column that is forecast as a change from its last value; the sequence is then read relative to its
            last step, so that the level it has drifted to does not matter (NLinear; Zeng et al. 2023).

    Raises:
        ValueError: a number below 1, an unknown cell or pooling, dropout outside [0, 1), a residual that is
            not a column.
    """
    if cell not in CELLS or pooling not in POOLINGS:
        raise ValueError(
            f"cell is one of {', '.join(CELLS)} and pooling of {', '.join(POOLINGS)}, got {cell}, {pooling}"
        )
    if min(features, outputs, hidden, layers) < 1 or not 0 <= dropout < 1:
        raise ValueError(
            f"features, outputs, hidden and layers must be 1 or more and dropout in [0, 1), got {features}, {outputs}, "
            f"{hidden}, {layers}, {dropout}"
        )
    if residual is not None and not 0 <= residual < features:
        raise ValueError(f"residual is a column 0 to {features - 1}, got {residual}")
    between = dropout if layers > 1 else 0.0
    stack = CELLS[cell](features, hidden, layers, batch_first=True, dropout=between, bidirectional=bidirectional)
    _initialise(stack)
    model = Recurrent(stack, outputs, pooling, residual)
    model.dropout.p = dropout
    return model


def _initialise(stack: nn.RNNBase) -> None:
    """Orthogonal recurrent weights (Saxe et al. 2014), Glorot's for the inputs, and forget gates that begin open
    (Jozefowicz et al. 2015). Inputs of a plain tanh cell begin small: a saturated one forgets at once."""
    gain = QUIET if isinstance(stack, nn.RNN) else 1.0
    for name, value in stack.named_parameters():
        if name.startswith("weight"):
            for gate in torch.split(value.data, stack.hidden_size):
                if name.startswith("weight_hh"):
                    nn.init.orthogonal_(gate)
                else:
                    nn.init.xavier_uniform_(gate, gain)
        else:
            nn.init.zeros_(value)
            if isinstance(stack, nn.LSTM) and name.startswith("bias_ih"):
                nn.init.ones_(value.data[stack.hidden_size : 2 * stack.hidden_size])


def rnn(*, pooling: str = "mean", **numbers: Any) -> Recurrent:
    """:func:`recurrent` with tanh cells. They forget within a few steps, so that the mean over all is the default."""
    return recurrent("rnn", pooling=pooling, **numbers)


def lstm(**numbers: Any) -> Recurrent:
    """:func:`recurrent` with LSTM cells."""
    return recurrent("lstm", **numbers)


def gru(**numbers: Any) -> Recurrent:
    """:func:`recurrent` with GRU cells."""
    return recurrent("gru", **numbers)


def _fit(data: Dataset) -> Fitted:
    contract = measure_contract(data)
    if data.kind == "series":
        return forecaster(data, contract)
    if data.kind == "image":
        contract = replace(contract, layout="NHW")
    fitted = classifier(data, contract, {"features": input_shape(contract)[-1]})
    builder = dict(fitted.builder)
    builder["outputs"] = builder.pop("classes")
    return replace(fitted, builder=builder)


def forecaster(data: Dataset, contract: InputSpec) -> Fitted:
    """What follows from a series: a forecast of its target in standardised units, as a change from the last value.

    Raises:
        DataError: the target is not among the columns of the input.
    """
    target, horizon = str(data.params["target"]), int(data.params["horizon"])
    if target not in contract.columns:
        raise DataError(
            f"{data.label} forecasts {target!r}, which is not among its columns {', '.join(contract.columns)}"
        )
    column = contract.columns.index(target)
    params = {"target": target, "horizon": horizon, "mean": contract.mean[column], "std": contract.std[column]}
    return Fitted(
        {"features": len(contract.columns), "outputs": horizon, "residual": column},
        contract,
        Task("forecasting", (), "mse", params),
        TensorSpec("series", "float32", input_shape(contract)),
        TensorSpec("forecast", "float32", (1, horizon)),
    )


def _family(name: str, description: str, build: Any, lr: float, epochs: int = 40) -> Family:
    return Family(
        name=name,
        build=build,
        description=description,
        data="fsdd",
        kinds=("audio", "series", "image"),
        fit=_fit,
        options=Hyperparameters(
            epochs=epochs, batch=64, lr=lr, optimizer="adamw", weight_decay=1e-2, smoothing=0.05, average=0.99,
            augment="shift", clip=1.0,
        ),
        special={"series": {"epochs": 6, "lr": lr / 4, "smoothing": 0.0}},
    )  # fmt: skip


RNN = _family("rnn", "plain recurrent network (tanh) for sounds, series, and images row by row", rnn, 3e-3, 80)
LSTM = _family("lstm", "LSTM for sounds, series, and images row by row", lstm, 4e-3)
GRU = replace(
    _family("gru", "GRU for sounds, series, and images row by row", gru, 4e-3),
    further={"live": "of a sound's level only what went before, so that it runs while the sound goes on"},
)
