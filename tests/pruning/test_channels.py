"""Channels that leave change nothing but what they carried, in networks of several shapes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from edgekit.errors import UnsupportedError, UsageError
from edgekit.models.checkpoint import load_checkpoint, save_checkpoint
from edgekit.passes import PassError
from edgekit.pruning import channels as prune_channels
from edgekit.pruning.channels import PruneChannels, _width
from edgekit.pruning.groups import Removed
from edgekit.pruning.layers import prove, smaller, zero_channels
from edgekit.pruning.macs import layer_macs
from edgekit.source import resolve
from edgekit.source.module import of_module
from edgekit.types import Card, Network, Signature, Task, TensorSpec


class Plain(nn.Sequential):
    """Convolutions that end in a flattened map: one channel is 16 inputs of the linear layer."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 24, 3, 2, 1), nn.BatchNorm2d(24), nn.SiLU(), nn.Conv2d(24, 32, 3, 2, 1), nn.Sigmoid(),
            nn.Flatten(), nn.Linear(32 * 16, 40), nn.ReLU(), nn.Linear(40, 7),
        )  # fmt: skip


class Depthwise(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 32, 3, 1, 1), nn.ReLU6(), nn.Conv2d(32, 32, 3, 1, 1, groups=32), nn.BatchNorm2d(32),
            nn.Conv2d(32, 48, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 5),
        )  # fmt: skip


class Grouped(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 32, 3, 1, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 1, 1, groups=2), nn.ReLU(), nn.Conv2d(64, 16, 1),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5),
        )  # fmt: skip


class Dense(nn.Module):
    """Concatenation: channels of one layer lie behind those of another in the next one's input."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 24, 3, 1, 1), nn.Conv2d(24, 16, 3, 1, 1)
        self.c, self.head = nn.Conv2d(40, 32, 3, 1, 1), nn.Linear(32, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.a(x))  # (B, 24, H, W)
        x = torch.cat([x, torch.relu(self.b(x))], 1)  # (B, 40, H, W)
        return self.head(torch.relu(self.c(x)).mean((2, 3)))


class Autoencoder(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 32, 3, 2, 1), nn.ReLU(),
            nn.ConvTranspose2d(32, 24, 4, 2, 1), nn.BatchNorm2d(24), nn.ReLU(), nn.ConvTranspose2d(24, 3, 4, 2, 1),
        )  # fmt: skip


def as_network(module: nn.Module, shape: tuple[int, ...] = (1, 3, 16, 16)) -> Network:
    torch.manual_seed(1)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):  # statistics that are not 0 and 1, so that they count
            nn.init.uniform_(layer.running_mean)  # type: ignore[arg-type]
            nn.init.uniform_(layer.weight, 0.5, 2)
    example = np.zeros(shape, np.float32)
    with torch.no_grad():
        out = module.eval()(torch.from_numpy(example))
    signature = Signature((TensorSpec("x", "float32", shape),), (TensorSpec("y", "float32", tuple(out.shape)),))
    return Network(module, {"x": example}, Card("n", "custom", Task(), signature))


@pytest.mark.parametrize("spread", ["even", "global"])
@pytest.mark.parametrize("made", [Plain, Depthwise, Grouped, Dense, Autoencoder])
def test_pruned_is_zeroed(made: Callable[[], nn.Module], spread: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any fine-tuning: the outputs are those of the whole network with the channels at zero, to 1e-5."""
    network = as_network(made())
    seen = {}

    def spy(whole: nn.Module, pruned: nn.Module, gone: Removed, inputs: list[Tensor]) -> None:
        seen["removed"] = gone
        prove(whole, pruned, gone, inputs)

    monkeypatch.setattr(prune_channels, "prove", spy)
    result = PruneChannels(0.4, round_to=8, spread=spread).run(network)
    assert isinstance(result.model, Network)
    assert result.notes == ()
    feed = torch.randn(3, 3, 16, 16)
    with torch.no_grad():
        pruned, zeroed = result.model.module(feed), zero_channels(network.module, seen["removed"])(feed)
        whole = network.module(feed)
    limit = 1e-5 * max(1.0, float(zeroed.abs().max()))  # float32 sums in another order
    assert float((pruned - zeroed).abs().max()) <= limit
    assert float((pruned - whole).abs().max()) > 100 * limit  # the channels did carry something


