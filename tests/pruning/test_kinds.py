"""Kinds of networks that cut, cat, reshape or normalise what a layer gives: pruned right, or left with the reason.

The reference is torch alone: which channels left is read off the biases that stay, and those are zero in the whole
network.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from edgekit.adapter import adapt
from edgekit.errors import UnsupportedError, UsageError
from edgekit.models.fit import fit_shapes
from edgekit.passes import PassError
from edgekit.pruning import discovery as prune_find
from edgekit.pruning.blocks import PruneBlocks
from edgekit.pruning.channels import PruneChannels
from edgekit.pruning.groups import Removed
from edgekit.pruning.layers import smaller
from edgekit.pruning.weights import PruneMagnitude, PruneTwoOfFour, kept_at_zero, zeros
from edgekit.types import Card, Network, Task

Forward = Callable[[Any, Tensor], Tensor]
IMAGE = (1, 3, 6, 6)


def net(forward: Forward, **layers: nn.Module) -> nn.Module:
    """A module of ``layers`` with the given forward."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, layer in layers.items():
                self.add_module(name, layer)

        def forward(self, x: Tensor) -> Tensor:
            return forward(self, x)

    return Net()


def conv(inputs: int, outputs: int, kernel: int = 3, **more: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **more)


def network(module: nn.Module, *examples: Tensor, **named: Tensor) -> Network:
    module, inputs, signature = adapt(module, examples, named)
    return Network(module, inputs, Card("n", "custom", Task(), signature))


def permuted(m: Any, x: Tensor) -> Tensor:
    x = F.relu(m.b(F.relu(m.a(x))))
    return m.fc(x.permute(0, 2, 3, 1).contiguous().view(x.size(0), -1))


def written_out(m: Any, x: Tensor) -> Tensor:
    x = F.relu(m.b(F.relu(m.a(x))))
    return m.fc(x.permute(0, 2, 3, 1).reshape(-1, 32 * PLACES))


def windows(m: Any, x: Tensor) -> Tensor:
    """Four steps of time into one row of a linear layer."""
    x = F.relu(m.a(x.flatten(2))).transpose(1, 2)
    return m.o(F.relu(m.b(x.reshape(x.shape[0], -1, 4 * x.shape[2]))).mean(1))


def chunked(m: Any, x: Tensor) -> Tensor:
    u, v = F.relu(m.a(x)).chunk(2, 1)
    return m.fc(torch.cat([m.b(u), m.c(v)], 1).mean((2, 3)))


def swapped(m: Any, x: Tensor) -> Tensor:
    """Both halves are read by one layer, the second one first."""
    u, v = F.relu(m.a(x)).chunk(2, 1)
    return m.fc(F.relu(m.b(torch.cat([v, u], 1))).mean((2, 3)))


def stacked(m: Any, x: Tensor) -> Tensor:
    """The block of YOLOv8: halves, a chain behind one of them, all of it side by side."""
    parts = list(F.relu(m.a(x)).chunk(2, 1))
    parts.append(F.relu(m.b(parts[-1])))
    return m.fc(m.c(torch.cat(parts, 1)).mean((2, 3)))


def gated(m: Any, x: Tensor) -> Tensor:
    u, v = m.a(x).chunk(2, 1)
    return m.fc(F.glu(m.b(u * v.tanh()), 1).mean((2, 3)))


def shuffled(m: Any, x: Tensor) -> Tensor:
    """ShuffleNet: half goes on as it is, and the channels of both are dealt out in turn."""
    u, v = F.relu(m.a(x)).chunk(2, 1)
    x = torch.cat([u, m.c(F.relu(m.b(v)))], 1)
    n, c, h, w = x.shape
    return m.fc(x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, -1, h, w).mean((2, 3)))


def split(m: Any, x: Tensor) -> Tensor:
    u, v = torch.split(F.relu(m.a(x)), [16, 48], 1)
    return m.fc((m.b(u) + m.c(v)).mean((2, 3)))


