"""Hidden units that leave recurrent layers, in several layers, directions and networks around them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekit.errors import UnsupportedError
from edgekit.models.checkpoint import load_checkpoint, save_checkpoint
from edgekit.models.recurrent import recurrent
from edgekit.passes import PassError
from edgekit.pruning import channels as prune_channels
from edgekit.pruning import layers as prune_layers
from edgekit.pruning.channels import PruneChannels
from edgekit.pruning.groups import Removed
from edgekit.pruning.layers import Slots, zero_channels
from edgekit.source import resolve
from edgekit.types import Card, Network, Signature, Task, TensorSpec

SHAPE = (1, 9, 6)


def as_network(module: nn.Module, config: dict[str, object] | None = None) -> Network:
    example = np.zeros(SHAPE, np.float32)
    with torch.no_grad():
        out = module.eval()(torch.from_numpy(example))
    signature = Signature((TensorSpec("x", "float32", SHAPE),), (TensorSpec("y", "float32", tuple(out.shape)),))
    return Network(module, {"x": example}, Card("n", "custom", Task(), signature, config=config or {}))


class Around(nn.Module):
    """A convolution, an LSTM, a normalisation, a GRU in both directions, and a head on its last states."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.lstm, self.norm = nn.Conv1d(6, 24, 3, padding=1), nn.LSTM(24, 32), nn.LayerNorm(32)
        self.gru, self.head = nn.GRU(32, 24, 2, batch_first=True, bidirectional=True), nn.Linear(48, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.conv(x.transpose(1, 2)))  # (B, 24, T)
        y, _ = self.lstm(y.permute(2, 0, 1))  # (T, B, 32)
        _, last = self.gru(self.norm(torch.relu(y)).transpose(0, 1))  # (4, B, 24)
        return self.head(torch.cat([last[-2], last[-1]], 1))


class Residual(nn.Module):
    """What the LSTM says is added to what it heard: their channels are tied."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.lstm, self.head = nn.Linear(6, 32), nn.LSTM(32, 32, batch_first=True), nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.up(x))
        return self.head((y + self.lstm(y)[0]).mean(1))


class Summed(nn.Module):
    """Directions are added up: unit k of one is tied to unit k of the other."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.RNN(6, 32, batch_first=True, bidirectional=True, nonlinearity="relu"), nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        forward, backward = self.rnn(x)[0].chunk(2, -1)
        return self.head((forward + backward)[:, -1])


class Cells(nn.Module):
    """The state of the cell is read as well."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(6, 32, 2, batch_first=True), nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        states, (_, cell) = self.lstm(x)
        return self.head(torch.cat([states[:, -1], cell[-1]], 1))


class Attended(nn.Module):
    """Time steps are weighed by an attention of one head, computed from the states themselves (Bahdanau 2015)."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.energy = nn.LSTM(6, 32, batch_first=True, bidirectional=True), nn.Linear(64, 1)
        self.head = nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.lstm(x)
        return self.head((torch.softmax(self.energy(states), 1) * states).sum(1))


def zoo(cell: str, layers: int, both: bool, pooling: str) -> Callable[[], nn.Module]:
    return lambda: recurrent(cell, features=6, outputs=5, hidden=32, layers=layers, bidirectional=both, pooling=pooling)


def nothing_else(cell: str) -> list[Callable[[], nn.Module]]:
    return [zoo(cell, 1, False, "last"), zoo(cell, 2, False, "mean"), zoo(cell, 2, True, "last")]


MADE = [*nothing_else("rnn"), *nothing_else("lstm"), *nothing_else("gru"), Around, Residual, Summed, Cells, Attended]


def hidden(module: nn.Module) -> dict[str, int]:
    return {name: m.hidden_size for name, m in module.named_modules() if isinstance(m, nn.RNNBase)}


