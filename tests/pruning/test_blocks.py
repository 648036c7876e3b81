"""Residual blocks leave whole where the shortcut is the identity, and only there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekit.errors import ModelError, UnsupportedError, UsageError
from edgekit.models.checkpoint import load_checkpoint, save_checkpoint
from edgekit.models.cnn import ResidualBlock
from edgekit.models.skipped import Skipped, skip_blocks
from edgekit.passes import PassError
from edgekit.pruning import blocks as prune_blocks
from edgekit.pruning.blocks import PruneBlocks, without_branches
from edgekit.pruning.channels import PruneChannels, examples
from edgekit.pruning.layers import noise
from edgekit.pruning.macs import layer_macs
from edgekit.source import resolve
from edgekit.types import Card, Network, Signature, Task, TensorSpec


class Inverted(nn.Module):
    """MobileNet's block: nothing follows the sum."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, 3 * width, 1), nn.BatchNorm2d(3 * width), nn.ReLU6(),
            nn.Conv2d(3 * width, 3 * width, 3, 1, 1, groups=3 * width), nn.ReLU6(), nn.Conv2d(3 * width, width, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Encoder(nn.Module):
    """A transformer's block, normalised before each branch, or after each sum."""

    def __init__(self, width: int, *, before: bool) -> None:
        super().__init__()
        self.before = before
        self.norm, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor, scale: Tensor) -> Tensor:
        if self.before:
            return x + scale * self.down(torch.relu(self.up(self.norm(x))))
        return self.norm(x + scale * self.down(torch.relu(self.up(x))))


class Encoders(nn.Module):
    def __init__(self, *, before: bool = True) -> None:
        super().__init__()
        self.first = nn.Linear(3, 24)
        self.blocks = nn.ModuleList(Encoder(24, before=before) for _ in range(3))
        self.head = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x.flatten(2).transpose(1, 2))
        for block in self.blocks:
            y = block(y, torch.ones(1))
        return self.head(y.mean(1))