def sliced(m: Any, x: Tensor) -> Tensor:
    x = F.relu(m.a(x))
    return m.fc(F.relu(m.c(torch.cat([m.b(x[:, :16]), x[:, 16:]], 1))).mean((2, 3)))


def cat_then_flat(m: Any, x: Tensor) -> Tensor:
    return m.o(F.relu(m.fc(torch.cat([F.relu(m.a(x)), F.relu(m.b(x))], 1).flatten(1))))


def flat_then_cat(m: Any, x: Tensor) -> Tensor:
    return m.o(F.relu(m.fc(torch.cat([F.relu(m.a(x)).flatten(1), F.relu(m.b(x)).flatten(1)], 1))))


def in_a_row(m: Any, x: Tensor) -> Tensor:
    return m.fc(F.relu(m.b(F.relu(m.a(x)))).mean((2, 3)))


def hard_coded(m: Any, x: Tensor) -> Tensor:
    x = F.relu(m.a(x)).reshape(x.shape[0], 32, *x.shape[2:])
    return m.fc(F.relu(m.b(x)).mean((2, 3)))


class Mixer(nn.Module):
    """A layer of the user's own, with a weight of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(32, 32) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("nchw,oc->nohw", x, self.weight)


def mixed(m: Any, x: Tensor) -> Tensor:
    return m.fc(F.relu(m.b(F.relu(m.mix(F.relu(m.a(x)))))).mean((2, 3)))


def images(
    forward: Forward, *layers: tuple[int, int] | tuple[int, int, int], head: int, **more: nn.Module
) -> nn.Module:
    """Convolutions ``a``, ``b``, … of (inputs, outputs, kernel), the layers ``more``, a linear layer ``fc``."""
    named: dict[str, nn.Module] = {"abc"[k]: conv(*sizes) for k, sizes in enumerate(layers)}
    return net(forward, **named, **more, fc=nn.Linear(head, 10))


PLACES = IMAGE[2] * IMAGE[3]
KINDS: dict[Forward, tuple[Callable[[], nn.Module], dict[str, int]]] = {
    # the network, and the widths of those of its layers that get narrower
    permuted: (lambda: images(permuted, (3, 32), (32, 32), head=32 * PLACES), {"a": 32, "b": 32}),
    windows: (
        lambda: net(windows, a=nn.Conv1d(3, 32, 3, padding=1), b=nn.Linear(128, 64), o=nn.Linear(64, 3)),
        {"a": 32, "b": 64},
    ),
    chunked: (lambda: images(chunked, (3, 64), (32, 32), (32, 32, 1), head=64), {"a": 64, "b": 32, "c": 32}),
    swapped: (lambda: images(swapped, (3, 64), (64, 32), head=32), {"a": 64, "b": 32}),
    stacked: (lambda: images(stacked, (3, 64), (32, 32), (96, 32, 1), head=32), {"a": 64, "b": 32, "c": 32}),
    gated: (lambda: images(gated, (3, 64), (32, 64), head=32), {"a": 64, "b": 64}),
    shuffled: (lambda: images(shuffled, (3, 64), (32, 32), (32, 32, 1), head=64), {"a": 64, "b": 32, "c": 32}),
    cat_then_flat: (
        lambda: net(cat_then_flat, a=conv(3, 16), b=conv(3, 32), fc=nn.Linear(48 * PLACES, 64), o=nn.Linear(64, 10)),
        {"a": 16, "b": 32, "fc": 64},
    ),
    flat_then_cat: (
        lambda: net(
            flat_then_cat,
            a=conv(3, 16),
            b=conv(3, 32, stride=2),
            fc=nn.Linear(16 * PLACES + 8 * PLACES, 64),
            o=nn.Linear(64, 10),
        ),
        {"a": 16, "b": 32, "fc": 64},
    ),
    split: (lambda: images(split, (3, 64), (16, 32), (48, 32, 1), head=32), {"b": 32, "c": 32}),
    sliced: (lambda: images(sliced, (3, 64), (16, 16), (64, 32, 1), head=32), {"a": 64, "b": 16, "c": 32}),
    written_out: (lambda: images(written_out, (3, 32), (32, 32), head=32 * PLACES), {"a": 32}),
    hard_coded: (lambda: images(hard_coded, (3, 32), (32, 32), head=32), {"b": 32}),
    mixed: (lambda: images(mixed, (3, 32), (32, 32), head=32, mix=Mixer()), {"b": 32}),
}
NOTES = {
    split: "a (Conv2d) is left as it is: without some of the channels the network fails (RuntimeError: split_with",
    sliced: "some channels of a (Conv2d) stay: without them the network fails",
    written_out: "b (Conv2d) is left as it is: without some of the channels the network fails (RuntimeError: shape",
    hard_coded: "a (Conv2d) is left as it is: without some of the channels the network fails",
    mixed: "a (Conv2d) is left as it is: what the channels go through mixes all of them",
}


@torch.no_grad()
def with_zeros(whole: nn.Module, pruned: nn.Module) -> dict[str, int]:
    """Makes the channels of ``whole`` zero whose biases ``pruned`` no longer has; gives the widths of those layers."""
    found = {}
    for name, layer in whole.named_modules():
        if not isinstance(layer, (nn.modules.conv._ConvNd, nn.Linear)):
            continue
        assert layer.bias is not None
        stay = set(pruned.get_submodule(name).bias.tolist())  # type: ignore[operator,union-attr]
        gone = [k for k, value in enumerate(layer.bias.tolist()) if value not in stay]
        if gone:
            found[name] = len(layer.bias)
            layer.bias[gone] = 0
            layer.weight.index_fill_(int(isinstance(layer, nn.modules.conv._ConvTransposeNd)), torch.tensor(gone), 0)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_pruned_is_zeroed_or_left_with_the_reason(kind: Forward) -> None:
    make, narrower = KINDS[kind]
    torch.manual_seed(0)
    module = make()
    result = PruneChannels(0.3).run(network(module, torch.randn(IMAGE)))
    assert isinstance(result.model, Network)
    assert len(result.notes) == (kind in NOTES) and result.notes[0:1] == tuple(
        note for note in result.notes if note.startswith(NOTES[kind])
    )
    pruned = result.model.module
    kept = {name: of for name, (width, of) in result.model.card.steps[-1].params["kept"].items() if width < of}
    assert with_zeros(module, pruned) == kept
    assert set(kept) <= set(narrower)
    most = PruneChannels(PruneChannels(0.3).most(result.model) * 0.99).run(result.model)  # and again, as far as it goes
    assert isinstance(most.model, Network)
    feed = torch.randn(3, *IMAGE[1:])
    with torch.no_grad():
        torch.testing.assert_close(pruned(feed), module(feed), rtol=0, atol=1e-5)  # float32 sums in another order
        with_zeros(module, most.model.module)
        torch.testing.assert_close(most.model.module(feed), module(feed), rtol=0, atol=1e-5)
    widths = most.model.card.steps[-1].params["kept"]
    assert {name for name in narrower if widths[name][0] < narrower[name]} == set(narrower)


def old(layer: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(layer)


def one_length(layer: Any) -> Any:
    return parametrizations.weight_norm(layer, dim=None)


def audio(m: Any, x: Tensor) -> Tensor:
    return m.fc(F.leaky_relu(m.t(F.leaky_relu(m.b(F.leaky_relu(m.a(x.flatten(2))))))).mean(-1))


def vocoder(norm: Callable[[nn.Module], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return net(audio, a=norm(nn.Conv1d(3, 32, 3, padding=1)), b=norm(nn.Conv1d(32, 32, 3, padding=1)),
               t=norm(nn.ConvTranspose1d(32, 16, 4, 2, 1)), fc=norm(nn.Linear(16, 5)))  # fmt: skip


NORMS = [old, parametrizations.weight_norm, one_length]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("importance", ["magnitude", "taylor"])
def test_normalised_weights(norm: Callable[[nn.Module], nn.Module], importance: str) -> None:
    """The same network as with plain weights, under the names that the user's code gives the tensors."""
    normed, plain = vocoder(norm), vocoder(lambda layer: layer)
    gradients = {name: torch.randn(p.shape) for name, p in plain.named_parameters()}
    before = {name: value.clone() for name, value in normed.state_dict().items()}
    made = [
        PruneChannels(0.4, importance=importance, gradients=gradients).run(network(m, torch.randn(IMAGE))).model
        for m in (normed, plain)
    ]
    assert isinstance(made[0], Network) and isinstance(made[1], Network)
    assert made[0].module.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in normed.state_dict().items())
    assert made[0].card.steps[-1].params["kept"] == made[1].card.steps[-1].params["kept"]
    feed = torch.randn(2, *IMAGE[1:])
    with torch.no_grad():
        torch.testing.assert_close(made[0].module(feed), made[1].module(feed), rtol=0, atol=1e-5)  # v / |v| is rounded
        again = vocoder(norm)  # the way a checkpoint is loaded
        assert fit_shapes(again, made[0].module.state_dict())
        again.load_state_dict(made[0].module.state_dict())
        torch.testing.assert_close(again(feed), made[0].module(feed), rtol=0, atol=0)
    again.train()(feed).sum().backward()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("what", [PruneMagnitude(0.5), PruneMagnitude(0.5, "global"), PruneTwoOfFour()])
