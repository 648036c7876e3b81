"""Every option of ``nn.LSTM``, ``nn.GRU`` and ``nn.RNN`` against torch, in both formats; what has no operator is said.

A conversion costs a second or more, so one network holds a layer for each combination of options.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekit.converters.base import Capture, ConversionOptions
from edgekit.converters.torch_to_onnx import TorchToOnnx
from edgekit.converters.torch_to_tflite import TorchToTflite
from edgekit.runtime import load
from edgekit.types import Network

NetworkOf = Callable[..., Network]
Used = tuple[bool, bool]
"""Outputs of the steps, last states."""
CONVERTERS = {"onnx": TorchToOnnx, "tflite": TorchToTflite}
KINDS = {
    "lstm": (nn.LSTM, {}),
    "gru": (nn.GRU, {}),
    "rnn_tanh": (nn.RNN, {}),
    "rnn_relu": (nn.RNN, {"nonlinearity": "relu"}),
}
PAIRS = (4, 11, 15, 17, 18, 28, 33, 42, 46, 47)
"""Combinations among which every two options meet in each of their values (a test counts them)."""
TOLERANCE = 3e-6
"""Float32 rounding of values below 1 (6e-8 each) through 5 steps of 3 layers, and tanh and sigmoid by polynomials that
are good to some units in the last place."""
USED: tuple[Used, ...] = ((True, False), (False, True), (True, True))


def combinations(shift: int) -> Iterator[tuple[int, bool, bool, bool, bool, Used]]:
    """Layers, both directions, batch first, from a given state, biases, and which of the results are used."""
    options = itertools.product((1, 2, 3), *((False, True),) * 4)
    for k, option in enumerate(options):
        yield (*option, USED[(k + k // 16 + shift) % len(USED)])


class Options(nn.Module):
    """A layer for each combination, side by side on one input (T, B, 3) with one state (6, B, 4)."""

    def __init__(self, kind: str, chosen: Sequence[tuple[int, bool, bool, bool, bool, Used]]) -> None:
        super().__init__()
        make, more = KINDS[kind]
        self.layers = nn.ModuleList(
            make(3, 4, n, bias=bias, batch_first=first, dropout=0.5 * (n > 1), bidirectional=both, **more)
            for n, both, first, _, bias, _ in chosen
        )
        self.how = [(given, used) for _, _, _, given, _, used in chosen]

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, ...]:
        found: list[Tensor] = []
        for layer, (given, (steps, last)) in zip(self.layers, self.how, strict=True):
            count = layer.num_layers * (2 if layer.bidirectional else 1)
            own = (h[:count], c[:count]) if isinstance(layer, nn.LSTM) else h[:count]
            y, end = layer(x.transpose(0, 1) if layer.batch_first else x, own if given else None)
            if steps:
                found.append(y)
            if last:
                found.extend(end if isinstance(end, tuple) else (end,))
        return tuple(found)


def agree(network: Network, format_: str, folder: Path, **sizes: int) -> tuple[str, ...]:
    """Converts, runs and compares; the notes of the conversion."""
    target = folder / f"m.{format_}"
    notes = CONVERTERS[format_]().convert(Capture(network, ConversionOptions()), target)
    generator = np.random.default_rng(0)
    feed = {
        spec.name: generator.standard_normal(spec.resolved(sizes)).astype(np.float32)
        for spec in network.signature.inputs
    }
    with torch.no_grad():
        wanted = network.module(*map(torch.from_numpy, feed.values()))
    with load(target) as runner:
        got = list(runner.run(feed).values())
    wanted = [wanted] if isinstance(wanted, Tensor) else wanted
    assert len(got) == len(wanted)
    for k, (a, b) in enumerate(zip(got, wanted, strict=True)):
        assert a.shape == tuple(b.shape), k
        assert np.abs(a - b.numpy()).max() < TOLERANCE, k
    return notes


def test_every_two_options_meet() -> None:
    every = list(combinations(0))
    chosen = [every[k] for k in PAIRS]
    for a, b in itertools.combinations(range(6), 2):
        assert {(row[a], row[b]) for row in chosen} == {(row[a], row[b]) for row in every}


@pytest.mark.parametrize("shift", [None, *(pytest.param(k, marks=pytest.mark.sweep) for k in (0, 1, 2))])
@pytest.mark.parametrize("format_", CONVERTERS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_option_against_torch(
    kind: str, format_: str, shift: int | None, network_of: NetworkOf, tmp_path: Path
) -> None:
    """The three shifts together are every combination with every use of its results."""
    torch.manual_seed(0)
    every = list(combinations(shift or 0))
    chosen = every if shift is not None else [every[k] for k in PAIRS]
    network = network_of(Options(kind, chosen), torch.randn(5, 2, 3), torch.randn(6, 2, 4), torch.randn(6, 2, 4))
    notes = agree(network, format_, tmp_path)
    assert not any("unrolled" in note for note in notes)


class Loop(nn.Module):
    """A loop of the network's own over a cell."""

    def __init__(self, kind: str, gives: str) -> None:
        super().__init__()
        self.kind, self.gives, self.cell = kind, gives, getattr(nn, kind)(3, 4)
        self.back = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """(B, T, 3) -> (B, T, 4), or what ``gives`` says"""
        state, rows = None, []
        steps = range(x.shape[1])
        for t in reversed(steps) if self.gives == "backwards" else steps:
            row = self.back(rows[-1]) if self.gives == "fed back" and rows else x[:, t]
            state = self.cell(row, state)
            rows.append(state[0] if self.kind == "LSTMCell" else state)
        if self.gives == "some":
            return rows[1] + rows[-1]
        if self.gives == "state":
            assert state is not None
            return state
        return torch.stack(rows, 0 if self.gives == "steps first" else 1)