@pytest.mark.parametrize("spread", ["even", "global"])
@pytest.mark.parametrize("made", MADE)
def test_pruned_is_zeroed(made: Callable[[], nn.Module], spread: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    network = as_network(made())
    seen: dict[str, Removed] = {}
    proof = prune_channels.prove

    def spy(whole: nn.Module, pruned: nn.Module, gone: Removed, inputs: list[Tensor]) -> None:
        seen["removed"] = gone
        proof(whole, pruned, gone, inputs)

    monkeypatch.setattr(prune_channels, "prove", spy)
    result = PruneChannels(0.5, spread=spread).run(network)
    assert isinstance(result.model, Network)
    assert result.notes == ()
    params = result.model.card.steps[-1].params
    assert params["macs_after"] <= 0.5 * params["macs_before"]
    before, after = hidden(network.module), hidden(result.model.module)
    assert sum(after.values()) < sum(before.values())
    assert all(width % 8 == 0 for width in after.values())
    feed = torch.randn(3, 17, 6)  # another length and batch than the pass looked at
    with torch.no_grad():
        pruned, whole = result.model.module(feed), network.module(feed)
        zeroed = zero_channels(network.module, seen["removed"])(feed)
    limit = 1e-5 * max(1.0, float(zeroed.abs().max()))  # float32 sums in another order
    assert float((pruned - zeroed).abs().max()) <= limit
    assert float((pruned - whole).abs().max()) > 10 * limit  # the units did carry something


def test_each_layer_and_direction_loses_its_own_least() -> None:
    """By hand: the units with the smallest weights leave, other ones in every layer and direction."""
    torch.manual_seed(0)
    module = recurrent("gru", features=6, outputs=5, hidden=16, layers=2, bidirectional=True, pooling="mean")
    quiet = {"l0": 3, "l0_reverse": 5, "l1": 7, "l1_reverse": 11}
    with torch.no_grad():
        for slot, start in quiet.items():
            for k in range(start, start + 4):
                for gate in range(3):
                    getattr(module.layers, f"weight_ih_{slot}")[gate * 16 + k] *= 1e-3
                    getattr(module.layers, f"weight_hh_{slot}")[gate * 16 + k] *= 1e-3
    budget, _ = PruneChannels(0.5).budget(as_network(module))
    (group,) = budget.groups
    least = group.leaving(12)
    assert {slot: sorted(k for unit in least for k in unit["layers", slot]) for slot in quiet} == {
        slot: list(range(start, start + 4)) for slot, start in quiet.items()
    }
    columns = sorted(k for unit in least for k in unit["head", "in"])
    assert columns == [*range(7, 11), *range(16 + 11, 16 + 15)]


def test_the_gates_by_hand() -> None:
    """Unit 1 of 3 leaves an LSTM: rows 1, 4, 7, 10 of its matrices, and column 1 of the recurrent one."""
    lstm = nn.LSTM(2, 3)
    pruned = prune_layers.smaller(nn.Sequential(lstm), {"0": {"l0": (1,)}}).get_submodule("0")
    rows = [0, 2, 3, 5, 6, 8, 9, 11]
    assert pruned.hidden_size == 2
    assert torch.equal(pruned.weight_ih_l0, lstm.weight_ih_l0[rows])  # type: ignore[arg-type]
    assert torch.equal(pruned.weight_hh_l0, lstm.weight_hh_l0[rows][:, [0, 2]])  # type: ignore[arg-type]
    assert torch.equal(pruned.bias_hh_l0, lstm.bias_hh_l0[rows])  # type: ignore[arg-type]


def test_a_forgotten_column_trips_the_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were a unit's column in the recurrent matrix mixed up with another's, the pass would not publish."""
    honest = prune_layers._recurrent
    torch.manual_seed(0)
    network = as_network(recurrent("lstm", features=6, outputs=5, hidden=32))
    made = prune_layers.smaller

    def wrong(layer: nn.RNNBase, side: str, indices: list[int]) -> Slots:
        found = honest(layer, side, indices)
        return [(n, a, [(k + 1) % 32 for k in i] if n.startswith("weight_hh") and a == 1 else i) for n, a, i in found]

    def smaller(module: nn.Module, gone: Removed) -> nn.Module:
        with monkeypatch.context() as patch:
            patch.setattr(prune_layers, "_recurrent", wrong)
            return made(module, gone)

    monkeypatch.setattr(prune_channels, "smaller", smaller)
    with pytest.raises(PassError, match="outputs differ by"):
        PruneChannels(0.5).run(network)


class Stream(nn.Module):
    """The states are the output: none may leave."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.side = nn.LSTM(6, 32, batch_first=True), nn.Sequential(nn.Linear(6, 64), nn.Linear(64, 32))

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x)[0] * self.side(x)


