"""A network with its roundings: what it computes, what it learns, what it leaves alone."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekit.errors import GateError
from edgekit.quantization.qat.module import FakeQuantized
from edgekit.quantization.qat.rounding import rounded_weight
from edgekit.source import resolve

ZOO = ("mlp", "cnn", "rnn", "lstm", "gru", "transformer", "gan", "autoencoder", "detector")


def small() -> nn.Sequential:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    with torch.no_grad():
        for tensor in (made[1].weight, made[1].running_var):
            tensor.uniform_(0.5, 2.0)  # type: ignore[union-attr,operator]
        made[1].running_mean.normal_()  # type: ignore[union-attr,operator]
    return made.eval()


def wrapped(module: nn.Module, x: Tensor, freeze: int = 10) -> FakeQuantized:
    made = FakeQuantized(module, [x], ["x"], freeze)
    made.calibrate(iter([[x]]))
    return made


def test_without_roundings_a_folded_network_is_the_network() -> None:
    x, module = torch.randn(8, 2, 4, 4), small()
    made = FakeQuantized(module, [x], ["x"], 1)
    kept = made.observed([x])
    assert list(kept) == ["x", "2.relu", "4.linear"]
    # folding changes the order of float32 operations, no more
    assert torch.allclose(kept["4.linear"], module(x), atol=1e-5)


def test_by_hand() -> None:
    layer = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.27, -0.634]]))  # a step of 0.01: -63.4 becomes -63
    made = FakeQuantized(layer, [torch.zeros(1, 2)], ["x"], 0).eval()
    made.ranges.copy_(torch.tensor([[-1.0, 1.55], [-2.55, 0.0]]))  # steps of 0.01; what is above 0 is clipped
    assert made(torch.tensor([[-0.504, 0.5]])).tolist() == [[pytest.approx(-0.95)]]  # -0.6350 - 0.3150
    assert made(torch.tensor([[0.5, 0.0]])).tolist() == [[0.0]]


def parts(results: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return results if isinstance(results, tuple) else (results,)


@pytest.mark.parametrize("name", ZOO)
def test_every_family_learns_through_its_roundings(name: str) -> None:
    network = resolve(name)
    generator = torch.Generator().manual_seed(1)
    inputs = [
        torch.randn(4, *v.shape[1:], generator=generator)
        if v.dtype.kind == "f"
        else torch.randint(1, 50, (4, *v.shape[1:]), generator=generator)
        for v in map(np.asarray, network.example_inputs.values())
    ]
    made = FakeQuantized(network.module, inputs, list(network.example_inputs), 5)
    made.calibrate(iter([inputs]))
    made.train()
    sum(part.square().sum() for part in parts(made(*inputs))).backward()
    missing = [n for n, p in network.module.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not missing
    made.eval()
    with torch.no_grad():
        pairs = zip(parts(network.module(*inputs)), parts(made(*inputs)), strict=True)
    for plain, rounded in pairs:
        assert 0 < float((plain - rounded).abs().max()) < 0.5 * float(plain.abs().max())  # it rounds, and no more


def test_the_weights_of_attention_are_rounded() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0).eval()
    x = torch.randn(4, 5, 8)
    made = wrapped(layer, x).eval()
    with torch.no_grad():
        before = made(x)
        layer.self_attn.in_proj_weight += 1e-6 * layer.self_attn.in_proj_weight.sign()  # far below a step of its grid
        assert float((made(x) - before).abs().max()) < 1e-3
        layer.self_attn.out_proj.weight *= 1.5
        assert float((made(x) - before).abs().max()) > 0.01


def test_ranges_move_until_they_are_frozen() -> None:
    x, module = torch.randn(8, 2, 4, 4), small()
    made = wrapped(module, x, freeze=2).train()
    seen = []
    for _ in range(4):
        made(3 * x)
        seen.append(made.ranges.clone())
    assert not torch.equal(seen[0], seen[1])
    assert torch.equal(seen[1], seen[2]) and torch.equal(seen[2], seen[3])
    made.eval()
    made(9 * x)
    assert torch.equal(made.ranges, seen[3])


def test_a_range_moves_by_a_hundredth() -> None:
    x = torch.tensor([[-1.0, 1.0]])
    made = wrapped(nn.Linear(2, 1), x, freeze=5).train()
    assert made.ranges[0].tolist() == [-1.0, 1.0]
    made(torch.tensor([[-3.0, 0.5]]))
    assert made.ranges[0].tolist() == pytest.approx([-1.02, 0.995])


def test_statistics_of_batch_norms_stay() -> None:
    x, module = torch.randn(8, 2, 4, 4), small()
    before = copy.deepcopy(module[1].state_dict())
    made = wrapped(module, x).train()
    made(x).sum().backward()
    after = module[1].state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert module[1].weight.grad is not None  # its scale is learnt, through the fold


def test_a_copy_and_a_pickle_compute_the_same() -> None:
    x = torch.randn(8, 2, 4, 4)
    made = wrapped(small(), x).eval()
    wanted = made(x)
    assert torch.equal(copy.deepcopy(made)(x), wanted)
    assert torch.equal(pickle.loads(pickle.dumps(made))(x), wanted)


def test_the_module_inside_is_left_as_it_is() -> None:
    x, module = torch.randn(8, 2, 4, 4), small()
    before = module(x)
    made = wrapped(module, x).eval()
    made(x)
    assert torch.equal(module(x), before)
    assert not module._forward_hooks and not torch.nn.modules.module._global_forward_hooks
    with pytest.raises(RuntimeError):
        made(torch.randn(8, 5, 4, 4))
    assert not torch.nn.modules.module._global_forward_hooks


def test_what_only_training_does_is_not_rounded() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.layer(x)
            return y * 2000.0 / 2000.0 if self.training else y

    x = torch.randn(4, 3)
    made = wrapped(Noisy(), x, freeze=0)
    assert torch.allclose(made.train()(x), made.eval()(x), rtol=1e-5)


def test_ranges_that_are_not_numbers_are_a_diverged_training() -> None:
    made = wrapped(small(), torch.randn(8, 2, 4, 4))
    made.ranges[1, 1] = float("nan")
    with pytest.raises(GateError, match=r"diverged: the range of '2\.relu'"):
        made.learned()


def test_weights_that_are_not_numbers_are_a_diverged_training() -> None:
    x, module = torch.randn(8, 2, 4, 4), small()
    made = wrapped(module, x).train()
    with torch.no_grad():
        module[4].weight[0, 0] = float("nan")  # type: ignore[index,operator]
    with pytest.raises(GateError, match=r"diverged: 4\.weight"):
        made(x)


def test_a_network_that_runs_away_is_a_diverged_training() -> None:
    x, module = torch.randn(8, 2, 4, 4), small()
    made = wrapped(module, x).train()
    with torch.no_grad():
        module[4].weight.mul_(1e5)  # type: ignore[operator]
    made(x)  # its range is a moving average, which sees it now
    with pytest.raises(GateError, match="diverged: the values of '4"):
        made(x)


def test_a_mutated_range_is_seen() -> None:
    x, module = torch.randn(64, 2, 4, 4), small()
    made = wrapped(module, x).eval()
    with torch.no_grad():
        plain = module(x)
        error = float((made(x) - plain).abs().mean())
        made.ranges[1] /= 4
        assert float((made(x) - plain).abs().mean()) > 5 * error


def test_a_recurrent_layer_has_one_scale_a_gate() -> None:
    torch.manual_seed(0)
    layer = nn.LSTM(3, 4, batch_first=True)
    with torch.no_grad():
        layer.weight_ih_l0[:4] *= 100  # one gate's large weights leave the others their own grid
    x = torch.randn(2, 5, 3)

    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = layer

        def forward(self, x: Tensor) -> Tensor:
            return self.layers(x)[0]  # type: ignore[no-any-return]

    twin = copy.deepcopy(layer)
    with torch.no_grad():
        for name in ("weight_ih_l0", "weight_hh_l0"):
            parts = getattr(twin, name).chunk(4)
            getattr(twin, name).copy_(torch.cat([rounded_weight(part, None) for part in parts]))
    made = wrapped(First(), x).eval()
    made.ranges.copy_(torch.tensor([[-20.0, 20.0], [-1.0, 1.0], [-1.0, 1.0]]))
    step = 40 / 255
    x = torch.round(x / step) * step  # on the grid of the input already
    with torch.no_grad():
        assert float((made(x) - twin(x)[0]).abs().max()) < 0.03  # a zero point off by half a step of the input