CELLS = ("LSTMCell", "GRUCell", "RNNCell")


def in_turn(cases: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Each case in one format every time, in the other with ``-m sweep``; each four cases begin with another one."""
    return [
        pytest.param(*case, format_, marks=() if (k + k // 4 + j) % 2 == 0 else pytest.mark.sweep)
        for k, case in enumerate(cases)
        for j, format_ in enumerate(CONVERTERS)
    ]


LOOPS = [(kind, gives) for kind in CELLS for gives in ("steps", "steps first", "some", "state")]


@pytest.mark.parametrize(("kind", "gives", "format_"), in_turn(LOOPS))
def test_a_loop_over_a_cell_is_a_layer(
    kind: str, gives: str, format_: str, network_of: NetworkOf, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    notes = agree(network_of(Loop(kind, gives), torch.randn(2, 5, 3)), format_, tmp_path)
    assert not any("unrolled" in note for note in notes)


@pytest.mark.parametrize(
    ("kind", "gives", "format_"), in_turn([*((kind, "fed back") for kind in CELLS), ("GRUCell", "backwards")])
)
def test_a_loop_that_is_not_a_layer_is_right_and_said_to_be_unrolled(
    kind: str, gives: str, format_: str, network_of: NetworkOf, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    (note,) = agree(network_of(Loop(kind, gives), torch.randn(2, 5, 3)), format_, tmp_path)
    assert note.startswith(f"5 steps of nn.{kind} are unrolled")


def test_two_loops_and_a_loop_above_a_loop(network_of: NetworkOf, tmp_path: Path) -> None:
    """The upper one steps through what the lower one gives; weights that two loops share do not join them."""

    class Stacked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lower, self.upper = Loop("GRUCell", "steps"), nn.LSTMCell(4, 4)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            """(B, T, 3) -> (B, 4), (B, T, 4)"""
            first, second, state = self.lower(x), self.lower(-x), None
            for row in (first + second).unbind(1):
                state = self.upper(row, state)
            assert state is not None
            return state[0], first

    torch.manual_seed(0)
    for format_ in CONVERTERS:
        notes = agree(network_of(Stacked(), torch.randn(2, 5, 3)), format_, tmp_path)
        assert not any("unrolled" in note for note in notes)


class Projected(nn.Module):
    def __init__(self, **more: Any) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 4, proj_size=2, **more)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y, (h, c) = self.lstm(x)
        return y, h, c


@pytest.mark.parametrize(
    ("more", "format_"), in_turn([({"num_layers": 2, "bidirectional": True, "batch_first": True},), ({},)])
)
def test_a_projection_is_right_and_said_to_be_unrolled(
    more: dict[str, Any], format_: str, network_of: NetworkOf, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    (note,) = agree(network_of(Projected(**more), torch.randn(2, 5, 3)), format_, tmp_path)
    assert note.startswith("lstm (LSTM) is unrolled") and "proj_size" in note


class Headed(nn.Module):
    def __init__(self, kind: str, **more: Any) -> None:
        super().__init__()
        self.layer = getattr(nn, kind)(3, 4, batch_first=True, **more)
        self.head = nn.Linear(8 if self.layer.bidirectional else 4, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, 3) -> (B, 2)"""
        return self.head(self.layer(x)[0][:, -1])


@pytest.mark.parametrize(
    ("kind", "more", "time"),
    [
        ("LSTM", {"num_layers": 2, "bidirectional": True}, True),
        ("GRU", {}, False),
        ("GRU", {}, True),
        ("RNN", {}, False),
        pytest.param("LSTM", {"num_layers": 2, "bidirectional": True}, False, marks=pytest.mark.sweep),
        pytest.param("RNN", {}, True, marks=pytest.mark.sweep),
    ],
)
def test_a_dynamic_batch_in_tflite(
    kind: str, more: dict[str, Any], time: bool, network_of: NetworkOf, tmp_path: Path
) -> None:
    """The state of a loop is an ordinary tensor, which has the size of the batch; a variable's size is fixed."""
    torch.manual_seed(0)
    network = network_of(Headed(kind, **more), torch.randn(1, 5, 3))
    dynamic = {"x": {0: "batch", **({1: "time"} if time else {})}}
    notes = TorchToTflite().convert(Capture(network, ConversionOptions(dynamic=dynamic)), tmp_path / "m.tflite")
    assert [("the batch size is dynamic" in note) for note in notes] == ([] if kind == "GRU" else [True])
    with load(tmp_path / "m.tflite") as runner, torch.no_grad():
        for batch, steps in ((1, 5), (7, 5), (2, 9 if time else 5), (1, 1 if time else 5)):
            x = np.random.default_rng(batch).standard_normal((batch, steps, 3)).astype(np.float32)
            wanted = network.module(torch.from_numpy(x)).numpy()
            (got,) = runner.run({"x": x}).values()
            assert got.shape == wanted.shape and np.abs(got - wanted).max() < TOLERANCE
