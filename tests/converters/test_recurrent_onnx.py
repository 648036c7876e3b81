"""Recurrent layers in ONNX files: one operator a layer, any length, against torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from edgekit.converters.base import Capture, ConversionOptions
from edgekit.converters.torch_to_onnx import TorchToOnnx
from edgekit.runtime import load
from edgekit.types import Network

TOLERANCE = 2e-6
"""Float32 rounding of values below 1, carried through at most 9 steps of 2 layers."""
NetworkOf = Callable[..., Network]


class Two(nn.Module):
    """Two layers, both directions, with a head on every step; state in and out."""

    def __init__(self, kind: str, **more: Any) -> None:
        super().__init__()
        self.layer = getattr(nn, kind)(3, 64, 2, batch_first=True, bidirectional=True, **more)
        self.head = nn.Linear(128, 2)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        """(B, T, 3), (4, B, 64) -> (B, T, 2), states"""
        y, state = self.layer(x, (h, h / 2) if isinstance(self.layer, nn.LSTM) else h)
        return self.head(y), *(state if isinstance(state, tuple) else (state,))


def convert(network: Network, target: Path, **options: Any) -> tuple[Counter[str], tuple[str, ...]]:
    notes = TorchToOnnx().convert(Capture(network, ConversionOptions(**options)), target)
    return Counter(node.op_type for node in onnx.load(target).graph.node), notes


@pytest.mark.parametrize(
    ("kind", "more"),
    [("LSTM", {}), ("GRU", {}), ("RNN", {}), ("RNN", {"nonlinearity": "relu"}), ("LSTM", {"bias": False})],
    ids=["lstm", "gru", "rnn", "rnn-relu", "lstm-no-bias"],
)
def test_one_operator_a_layer_at_any_length(
    kind: str, more: dict[str, Any], network_of: NetworkOf, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = network_of(Two(kind, **more), torch.randn(2, 5, 3), torch.randn(4, 2, 64))
    found, notes = convert(network, tmp_path / "m.onnx", dynamic={"x": {1: "time"}})
    assert found[kind] == 2 and notes == ()
    # weights stand in ONNX's order: nothing is cut and joined at every start (64 units: beyond torch's own folding)
    assert found["Slice"] <= 4 and found["Concat"] <= 2 and "Split" not in found
    with load(tmp_path / "m.onnx") as runner, torch.no_grad():
        for steps in (1, 2, 9):  # a frozen axis would take 5 only
            x, h = torch.randn(2, steps, 3), torch.randn(4, 2, 64)
            got = runner.run({"x": x.numpy(), "h": h.numpy()})
            for a, b in zip(got.values(), network.module(x, h), strict=True):
                assert a.shape == tuple(b.shape) and np.abs(a - b.numpy()).max() < TOLERANCE


def test_a_dynamic_batch_and_length(network_of: NetworkOf, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = network_of(nn.GRU(3, 4), torch.randn(5, 2, 3))
    name = network.signature.inputs[0].name
    convert(network, tmp_path / "m.onnx", dynamic={name: {0: "time", 1: "batch"}})
    with load(tmp_path / "m.onnx") as runner, torch.no_grad():
        for shape in ((1, 1, 3), (7, 4, 3)):
            x = torch.randn(shape)
            for a, b in zip(runner.run({name: x.numpy()}).values(), network.module(x), strict=True):
                assert np.abs(a - b.numpy()).max() < TOLERANCE


def test_a_projection_is_unrolled_and_said(network_of: NetworkOf, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = network_of(nn.Sequential(nn.LSTM(3, 4, proj_size=2)), torch.randn(3, 1, 3))
    found, (note,) = convert(network, tmp_path / "m.onnx")
    assert note.startswith("0 (LSTM) is unrolled") and "proj_size" in note and "LSTM" not in found
    name = network.signature.inputs[0].name
    x = torch.randn(3, 1, 3)
    with load(tmp_path / "m.onnx") as runner, torch.no_grad():
        y = network.module(x)[0]
        assert np.abs(next(iter(runner.run({name: x.numpy()}).values())) - y.numpy()).max() < TOLERANCE