def residual() -> nn.Module:
    """The first block's input is of both signs, so that its ReLU has to stay; the others' input comes of a ReLU."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 1, 1), ResidualBlock(16, 16, 1), nn.Sequential(ResidualBlock(16, 16, 1)),
        ResidualBlock(16, 24, 2), ResidualBlock(24, 24, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 4),
    )  # fmt: skip


def inverted() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU6(), Inverted(8), Inverted(8), nn.Flatten(), nn.Linear(512, 4)
    )


def as_network(module: nn.Module, shape: tuple[int, ...] = (1, 3, 16, 16)) -> Network:
    torch.manual_seed(1)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):  # statistics that are not 0 and 1, so that they count
            for tensor in (layer.running_mean, layer.weight, layer.bias):
                nn.init.uniform_(tensor, 0.5, 2)  # type: ignore[arg-type]
    example = np.zeros(shape, np.float32)
    with torch.no_grad():
        out = module.eval()(torch.from_numpy(example))
    signature = Signature((TensorSpec("x", "float32", shape),), (TensorSpec("y", "float32", tuple(out.shape)),))
    return Network(module, {"x": example}, Card("n", "custom", Task(), signature))


def pruned_of(network: Network, pruner: PruneBlocks) -> Network:
    made = pruner.run(network).model
    assert isinstance(made, Network)
    return made


FOUND = {
    residual: {"1": "relu", "2.0": "identity", "4": "identity"},
    inverted: {"2": "identity", "3": "identity"},
    Encoders: {"blocks.0": "identity", "blocks.1": "identity", "blocks.2": "identity"},
}


@pytest.mark.parametrize("made", FOUND, ids=lambda made: made.__name__)
def test_blocks_are_found_and_pruned_is_zeroed(made: Callable[[], nn.Module]) -> None:
    """Before any fine-tuning: the outputs are those of the whole network with the branch at zero, to 1e-5."""
    network = as_network(made())
    blocks, total = PruneBlocks(0.1).blocks(network)
    assert {block.name: block.left for block in blocks} == FOUND[made]
    assert total == sum(layer_macs(network.module, examples(network)).values())
    pruner = PruneBlocks((1 - 1e-9) * PruneBlocks(0.1).most(network))
    pruned = pruned_of(network, pruner)
    assert pruner.choice(network) == list(FOUND[made]) == list(pruned.card.config["skipped"])
    feed = torch.randn(3, 3, 16, 16)
    with torch.no_grad():
        found, zeroed = pruned.module(feed), without_branches(network.module, FOUND[made])(feed)
        whole = network.module(feed)
    limit = 1e-5 * max(1.0, float(zeroed.abs().max()))  # float32 sums in another order
    assert float((found - zeroed).abs().max()) <= limit
    assert float((found - whole).abs().max()) > 100 * limit  # the branches did carry something
    params = pruned.card.steps[-1].params
    assert params["macs_before"] - params["macs_after"] == sum(block.macs for block in blocks)
    assert params["parameters_after"] == sum(p.numel() for p in pruned.module.parameters())


def test_a_block_that_is_not_zero_without_its_branch_trips_the_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(module: nn.Module, skipped: dict[str, str]) -> None:
        """The ReLU that has to stay leaves too."""
        skip_blocks(module, dict.fromkeys(skipped, "identity"))

    monkeypatch.setattr(prune_blocks, "skip_blocks", wrong)
    with pytest.raises(PassError, match="pass prune-blocks: outputs differ by"):
        PruneBlocks(0.1, keep=("2.0", "4")).run(as_network(residual()))


class Fixed(nn.Module):
    """Residual blocks that cannot leave: one runs twice, one adds its input scaled, one adds a place to it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.twice = nn.Conv2d(3, 8, 3, 1, 1), Inverted(8)
        self.scaled, self.head = Scaled(), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.scaled(self.twice(self.twice(self.stem(x)))).mean((2, 3)))


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(8, 8, 3, 1, 1), nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * x + self.b(self.a(x))


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: Encoders(before=False), r"blocks\.0 \(Encoder\) has no identity shortcut"),
        (Fixed, r"scaled \(Scaled\) has no identity shortcut"),
        (Fixed, r"twice \(Inverted\) runs 2 times"),
        (lambda: nn.Sequential(ResidualBlock(3, 8, 2), nn.Flatten(), nn.Linear(512, 4)),
         r"0 \(ResidualBlock\) takes \(1, 3, 16, 16\) and gives \(1, 8, 8, 8\)"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(768, 4)), "no block can leave this network"),
    ],
)  # fmt: skip
def test_without_an_identity_shortcut_it_is_refused(made: Callable[[], nn.Module], said: str) -> None:
    with pytest.raises(UnsupportedError, match=said):
        PruneBlocks(0.1).run(as_network(made()))


