"""Networks of one step: against the sequence in torch, and what cannot be one is refused with its reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekit.converters.streaming.one_step import one_step
from edgekit.errors import UnsupportedError
from edgekit.types import Network

NetworkOf = Callable[..., Network]
TOLERANCE = 2e-6
"""Float32 rounding (6e-8 a sum) of values below 1, carried through 6 steps of 2 layers."""


class Tagger(nn.Module):
    """One value a step and one for all, from layers of every kind, time first and batch first."""

    def __init__(self) -> None:
        super().__init__()
        self.inward = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Dropout(0.5))
        self.lstm = nn.LSTM(4, 5, 2, batch_first=True, dropout=0.5)
        self.gru = nn.GRU(5, 4, bias=False)
        self.rnn = nn.RNN(4, 3, nonlinearity="relu", batch_first=True)
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.lstm(self.inward(x))[0]
        z = self.gru(y.transpose(0, 1))[0].transpose(0, 1)
        w, end = self.rnn(z)
        return {"tags": self.head(w), "answer": self.head(end[-1])}


class Loop(nn.Module):
    """A loop of the network's own over cells."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.cell = kind, getattr(nn, kind)(3, 4)
        self.second = nn.GRUCell(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, 3) -> (T, B, 4)"""
        state, h, rows = None, x.new_zeros(x.shape[1], 4), []
        for row in x:
            state = self.cell(row, state)
            h = self.second(state[0] if self.kind == "LSTMCell" else state, h)
            rows.append(h)
        return torch.stack(rows)


class Masked(nn.Module):
    """Two inputs with steps, one without, integers among them, and one layer that is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.gru = nn.Embedding(7, 4), nn.GRU(4, 4, batch_first=True)

    def forward(self, tokens: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
        x = self.words(tokens) * gain[..., None]
        return self.gru(self.gru(x)[0])[0] + bias


class Wrong(nn.Module):
    """A GRU and something that mixes steps."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what
        self.norm = nn.InstanceNorm1d(3)
        self.gru = nn.GRU(3, 4, batch_first=True, bidirectional=what == "both")
        self.start = nn.Parameter(torch.ones(1, 1, 4))
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        if self.what == "norm":
            x = self.norm(x.transpose(1, 2)).transpose(1, 2)
        if self.what == "packed":
            x = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([6]), batch_first=True)
            return self.head(self.gru(x)[1][0])
        y = self.gru(x.flip(1) if self.what == "flip" else x, self.start if self.what == "start" else None)[0]
        if self.what == "mean":
            return self.head(y.mean(1))
        if self.what == "shift":
            return self.head(torch.roll(y, 1, 1))
        return y if self.what == "both" else self.head(y)


def walk(network: Network, feed: dict[str, Any], axes: dict[str, int]) -> list[dict[str, np.ndarray[Any, Any]]]:
    """The outputs after each step, states left out."""
    step = one_step(network)
    assert step.card.streaming is not None
    pairs = step.card.streaming.states
    now = {name: step.example_inputs[name] for name in pairs}
    assert all(not value.any() for value in now.values())
    rows = []
    for t in range(next(iter(feed[name].shape[axis] for name, axis in axes.items()))):
        given = {name: v.take([t], axes[name]) if name in axes else v for name, v in feed.items()}
        with torch.no_grad():
            results = step.module(*(torch.from_numpy(v) for v in {**given, **now}.values()))
        outputs = {spec.name: r.numpy() for spec, r in zip(step.signature.outputs, results, strict=True)}
        now = {name: outputs.pop(after) for name, after in pairs.items()}
        rows.append(outputs)
    return rows


def test_steps_make_the_sequence(network_of: NetworkOf) -> None:
    torch.manual_seed(0)
    network = network_of(Tagger(), torch.randn(2, 6, 3))
    step = one_step(network)
    assert step.name == "net-step" and one_step(network, "mine").name == "mine"
    assert [str(spec) for spec in step.signature.inputs] == [
        "x: float32[2, 1, 3]", "lstm.h: float32[2, 2, 5]", "lstm.c: float32[2, 2, 5]", "gru.h: float32[1, 2, 4]",
        "rnn.h: float32[1, 2, 3]",
    ]  # fmt: skip
    how = step.card.streaming
    assert how is not None and how.states == {name: f"{name}_next" for name in ("lstm.h", "lstm.c", "gru.h", "rnn.h")}
    assert [str(spec) for spec in how.sequence.inputs] == ["x: float32[2, time, 3]"]
    assert [str(s) for s in how.sequence.outputs] == ["tags: float32[2, time, 2]", "answer: float32[2, 2]"]
    x = np.random.default_rng(1).standard_normal((2, 9, 3)).astype(np.float32)  # longer than the example
    rows = walk(network, {"x": x}, {"x": 1})
    for n in (1, 4, 9):
        with torch.no_grad():
            tags, answer = network.module(torch.from_numpy(x[:, :n]))
        assert np.abs(np.concatenate([r["tags"] for r in rows[:n]], 1) - tags.numpy()).max() < TOLERANCE
        assert np.abs(rows[n - 1]["answer"] - answer.numpy()).max() < TOLERANCE


@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell", "RNNCell"])
def test_a_loop_over_cells(kind: str, network_of: NetworkOf) -> None:
    torch.manual_seed(0)
    network = network_of(Loop(kind), torch.randn(5, 2, 3))
    parts = ["cell.h", "cell.c"] if kind == "LSTMCell" else ["cell.h"]
    assert [spec.name for spec in one_step(network).signature.inputs] == ["x", *parts, "second.h"]
    x = torch.randn(7, 2, 3)
    rows = walk(network, {"x": x.numpy()}, {"x": 0})
    with torch.no_grad():
        assert np.abs(np.concatenate([r["output"] for r in rows]) - network.module(x).numpy()).max() < TOLERANCE


def test_several_inputs_and_a_layer_that_is_used_twice(network_of: NetworkOf) -> None:
    torch.manual_seed(0)
    arguments = torch.randint(0, 7, (2, 6)), torch.randn(2, 6), torch.randn(2, 1, 4)
    network = network_of(Masked(), *arguments)
    step = one_step(network)
    assert [str(spec) for spec in step.signature.inputs][:3] == [
        "tokens: int64[2, 1]", "gain: float32[2, 1]", "bias: float32[2, 1, 4]",
    ]  # fmt: skip
    assert [spec.name for spec in step.signature.inputs][3:] == ["gru.h", "gru_2.h"]
    feed = {spec.name: value.numpy() for spec, value in zip(network.signature.inputs, arguments, strict=True)}
    rows = walk(network, feed, {"tokens": 1, "gain": 1})
    with torch.no_grad():
        wanted = network.module(*arguments).numpy()
    assert np.abs(np.concatenate([r["output"] for r in rows], 1) - wanted).max() < TOLERANCE


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("both", r"gru \(GRU\) reads the sequence in both directions"),
        ("norm", r"on a single step it raises ValueError|mixes the steps"),
        (
            "mean",
            r"mixes the steps.*first to differ is 'head' \(Linear\), by itself or by what is computed just before",
        ),
        ("shift", r"mixes the steps.*first to differ is 'head'"),
        ("flip", r"mixes the steps"),
        ("start", r"gru \(GRU\) starts from a state that the network is given or has learned"),
        ("packed", r"gru \(GRU\) takes packed sequences"),
    ],
)
def test_what_cannot_stream_is_refused_with_its_reason(what: str, said: str, network_of: NetworkOf) -> None:
    torch.manual_seed(0)
    with pytest.raises(UnsupportedError, match=f"'net' cannot be taken step by step: .*{said}"):
        one_step(network_of(Wrong(what), torch.randn(1, 6, 3)))


def test_a_network_without_recurrence_and_one_without_steps(network_of: NetworkOf) -> None:
    with pytest.raises(UnsupportedError, match=r"no convolution over time, and no nn\.LSTM, nn\.GRU or nn\.RNN layer"):
        one_step(network_of(nn.Linear(3, 2), torch.randn(1, 6, 3)))
    with pytest.raises(
        UnsupportedError, match=r"no axis of its inputs \(x: float32\[1, 1, 3\]\) holds two or more steps"
    ):
        one_step(network_of(Wrong(""), torch.randn(1, 1, 3)))
