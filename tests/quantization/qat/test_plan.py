"""Which tensors are rounded, under which names."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional as F

from edgekit.errors import UnsupportedError
from edgekit.quantization.qat.plan import RoundingPlan, plan_of


def plan(module: nn.Module, *shape: int) -> RoundingPlan:
    return plan_of(module.eval(), [torch.randn(1, *shape)], ["x"])


class Residual(nn.Module):
    """Functions and operators where others have layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(2)
        self.table = nn.Parameter(torch.randn(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm(self.conv(x)))
        y = F.relu(self.norm(self.conv(y)) + x)
        return torch.cat([y, x * self.table], 1).flatten(1)


def test_fused_parts_are_rounded_once() -> None:
    found = plan(Residual(), 2, 4, 4)
    assert found.points == ("x", "relu", "conv.conv2d#2", "relu#2", "mul", "cat")
    assert set(found.folded) == {"conv.conv2d", "conv.conv2d#2"}
    assert found.passed == {"norm.batch_norm", "norm.batch_norm#2"}
    assert found.constants == {"mul": (1,)}


def test_what_two_read_is_rounded_before_the_activation_too() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.layer(x)
            return torch.relu(y) + y

    assert plan(Twice(), 3).points == ("x", "layer.linear", "relu", "add")


def test_a_norm_that_keeps_no_statistics_is_not_folded() -> None:
    module = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2, track_running_stats=False), nn.ReLU())
    found = plan(module, 2, 4, 4)
    assert not found.folded and found.points == ("x", "0.conv2d", "2.relu")


def test_activations_that_are_not_fused_are_rounded_on_both_sides() -> None:
    found = plan(nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3), nn.Sigmoid()), 3)
    assert found.points == ("x", "0.linear", "1.tanh", "2.linear", "3.sigmoid")
    assert found.fixed == {"1.tanh": (-1.0, 127 / 128), "3.sigmoid": (0.0, 255 / 256)}


def test_recurrent_layers_have_steps_and_a_state() -> None:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.LSTM(3, 4, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            steps, (state, _) = self.layers(x)
            return steps[:, -1] + state[0]

    found = plan(Reader(), 5, 3)
    assert found.points == ("x", "layers.lstm", "layers.lstm.state", "add")
    assert found.weights == {"layers.lstm"}


def test_attention_of_torch_is_one_operation_with_two_weights() -> None:
    found = plan(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 5, 8)
    assert found.points[1] == "self_attn.multi_head_attention_forward"
    assert found.weights == {"self_attn.multi_head_attention_forward", "linear1.linear", "linear2.linear"}


def test_an_exported_program_is_refused() -> None:
    program = make_fx(nn.Linear(3, 3))(torch.randn(1, 3))
    with pytest.raises(UnsupportedError, match="an exported program"):
        plan_of(program, [torch.randn(1, 3)], ["x"])


def test_a_network_without_layers_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="no layer that int8 files compute on integers"):
        plan(nn.Sequential(nn.ReLU(), nn.Flatten()), 3)