@pytest.mark.parametrize("amount", [0.2, 0.5, 0.7])
@pytest.mark.parametrize("spread", ["even", "global"])
def test_the_multiply_accumulates_are_gone(network: Network, amount: float, spread: str) -> None:
    result = PruneChannels(amount, spread=spread).run(network)
    assert isinstance(result.model, Network)
    params = result.model.card.steps[-1].params
    inputs = [torch.zeros(1, 1, 8, 8)]
    assert params["macs_before"] == sum(layer_macs(network.module, inputs).values())
    assert params["macs_after"] == sum(layer_macs(result.model.module, inputs).values())
    assert params["macs_after"] <= (1 - amount) * params["macs_before"]
    assert params["parameters_after"] == sum(p.numel() for p in result.model.module.parameters())
    kept = dict(params["kept"])
    assert kept.pop("head") == [10, 10]
    assert all(width % 8 == 0 and 0 < width <= of for width, of in kept.values())


def test_what_rounding_took_too_much_is_given_back() -> None:
    """Two of three steps of 8 would be gone with an equal share; the goal needs but one of them."""
    module = nn.Sequential(
        nn.Conv2d(3, 16, 3, 1, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 1, 1), nn.ReLU(), nn.Conv2d(16, 4, 1)
    )
    budget, _ = PruneChannels(0.2).budget(as_network(module))
    assert sorted(group.channels for group in budget.groups) == [16, 16]
    kept = budget.choose(0.8 * budget.total, 8, "even")
    assert sorted(kept) == [8, 16]
    assert budget.cost(kept) <= 0.8 * budget.total < budget.cost([16, 16])


def test_macs_by_hand() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.Flatten(), nn.Linear(8 * 16, 5))
    assert layer_macs(module, [torch.zeros(1, 3, 8, 8)]) == {"0": 4 * 4 * 8 * 3 * 9, "2": 128 * 5}
    back = nn.ConvTranspose2d(4, 6, 2, 2)
    assert layer_macs(back, [torch.zeros(1, 4, 5, 5)]) == {"": 25 * 4 * 6 * 4}
    lstm = nn.LSTM(3, 5)
    assert layer_macs(lstm, [torch.zeros(7, 1, 3)]) == {"": 7 * 4 * 5 * (3 + 5)}


@pytest.mark.parametrize("batch_first", [True, False])
def test_attention_counts_as_torch_counts_it(batch_first: bool) -> None:
    """Whole encoder layers, which torch would run as one kernel."""
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(16, 4, 32, batch_first=batch_first).eval()
    x = torch.randn(2, 6, 16)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        torch.backends.mha.set_fastpath_enabled(False)
        layer(x)
        torch.backends.mha.set_fastpath_enabled(True)
    assert sum(layer_macs(layer, [x]).values()) == counter.get_total_flops() // 2


def test_an_encoder_is_pruned_around_its_attention() -> None:
    """30% of all multiply-accumulates, those of attention among them."""
    torch.manual_seed(0)
    x = torch.randn(1, 6, 32)
    network = of_module(torch.nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), x)
    params = PruneChannels(0.3).run(network).model.card.steps[-1].params
    before = 4 * 6 * 32 * 32 + 2 * 6 * 6 * 32 + 2 * 6 * 32 * 64
    assert params["macs_before"] == before
    assert before * 0.6 < params["macs_after"] <= before * 0.7


def test_kept_layers_stay_as_wide_as_they_are(network: Network) -> None:
    result = PruneChannels(0.3, keep=("blocks.*.conv2",)).run(network)
    assert isinstance(result.model, Network)
    step = result.model.card.steps[-1]
    assert step.params["keep"] == ["blocks.*.conv2"]
    assert step.params["macs_after"] <= 0.7 * step.params["macs_before"]
    narrower = {name for name, (width, of) in step.params["kept"].items() if width < of}
    assert narrower == {"blocks.0.conv1", "blocks.1.conv1"}  # the others meet a kept one in a sum, or are last