class Nosy(nn.Module):
    """A forward that looks inside a block."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block, self.head = nn.Conv2d(3, 8, 3, 1, 1), Inverted(8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.stem(x)).mean((2, 3))) * self.block.body[0].weight.shape[0]


def test_a_forward_that_looks_inside_a_block_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="Its forward looks inside a block"):
        PruneBlocks(0.1).run(as_network(Nosy()))


def test_what_is_kept_stays() -> None:
    network = as_network(residual())
    pruned = pruned_of(network, PruneBlocks(0.1, keep=("2.*", "4")))
    assert pruned.card.config["skipped"] == {"1": "relu"}
    assert pruned.card.steps[-1].params["keep"] == ["2.*", "4"]
    with pytest.raises(UsageError, match=r"--keep 3 is the name of no block that can leave; there are: 1, 2\.0, 4"):
        PruneBlocks(0.1, keep=("3",)).run(network)
    with pytest.raises(UsageError, match="keeps every block"):
        PruneBlocks(0.1, keep=("*",)).run(network)
    with pytest.raises(UsageError, match=r"at most \d+\.\d% of them leave; ask for less"):
        PruneBlocks(0.9, keep=("4",)).run(network)


def test_the_block_that_changes_least_for_its_work_leaves() -> None:
    network = as_network(inverted())
    with torch.no_grad():
        for parameter in network.module[3].parameters():  # type: ignore[index]
            parameter.mul_(0.1)
    blocks, _ = PruneBlocks(0.1).blocks(network)
    assert blocks[1].change < 0.1 * blocks[0].change
    assert PruneBlocks(0.1).choice(network) == ["3"]
    chance = {tuple(PruneBlocks(0.1, importance="random", seed=seed).choice(network)) for seed in range(8)}
    assert chance == {("2",), ("3",)}
    x = noise(examples(network))[0]
    with torch.no_grad():
        given = network.module[:3](x)  # type: ignore[index]
        branch = network.module[3].body(given)  # type: ignore[index]
    assert blocks[1].change == pytest.approx(float(branch.square().sum() / given.square().sum()), rel=1e-5)
    other = [torch.full((2, 3, 16, 16), 3.0)]
    measured, _ = PruneBlocks(0.1, feed=other).blocks(network)
    assert measured[1].change != pytest.approx(blocks[1].change, rel=1e-3)


@pytest.mark.parametrize("importance", ["taylor", "bn-scale", "most"])
def test_importances_of_channels(importance: str) -> None:
    with pytest.raises(UsageError, match="whole blocks go by one of: magnitude, random"):
        PruneBlocks(0.5, importance=importance)


@pytest.mark.parametrize("amount", [0.0, 1.0, float("nan")])
def test_amounts_that_make_no_sense(amount: float) -> None:
    with pytest.raises(UsageError, match="above 0 and below 1"):
        PruneBlocks(amount)


@pytest.mark.parametrize("name", ["cnn", "transformer"])
def test_shipped_networks_and_their_checkpoints(name: str, tmp_path: Path) -> None:
    """Then channels too, of what is left; both are found again without pickle."""
    network = resolve(name)
    pruned = pruned_of(network, PruneBlocks(0.25))
    assert len(pruned.card.config["skipped"]) == 1
    both = PruneChannels(0.25).run(pruned).model
    assert isinstance(both, Network)
    for k, made in enumerate((pruned, both)):
        save_checkpoint(made, tmp_path / f"{k}.safetensors")
        again = load_checkpoint(tmp_path / f"{k}.safetensors")
        feed = noise(examples(network))
        with torch.no_grad():
            torch.testing.assert_close(again.module(*feed), made.module(*feed), rtol=0, atol=0)
        assert sum(isinstance(layer, Skipped) for layer in again.module.modules()) == 1
    rest = pruned_of(pruned, PruneBlocks(0.25))  # the other block, from a network that has lost one
    assert len(rest.card.config["skipped"]) == 2
    with pytest.raises(UnsupportedError, match="no block can leave"):
        PruneBlocks(0.25).run(rest)


def test_a_users_own_network_reloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom torch import nn\n"
        "class Block(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.a, self.b = nn.Conv2d(8, 32, 3, 1, 1), nn.Conv2d(32, 8, 3, 1, 1)\n"
        "    def forward(self, x):\n"
        "        return x + self.b(torch.relu(self.a(x)))\n"
        "def make():\n"
        "    torch.manual_seed(0)\n"
        "    net = nn.Sequential(nn.Conv2d(3, 8, 3), Block(), Block(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),\n"
        "                        nn.Linear(8, 4))\n"
        "    return net, torch.zeros(1, 3, 12, 12)\n"
    )
    monkeypatch.chdir(tmp_path)
    pruned = pruned_of(resolve("mine.py:make"), PruneBlocks(0.3))
    save_checkpoint(pruned, tmp_path / "p.safetensors")
    again = resolve(str(tmp_path / "p.safetensors"), factory="mine.py:make")
    feed = torch.randn(2, 3, 12, 12)
    with torch.no_grad():
        torch.testing.assert_close(again.module(feed), pruned.module(feed), rtol=0, atol=0)
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom torch import nn\ndef make():\n    return nn.Linear(4, 4), torch.zeros(1, 4)\n"
    )
    with pytest.raises(ModelError, match="was pruned, but the network has no such block now"):
        resolve(str(tmp_path / "p.safetensors"), factory="mine.py:make")


def test_what_is_left_is_known() -> None:
    with pytest.raises(ModelError, match="'swish' is left, which this version does not support"):
        skip_blocks(inverted(), {"2": "swish"})


def test_describe_does_nothing() -> None:
    step = PruneBlocks(0.25, keep=("a",)).describe(as_network(inverted()))
    assert step.params == {"method": "blocks", "amount": 0.25, "importance": "magnitude", "keep": ["a"]}