def test_single_weights_of_normalised_layers(
    norm: Callable[[nn.Module], nn.Module], what: PruneMagnitude | PruneTwoOfFour
) -> None:
    normed, plain = vocoder(norm), vocoder(lambda layer: layer)
    made = [what.run(network(m, torch.randn(IMAGE))).model for m in (normed, plain)]
    assert isinstance(made[0], Network) and isinstance(made[1], Network)
    assert zeros(made[0].module) == zeros(made[1].module) > 0
    feed = torch.randn(2, *IMAGE[1:])
    with torch.no_grad():
        torch.testing.assert_close(made[0].module(feed), made[1].module(feed), rtol=0, atol=1e-5)  # v / |v| is rounded
    count, trained = zeros(made[0].module), made[0].module.train()
    with kept_at_zero(trained):
        optimizer = torch.optim.SGD([p for p in trained.parameters() if p.requires_grad], 0.1)
        trained(feed).square().sum().backward()
        optimizer.step()
    assert zeros(trained) == count


def test_a_normalised_channel_without_weights_is_refused() -> None:
    module = net(in_a_row, a=parametrizations.weight_norm(conv(3, 8)), b=conv(8, 8), fc=nn.Linear(8, 2))
    with torch.no_grad():
        module.a.parametrizations.weight.original0[3] *= 1e-6  # type: ignore[union-attr,index,operator]
    with pytest.raises(PassError, match="every weight of a channel of a would be zero"):
        PruneMagnitude(0.3).run(network(module, torch.randn(IMAGE)))