def test_layers_that_cannot_be_kept(network: Network) -> None:
    with pytest.raises(UsageError, match=r"--keep body\.\* is the name of no layer that can lose width; there are: bl"):
        PruneChannels(0.3, keep=("body.*",)).run(network)
    with pytest.raises(UsageError, match="keeps every layer"):
        PruneChannels(0.3, keep=("*",)).run(network)


@pytest.mark.parametrize("amount", [0.0, 1.0, 1.5, -0.1, float("nan")])
def test_amounts_that_make_no_sense(amount: float) -> None:
    with pytest.raises(UsageError, match="above 0 and below 1"):
        PruneChannels(amount)


def test_more_than_there_is(network: Network) -> None:
    with pytest.raises(UsageError, match=r"at most \d+\.\d% of the multiply-accumulates"):
        PruneChannels(0.99).run(network)
    assert PruneChannels(0.95, round_to=1).run(network).changed


def test_nothing_to_prune() -> None:
    with pytest.raises(UnsupportedError, match="no channels can leave"):
        PruneChannels(0.5).run(as_network(nn.Sequential(nn.Flatten(), nn.Linear(3 * 256, 4))))


def test_a_wrong_channel_trips_the_proof(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(module: nn.Module, gone: Removed) -> nn.Module:
        """Another channel of the first convolution leaves than was said."""
        found = {name: dict(sides) for name, sides in gone.items()}
        name = next(n for n in found if n.endswith("conv1") and found[n].get("out"))
        left = [k for k in range(int(_width(module, name))) if k not in found[name]["out"]]
        found[name]["out"] = (*found[name]["out"][1:], left[-1])
        return smaller(module, found)

    monkeypatch.setattr(prune_channels, "smaller", wrong)
    with pytest.raises(PassError, match="outputs differ by"):
        PruneChannels(0.5).run(network)


def test_reloads_without_pickle(network: Network, tmp_path: Path) -> None:
    pruned = PruneChannels(0.5).run(network).model
    assert isinstance(pruned, Network)
    save_checkpoint(pruned, tmp_path / "p.safetensors")
    again = load_checkpoint(tmp_path / "p.safetensors")
    feed = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(again.module(feed), pruned.module(feed), rtol=0, atol=0)
    assert again.card.steps[-1].params["kept"] == pruned.card.steps[-1].params["kept"]


def test_a_users_own_network_reloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom torch import nn\n"
        "def make():\n"
        "    torch.manual_seed(0)\n"
        "    net = nn.Sequential(nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 64, 3),\n"
        "                        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 4))\n"
        "    return net, torch.zeros(1, 3, 12, 12)\n"
    )
    monkeypatch.chdir(tmp_path)
    pruned = PruneChannels(0.5).run(resolve("mine.py:make")).model
    assert isinstance(pruned, Network)
    save_checkpoint(pruned, tmp_path / "p.safetensors")
    again = resolve(str(tmp_path / "p.safetensors"), factory="mine.py:make")
    feed = torch.randn(2, 3, 12, 12)
    with torch.no_grad():
        torch.testing.assert_close(again.module(feed), pruned.module(feed), rtol=0, atol=0)


def test_describe_does_nothing(network: Network) -> None:
    step = PruneChannels(0.25).describe(network)
    assert step.params["amount"] == 0.25
    assert "torch-pruning" in step.versions


@pytest.mark.parametrize("name", ["mlp", "cnn", "rnn", "lstm", "gru", "transformer", "gan", "autoencoder", "detector"])
def test_every_family_is_proved(name: str) -> None:
    """The pass itself compares with zeroed channels and publishes nothing else: on the shipped weights."""
    network = resolve(name)
    result = PruneChannels(0.5).run(network)
    assert isinstance(result.model, Network)
    assert result.notes == ()
    params = result.model.card.steps[-1].params
    assert params["macs_after"] <= 0.5 * params["macs_before"]


