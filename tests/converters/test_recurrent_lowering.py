"""Recurrent layers as nodes and as sequence operators, in torch alone: every kind against torch's own layer."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgekit.converters.recurrent.custom_ops import CustomOps, to_aten
from edgekit.converters.recurrent.lowering import lower

pytestmark = pytest.mark.usefixtures("kept_workers")

TOLERANCE = 1e-6
"""A few units in the last place of values below 1: sums of at most 6 products in another order, over 5 steps."""
KINDS = ("LSTM", "GRU", "RNN")


def captured(module: nn.Module, *args: Any, dynamic: Any = None) -> Any:
    with CustomOps(), torch.no_grad():
        return to_aten(torch.export.export(module.eval(), args, dynamic_shapes=dynamic))


def lowered(module: nn.Module, *args: Any) -> tuple[Any, tuple[str, ...]]:
    graph = captured(module, *args).module()
    return graph, lower(graph)


def leaves(value: Any) -> list[Tensor]:
    return list(torch.utils._pytree.tree_leaves(value))


def targets(graph: Any) -> set[str]:
    return {str(node.target) for node in graph.graph.nodes if node.op == "call_function"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given", [False, True], ids=["from-zeros", "from-a-state"])
def test_against_torch(kind: str, given: bool) -> None:
    torch.manual_seed(0)
    for layers, both, first, bias in itertools.product((1, 2), (False, True), (False, True), (False, True)):
        module = getattr(nn, kind)(3, 4, layers, bias=bias, batch_first=first, bidirectional=both)
        x = torch.randn((2, 5, 3) if first else (5, 2, 3))
        state = torch.randn(layers * (2 if both else 1), 2, 4)
        args = (x, ((state, state / 2) if kind == "LSTM" else state)) if given else (x,)
        graph, _ = lowered(module, *args)
        assert not any("aten.lstm" in t or "aten.gru" in t or "aten.rnn" in t for t in targets(graph))
        with torch.no_grad():
            for got, wanted in zip(leaves(graph(*args)), leaves(module(*args)), strict=True):
                assert (got - wanted).abs().max() < TOLERANCE, (kind, layers, both, first, bias)


def test_relu_and_three_layers() -> None:
    torch.manual_seed(0)
    module = nn.RNN(3, 4, 3, nonlinearity="relu")
    graph, _ = lowered(module, torch.randn(5, 2, 3))
    x = torch.randn(5, 2, 3)
    for got, wanted in zip(leaves(graph(x)), leaves(module(x)), strict=True):
        assert (got - wanted).abs().max() < TOLERANCE


class Ends(nn.Module):
    """What classifiers take of a layer: the last step, or the last layer's state."""

    def __init__(self, kind: str, how: str, both: bool = False) -> None:
        super().__init__()
        self.layer = getattr(nn, kind)(3, 4, 2, batch_first=True, bidirectional=both)
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        y, state = self.layer(x)
        h = state[0] if isinstance(state, tuple) else state
        if self.how == "last":
            return y[:, -1]
        if self.how == "h":
            return h[-1]
        if self.how == "c":
            return state[1][0]
        return torch.cat([h[-2], h[-1]], 1)


@pytest.mark.parametrize(
    ("kind", "how", "both", "operator"),
    [
        ("LSTM", "last", False, "fused"),
        ("LSTM", "h", False, "fused"),
        ("LSTM", "c", False, "loop"),
        ("LSTM", "ends", True, "fused"),
        ("RNN", "last", True, "fused"),
        ("GRU", "last", False, "loop"),
        ("GRU", "last", True, "loop"),
        ("GRU", "ends", True, "loop"),
    ],
)
def test_parts_of_the_state(kind: str, how: str, both: bool, operator: str) -> None:
    torch.manual_seed(0)
    module = Ends(kind, how, both)
    graph, notes = lowered(module, torch.randn(2, 5, 3))
    x = torch.randn(2, 5, 3)
    assert (graph(x) - module(x)).abs().max() < TOLERANCE
    calls = [node for node in graph.graph.nodes if getattr(node.target, "__name__", "") == f"run_{operator}"]
    assert len(calls) == 1
    assert calls[0].kwargs["sequence"] is (both and how == "last")  # nobody else reads the outputs
    assert bool(notes) == (how == "c")


def test_a_whole_layer_is_one_node_and_its_length_is_free() -> None:
    time = torch.export.Dim("time")
    for kind in KINDS:
        module = getattr(nn, kind)(3, 4, batch_first=True)
        program = captured(module, torch.randn(1, 5, 3), dynamic=({1: time},))
        assert not any("edgekit" in t for t in targets(program))  # a .pt2 file needs no operators of ours
        for steps in (1, 2, 9):
            x = torch.randn(1, steps, 3)
            assert torch.equal(program.module()(x)[0], module(x)[0])


def test_a_long_sequence_makes_no_larger_program() -> None:
    short, long = (captured(nn.GRU(3, 4), torch.randn(steps, 1, 3)) for steps in (2, 2000))
    assert len(short.graph.nodes) == len(long.graph.nodes)


class Cells(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(1, 4)
        for t in range(3):
            h, c = self.cell(x[t], (h, c))
        return h


class Computed(nn.Module):
    """Weights that are made while the network runs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.utils.parametrizations.weight_norm(nn.GRU(3, 4), "weight_hh_l0")

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0]


@pytest.mark.parametrize(
    ("module", "example", "said"),
    [
        (nn.LSTM(3, 4, proj_size=2), torch.randn(5, 1, 3), "projection"),
        (nn.GRU(3, 4).double(), torch.randn(5, 1, 3).double(), "not float32"),
        (Computed(), torch.randn(5, 1, 3), "computed in the network"),
        (Cells(), torch.randn(3, 1, 3), "3 steps of nn.LSTMCell"),
    ],
    ids=["projection", "double", "parametrized", "cells"],
)
def test_what_cannot_be_lowered_is_left_and_said(module: nn.Module, example: Tensor, said: str) -> None:
    graph, notes = lowered(module, example)
    assert len(notes) == 1 and said in notes[0] and "unrolled" in notes[0]
    with torch.no_grad():
        for got, wanted in zip(leaves(graph(example)), leaves(module.eval()(example)), strict=True):
            assert torch.equal(got, wanted)


def test_dropout_while_training_is_left_and_said() -> None:
    module = nn.LSTM(3, 4, 2, dropout=0.5)
    with CustomOps(), torch.no_grad():
        graph = to_aten(torch.export.export(module.train(), (torch.randn(5, 1, 3),))).module()
    (note,) = lower(graph)
    assert "training mode" in note


def test_the_mode_leaves_other_calls_alone() -> None:
    lengths = torch.tensor([3, 2])
    packed = nn.utils.rnn.pack_padded_sequence(torch.randn(3, 2, 3), lengths)
    layer = nn.LSTM(3, 4)
    with CustomOps():
        assert torch.equal(layer(packed)[0].data, layer(packed)[0].data)