def test_a_weight_that_is_computed_otherwise_is_left_and_named() -> None:
    module = net(in_a_row, a=parametrizations.spectral_norm(conv(3, 32)), b=conv(32, 32), fc=nn.Linear(32, 2))
    result = PruneChannels(0.3).run(network(module.eval(), torch.randn(IMAGE)))
    assert isinstance(result.model, Network)
    assert result.notes == ("a (ParametrizedConv2d) is left as it is: its weight is computed from other tensors "
                            "(spectral_norm, or a parametrization of your own)",)  # fmt: skip


class NormedBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = old(conv(8, 8)), parametrizations.weight_norm(conv(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.b(torch.relu(self.a(x)))


def test_blocks_of_normalised_layers() -> None:
    module = nn.Sequential(conv(3, 8), NormedBlock(), NormedBlock(), nn.Flatten(), nn.Linear(8 * PLACES, 4))
    pruned = PruneBlocks(0.3).run(network(module, torch.randn(IMAGE))).model
    assert isinstance(pruned, Network)
    assert len(pruned.card.config["skipped"]) == 1


class Attention(nn.Module):
    """Reshapes to the number of heads it was built with."""

    def __init__(self) -> None:
        super().__init__()
        self.n_heads, self.q, self.k, self.v, self.o = 4, *(nn.Linear(32, 32) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).view(*x.shape[:2], self.n_heads, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        return self.o(((q @ k.mT).softmax(-1) @ v).transpose(1, 2).flatten(2))


class Encoder(nn.Module):
    """Keeps the number of heads for its attention, and is not an attention itself."""

    def __init__(self) -> None:
        super().__init__()
        self.n_heads, self.attention = 4, Attention()
        self.up, self.down, self.head = nn.Linear(32, 64), nn.Linear(64, 32), nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x)
        return self.head((x + self.down(F.gelu(self.up(x)))).mean(1))


def test_a_number_of_heads_alone_makes_no_attention() -> None:
    module = net(
        lambda m, x: m.c(F.relu(m.b(F.relu(m.a(x))))), a=nn.Linear(16, 64), b=nn.Linear(64, 64), c=nn.Linear(64, 5)
    )
    module.n_heads = 4  # type: ignore[assignment]
    result = PruneChannels(0.4).run(network(module, torch.randn(1, 16)))
    assert isinstance(result.model, Network)
    assert result.notes == ()
    result = PruneChannels(0.1).run(network(Encoder(), torch.randn(1, 6, 32)))
    assert isinstance(result.model, Network)
    assert result.notes == ("attention (Attention) is left as it is: its widths are cut into heads",)
    assert result.model.module.get_submodule("up").out_features < 64  # type: ignore[operator]
    with pytest.raises(UnsupportedError, match=r"k \(Linear\), q \(Linear\) and v \(Linear\) are left as they are"):
        PruneChannels(0.1).run(network(Attention(), torch.randn(1, 6, 32)))


class Keywords(nn.Module):
    """An adapter stands in front of it, whose name is not the user's."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(16, 32), nn.Linear(32, 4)
        self.block = net(lambda m, x: x + m.b(torch.relu(m.a(x))), a=nn.Linear(32, 30), b=nn.Linear(30, 32))

    def forward(self, *, x: Tensor) -> dict[str, Tensor]:
        return {"y": self.head(self.block(torch.relu(self.stem(x))))}


def test_names_are_those_of_the_users_network() -> None:
    made = network(Keywords(), x=torch.randn(1, 16))
    result = PruneChannels(0.1, keep=("stem",), round_to=1).run(made)
    assert isinstance(result.model, Network)
    assert set(result.model.card.steps[-1].params["kept"]) == {"stem", "head", "block.a", "block.b"}
    with pytest.raises(UsageError, match=r"there are: block\.a, block\.b, stem"):
        PruneChannels(0.1, keep=("module.stem",)).run(made)
    result = PruneBlocks(0.1).run(made)
    assert isinstance(result.model, Network)
    assert result.model.card.steps[-1].params["blocks"] == ["block"]
    assert "left dense, the number of inputs is not a multiple of 4: block.b.weight" in PruneTwoOfFour().run(made).notes


def test_a_layer_that_fails_at_its_width_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tried with other widths than it has in the end, it may still be wrong there: refused, and it is told which."""
    monkeypatch.setattr(prune_find, "failure", lambda *_: "")

    def wrong(module: nn.Module, gone: Removed) -> nn.Module:
        made = smaller(module, gone)
        with torch.no_grad():
            if "out" in gone.get("b", {}):
                made.get_submodule("b").bias += 1  # type: ignore[operator]
        return made

    monkeypatch.setattr("edgekit.pruning.channels.smaller", wrong)
    monkeypatch.setattr(prune_find, "smaller", wrong)
    module = net(in_a_row, a=conv(3, 32), b=conv(32, 32), fc=nn.Linear(32, 4))
    with pytest.raises(PassError, match=r"^b \(Conv2d\): with \d+ of 32 channels outputs differ.*--keep"):
        PruneChannels(0.5).run(network(module, torch.randn(IMAGE)))