def test_whole_heads_leave() -> None:
    network = resolve("transformer")
    pruned = PruneChannels(0.5).run(network).model
    assert isinstance(pruned, Network)
    attention = pruned.module.get_submodule("blocks.0.attention")
    assert attention.out.in_features % attention.head_width == 0  # type: ignore[union-attr,operator]
    assert attention.qkv.out_features == 3 * attention.out.in_features < 3 * 64  # type: ignore[union-attr,operator]
    assert pruned.module.get_submodule("head").in_features == 64  # the stream between the blocks keeps its width


def test_normalisation_over_channels_is_proved() -> None:
    """Layer normalisation counts the channels that stay, in what is compared with."""
    module = nn.Sequential(
        nn.Flatten(),
        nn.Linear(3 * 256, 48),
        nn.LayerNorm(48),
        nn.GELU(),
        nn.Linear(48, 48),
        nn.ReLU(),
        nn.Linear(48, 4),
    )
    nn.init.uniform_(module[2].weight, 0.5, 2)
    result = PruneChannels(0.5).run(as_network(module))
    assert isinstance(result.model, Network)
    assert result.notes == ()
    assert result.model.module.get_submodule("2").normalized_shape[0] < 48
    zeroed = zero_channels(module, {"1": {"out": (0, 1)}, "2": {"out": (0, 1)}})
    x = torch.randn(1, 3, 16, 16)
    part = module[1](x.flatten(1))[:, 2:]
    wanted = (part - part.mean(1)) / torch.sqrt(part.var(1, correction=0) + 1e-5) * module[2].weight[2:]
    torch.testing.assert_close(zeroed[:3](x)[:, 2:], wanted + module[2].bias[2:], rtol=0, atol=1e-5)  # float32 sums
    assert not zeroed[:3](x)[:, :2].any()


def test_rows_cut_into_maps_leave_with_their_channel() -> None:
    module = nn.Sequential(
        nn.Flatten(),
        nn.Linear(3 * 256, 32 * 4),
        nn.ReLU(),
        nn.Unflatten(1, (-1, 2, 2)),
        nn.ConvTranspose2d(32, 3, 2, 2),
    )
    pruned = PruneChannels(0.5).run(as_network(module)).model
    assert isinstance(pruned, Network)
    assert pruned.module.get_submodule("1").out_features == 4 * pruned.module.get_submodule("4").in_channels == 64  # type: ignore[operator]
    module[3] = nn.Unflatten(1, (32, 2, 2))  # a module that says its sizes is taken at its word
    with pytest.raises(UnsupportedError, match="no channels can leave"):
        PruneChannels(0.5).run(as_network(module))


class OfMaps(nn.LayerNorm):
    """Layer normalisation over the channels of maps, as timm has it."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class Heads(nn.Module):
    """Attention that reshapes to the number of heads it was built with."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads, self.qkv, self.proj = 4, nn.Linear(32, 96), nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).reshape(x.shape[0], -1, 3, self.num_heads, 8).permute(2, 0, 3, 1, 4)
        mixed = (q @ k.transpose(-1, -2)).softmax(-1) @ v
        return self.proj(mixed.transpose(1, 2).reshape(x.shape))


def test_normalisation_of_maps_is_proved() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 48, 3, 1, 1), OfMaps(48), nn.GELU(), nn.Conv2d(48, 32, 1), nn.ReLU(), nn.Conv2d(32, 4, 1)
    )
    result = PruneChannels(0.5).run(as_network(module))
    assert isinstance(result.model, Network)
    assert result.model.module.get_submodule("0").out_channels < 48


def test_heads_of_others_are_left_and_named() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention, self.up, self.down = Heads(), nn.Linear(32, 64), nn.Linear(64, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.down(torch.relu(self.up(self.attention(x)))).mean(1)

    result = PruneChannels(0.2).run(as_network(Net(), (1, 9, 32)))
    assert isinstance(result.model, Network)
    assert result.notes == ("attention (Heads) is left as it is: its widths are cut into heads",)
    assert result.model.module.get_submodule("attention.qkv").out_features == 96
    assert result.model.module.get_submodule("up").out_features < 64
