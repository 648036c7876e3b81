"""Fake quantization against numbers worked out by hand, the back ends' own rounding, and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgekit.quantization.onnx.weights import symmetric_int8
from edgekit.quantization.qat.rounding import grid, rounded_activation, rounded_constant, rounded_weight


def test_a_grid_by_hand() -> None:
    scale, zero = grid(torch.tensor([[-1.0, 1.55], [0.0, 2.55], [0.5, 2.55], [0.0, 0.0]]))
    assert scale.tolist() == pytest.approx([0.01, 0.01, 0.01, 1e-8])
    assert zero.tolist() == [100, 0, 0, 0]  # a range that leaves zero out is widened to it


def test_values_on_the_grid_by_hand() -> None:
    scale, zero = grid(torch.tensor([[-1.0, 1.55]]))
    values = torch.tensor([-3.0, -1.0, -0.004, 0.0, 0.016, 1.55, 9.0])
    assert rounded_activation(values, scale[0], zero[0]).tolist() == pytest.approx([-1, -1, 0, 0, 0.02, 1.55, 1.55])


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_weights_are_rounded_as_the_back_ends_round_them(axis: int) -> None:
    weight = torch.from_numpy(np.random.default_rng(0).normal(size=(6, 5, 3, 3)).astype(np.float32))
    integers, scale = symmetric_int8(weight.numpy(), (axis,))
    # one unit in the last place of float32, by which a product with the inverse differs from a division
    np.testing.assert_allclose(rounded_weight(weight, axis).numpy(), integers * scale, rtol=1e-6, atol=1e-7)


def test_a_channel_of_zeros_stays_zero() -> None:
    weight = torch.tensor([[0.0, 0.0], [0.5, -1.0]])
    assert rounded_weight(weight, 0)[0].tolist() == [0.0, 0.0]


def test_nan_is_not_hidden() -> None:
    assert rounded_weight(torch.tensor([[float("nan"), 1.0]]), 0).isnan().any()


def test_one_scale_for_all_is_the_coarser_grid() -> None:
    weight = torch.tensor([[0.003, 0.001], [1.27, -1.27]])
    assert rounded_weight(weight, None)[0].tolist() == [0.0, 0.0]
    assert rounded_weight(weight, 0)[0].tolist() == pytest.approx([0.003, 0.001], rel=0.01)  # within 1/127


def test_a_constant_spans_its_own_values() -> None:
    constant = torch.linspace(-1, 3, 100)
    assert float((rounded_constant(constant) - constant).abs().max()) <= 4 / 255 / 2 + 1e-6  # half a step


def test_gradients_are_finite_differences_over_many_steps() -> None:
    """A staircase has no slope of its own: over many of its steps it rises as the straight line does, and beyond the
    range not at all. The straight-through gradient is that slope."""
    scale, zero = grid(torch.tensor([[-1.0, 1.55]]))
    for value, slope in ((-0.5, 1.0), (0.7, 1.0), (-1.4, 0.0), (2.0, 0.0)):
        at = torch.tensor([value], requires_grad=True)
        rounded_activation(at, scale[0], zero[0]).sum().backward()
        reach = 0.3  # 60 steps of the grid
        ends = torch.tensor([value - reach, value + reach])
        low, high = rounded_activation(ends, scale[0], zero[0]).tolist()
        assert at.grad is not None and float(at.grad) == slope
        assert (high - low) / (2 * reach) == pytest.approx(slope, abs=1 / 60)


def test_gradients_of_a_weight_pass_through_all_of_it() -> None:
    weight = torch.randn(4, 3, requires_grad=True)
    rounded_weight(weight, 0).sum().backward()
    assert weight.grad is not None and weight.grad.tolist() == torch.ones(4, 3).tolist()  # nothing is clipped
