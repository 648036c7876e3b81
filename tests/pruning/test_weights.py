"""Single weights: which become zero, and that training leaves them so."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from edgekit.errors import UnsupportedError, UsageError
from edgekit.passes import PassError
from edgekit.pruning.weights import PruneMagnitude, PruneTwoOfFour, kept_at_zero, two_of_four, zeros
from edgekit.types import Card, Network, Signature, Task, TensorSpec


def as_network(module: nn.Module, shape: tuple[int, ...]) -> Network:
    with torch.no_grad():
        out = module.eval()(torch.zeros(shape))
    signature = Signature((TensorSpec("x", "float32", shape),), (TensorSpec("y", "float32", tuple(out.shape)),))
    return Network(module, {"x": np.zeros(shape, np.float32)}, Card("n", "custom", Task(), signature))


def test_the_smallest_leave_by_hand() -> None:
    module = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor([[1.0, -8.0], [2.0, 7.0]]))
        module[1].weight.copy_(torch.tensor([[-0.1, 0.4], [0.2, 0.3]]))
    even = PruneMagnitude(0.5).run(as_network(module, (1, 2))).model
    assert isinstance(even, Network)
    found = [layer.weight.tolist() for layer in even.module.children()]  # type: ignore[union-attr,operator]
    assert found[0] == [[0.0, -8.0], [0.0, 7.0]]
    assert np.allclose(found[1], [[0.0, 0.4], [0.0, 0.3]])
    overall = PruneMagnitude(0.5, "global").run(as_network(module, (1, 2))).model
    assert isinstance(overall, Network)
    assert [int((layer.weight == 0).sum()) for layer in overall.module.children()] == [0, 4]  # type: ignore[operator]
    assert overall.card.steps[-1].params["zeros"] == 4


def test_two_of_four_by_hand() -> None:
    row = torch.tensor([[3.0, -1.0, 0.5, 2.0, 0.1, 0.2, -0.4, 0.3]])
    assert two_of_four(row).tolist() == [[True, False, False, True, False, False, True, True]]
    kernel = torch.randn(6, 8, 3, 3)
    kept = two_of_four(kernel).reshape(6, 2, 4, 3, 3)  # each four channels, at each place of the kernel
    assert (kept.sum(2) == 2).all()


def test_layers_that_do_not_divide_are_named() -> None:
    module = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    result = PruneTwoOfFour().run(as_network(module, (1, 6)))
    assert result.notes == ("left dense, the number of inputs is not a multiple of 4: 0.weight",)
    assert isinstance(result.model, Network)
    assert zeros(result.model.module) == 12
    with pytest.raises(UnsupportedError, match="multiple of 4"):
        PruneTwoOfFour().run(as_network(nn.Sequential(nn.Linear(6, 3)), (1, 6)))
    with pytest.raises(UnsupportedError, match="no weights can be pruned"):
        PruneMagnitude(0.5).run(as_network(nn.Sequential(nn.ReLU()), (1, 6)))


@pytest.mark.parametrize("amount", [0.0, 1.0, float("nan")])
def test_amounts_that_make_no_sense(amount: float) -> None:
    with pytest.raises(UsageError, match="above 0 and below 1"):
        PruneMagnitude(amount)


OPTIMIZERS: list[Callable[..., torch.optim.Optimizer]] = [
    lambda p: torch.optim.SGD(p, 1e-3, momentum=0.9, nesterov=True, weight_decay=1e-2),
    lambda p: torch.optim.AdamW(p, 0.1, weight_decay=1e-2),
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_leaves_them_zero(optimizer: Callable[..., torch.optim.Optimizer]) -> None:
    torch.manual_seed(0)
    made = PruneMagnitude(0.7).run(as_network(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), (1, 6))).model
    assert isinstance(made, Network)
    module, count = made.module.train(), zeros(made.module)
    before = [p.detach().clone() for p in module.parameters()]
    with kept_at_zero(module):
        steps = optimizer(module.parameters())
        for _ in range(20):
            steps.zero_grad()
            module(torch.randn(16, 6)).square().sum().backward()
            steps.step()
    assert zeros(module) == count
    assert all(not torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))  # the others learned


def test_a_weight_that_comes_back_trips_the_gate() -> None:
    made = PruneMagnitude(0.5).run(as_network(nn.Sequential(nn.Linear(6, 8)), (1, 6))).model
    assert isinstance(made, Network)
    weight = made.module.get_parameter("0.weight")
    with pytest.raises(PassError, match=r"brought pruned weights back in 0\.weight"), kept_at_zero(made.module):
        weight.data.add_(1e-3)