class Fixed(nn.Module):
    """A width is written into forward."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(6, 32, batch_first=True), nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(x, torch.zeros(1, x.shape[0], 32))[0].mean(1))


class Mixed(nn.Module):
    """Units are compared with each other by an operation without weights: they cannot leave one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(6, 32, batch_first=True), nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1].softmax(-1))


def test_states_that_are_the_output_stay() -> None:
    result = PruneChannels(0.02).run(as_network(Stream()))
    assert isinstance(result.model, Network)
    assert result.notes[0].startswith("lstm (LSTM) is left as it is: its states reach an output")
    assert hidden(result.model.module) == {"lstm": 32}


def test_what_cannot_be_traced_is_refused_with_the_reason() -> None:
    with pytest.raises(UnsupportedError, match="hard-codes a channel count"):
        PruneChannels(0.5).run(as_network(Fixed()))
    with pytest.raises(UnsupportedError, match="no channels can leave"):
        PruneChannels(0.5).run(as_network(Mixed()))
    projected = nn.LSTM(6, 32, batch_first=True, proj_size=8)

    class Projected(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head = projected, nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.lstm(x)[0][:, -1])

    with pytest.raises(UnsupportedError, match="projects its hidden state"):
        PruneChannels(0.5).run(as_network(Projected()))


def test_reloads_without_pickle(tmp_path: Path) -> None:
    builder = {"features": 6, "outputs": 5, "hidden": 32, "bidirectional": True}
    network = as_network(recurrent("gru", **builder), {"family": "gru", "builder": builder})  # type: ignore[arg-type]
    pruned = PruneChannels(0.5).run(network).model
    assert isinstance(pruned, Network)
    save_checkpoint(pruned, tmp_path / "p.safetensors")
    again = load_checkpoint(tmp_path / "p.safetensors")
    feed = torch.randn(2, 11, 6)
    with torch.no_grad():
        torch.testing.assert_close(again.module(feed), pruned.module(feed), rtol=0, atol=0)
    again.module.train()(feed).sum().backward()  # and learns: its weights are where torch looks for them
    assert hidden(again.module) == hidden(pruned.module) != hidden(network.module)


def test_a_users_own_network_reloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.lstm = nn.LSTM(6, 32, 2, batch_first=True, bidirectional=True)\n"
        "        self.head = nn.Linear(64, 4)\n"
        "    def forward(self, x):\n"
        "        return self.head(self.lstm(x)[0].mean(1))\n"
        "def make():\n"
        "    return Net(), torch.zeros(1, 9, 6)\n"
    )
    monkeypatch.chdir(tmp_path)
    pruned = PruneChannels(0.5).run(resolve("mine.py:make")).model
    assert isinstance(pruned, Network)
    save_checkpoint(pruned, tmp_path / "p.safetensors")
    again = resolve(str(tmp_path / "p.safetensors"), factory="mine.py:make")
    feed = torch.randn(2, 12, 6)
    with torch.no_grad():
        torch.testing.assert_close(again.module(feed), pruned.module(feed), rtol=0, atol=0)
