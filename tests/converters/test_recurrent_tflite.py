"""Recurrent layers in TFLite files, against torch: on ai-edge-litert, and for real on tflite-runtime 2.14.

Conversions cost a second each, so one network holds many layers, each with an output of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from torch import Tensor, nn

import edgekit
from edgekit.converters.base import Capture, ConversionOptions
from edgekit.converters.recurrent.loop import BLOCK, SHORT
from edgekit.converters.torch_to_tflite import TorchToTflite
from edgekit.devices import open_runner
from edgekit.errors import ParityError
from edgekit.runtime import load
from edgekit.types import Feed, Network

pytestmark = pytest.mark.usefixtures("kept_workers")

TOLERANCE = 2e-6
"""Float32 rounding of values below 1 (6e-8 each), carried through 7 steps of 2 layers, and tanh and sigmoid by
polynomials that are good to some units in the last place."""
FUSED = {"UNIDIRECTIONAL_SEQUENCE_LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN"}
NetworkOf = Callable[..., Network]


class Many(nn.Module):
    """Layers side by side on one input (time, batch, features), or (batch, time, features) for those that want it."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(T, B, I) -> outputs of each layer."""
        return tuple(layer(x.transpose(0, 1) if layer.batch_first else x)[0] for layer in self.layers)


class States(nn.Module):
    """State in and state out, all of it used."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 4, 2, bidirectional=True)
        self.gru = nn.GRU(3, 4, batch_first=True)
        self.rnn = nn.RNN(3, 4, nonlinearity="relu", bidirectional=True)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, ...]:
        y, (h_n, c_n) = self.lstm(x, (h, c))
        z, end = self.gru(x.transpose(0, 1), h[:1])
        return y, h_n, c_n, z, end, self.rnn(x, h[:2])[1]


class Crnn(nn.Module):
    """Convolutions, then a bidirectional LSTM along the width, then a head on its last step."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d((2, 1)))
        self.lstm = nn.LSTM(12, 5, batch_first=True, bidirectional=True)
        self.head = nn.Linear(10, 3)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 2, 6, W) -> (B, 3)"""
        x = self.stem(image)  # (B, 4, 3, W)
        x = x.permute(0, 3, 1, 2).flatten(2)  # (B, W, 12)
        return self.head(self.lstm(x)[0][:, -1])


class Last(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.layer = getattr(nn, kind)(3, 4, 2, batch_first=True, bidirectional=kind == "RNN")

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, 3) -> (B, 4)"""
        return self.layer(x)[0][:, -1]


def convert(network: Network, target: Path, **options: Any) -> tuple[str, ...]:
    return TorchToTflite().convert(Capture(network, ConversionOptions(**options)), target)


def operators(path: Path) -> Counter[str]:
    """Names of the operators of every subgraph."""
    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(path.read_bytes(), 0))
    codes = [names[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in model.operatorCodes]
    return Counter(codes[operator.opcodeIndex] for graph in model.subgraphs for operator in graph.operators)


def compare(network: Network, run: Callable[[Feed], Any], feed: dict[str, np.ndarray[Any, Any]]) -> None:
    with torch.no_grad():
        wanted = network.module(*(torch.from_numpy(value) for value in feed.values()))
    wanted = [wanted] if isinstance(wanted, Tensor) else wanted
    got = list(run(feed).values())
    assert len(got) == len(wanted)
    for k, (a, b) in enumerate(zip(got, wanted, strict=True)):
        assert a.shape == tuple(b.shape)
        assert np.abs(a - b.numpy()).max() < TOLERANCE, k


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recurrent")


def layers(kind: str, **more: Any) -> list[nn.Module]:
    """One and two layers, one and both directions, batch first and not, without biases."""
    make = getattr(nn, kind)
    return [
        make(3, 4, **more),
        make(3, 4, batch_first=True, **more),
        make(3, 4, bias=False, bidirectional=True, **more),
        make(3, 5, num_layers=2, bidirectional=True, batch_first=True, **more),
    ]


@pytest.fixture(scope="module")
def fused(network_of: NetworkOf, folder: Path) -> tuple[Network, Path]:
    torch.manual_seed(0)
    many = Many([*layers("LSTM"), *layers("RNN")[:3], nn.RNN(3, 4, 2, nonlinearity="relu")])
    network = network_of(many, torch.randn(7, 2, 3))
    assert convert(network, folder / "fused.tflite") == ()
    return network, folder / "fused.tflite"


@pytest.fixture(scope="module")
def grus(network_of: NetworkOf, folder: Path) -> tuple[Network, Path]:
    torch.manual_seed(0)
    network = network_of(Many(layers("GRU")), torch.randn(7, 2, 3))
    assert convert(network, folder / "gru.tflite") == ()
    return network, folder / "gru.tflite"


@pytest.fixture(scope="module")
def states(network_of: NetworkOf, folder: Path) -> tuple[Network, Path, tuple[str, ...]]:
    torch.manual_seed(0)
    network = network_of(States(), torch.randn(7, 2, 3), torch.randn(4, 2, 4), torch.randn(4, 2, 4))
    return network, folder / "states.tflite", convert(network, folder / "states.tflite")


def feed_of(network: Network, seed: int) -> dict[str, np.ndarray[Any, Any]]:
    generator = np.random.default_rng(seed)
    return {
        spec.name: generator.standard_normal(spec.shape).astype(np.float32)  # type: ignore[arg-type]
        for spec in network.signature.inputs
    }


def test_lstm_and_rnn_are_one_operator_a_layer_and_direction(fused: tuple[Network, Path]) -> None:
    found = operators(fused[1])
    assert found["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 1 + 1 + 2 + 4
    assert found["UNIDIRECTIONAL_SEQUENCE_RNN"] == 1 + 1 + 2 + 2
    assert set(found) <= FUSED | {"REVERSE_V2", "CONCATENATION", "TRANSPOSE", "RESHAPE"}


def test_a_gru_is_one_loop_a_layer_and_direction(grus: tuple[Network, Path]) -> None:
    found = operators(grus[1])
    assert found["WHILE"] == 1 + 1 + 2 + 4
    assert found["FULLY_CONNECTED"] == 2 * found["WHILE"]  # all steps of the input at once, and one of the state


def test_given_states_are_loops_and_that_is_said(states: tuple[Network, Path, tuple[str, ...]]) -> None:
    found, notes = operators(states[1]), states[2]
    assert found["WHILE"] == 4 + 1 + 2 and not FUSED & set(found)
    assert sorted(note.split(" is ")[0] for note in notes) == ["lstm (LSTM)", "rnn (RNN)"]
    assert all("a state that is given" in note for note in notes)


@pytest.mark.parametrize("which", ["fused", "grus", "states"])
def test_against_torch(which: str, request: pytest.FixtureRequest) -> None:
    network, path, *_ = request.getfixturevalue(which)
    with load(path) as runner:
        for seed in range(3):
            compare(network, runner.run, feed_of(network, seed))


@pytest.mark.parametrize("which", ["fused", "grus", "states"])
def test_against_torch_on_tflite_runtime(which: str, other_python: str, request: pytest.FixtureRequest) -> None:
    network, path, *_ = request.getfixturevalue(which)
    with open_runner(path, device=f"python:{other_python}") as runner:
        assert (runner.name, runner.version) == ("tflite-runtime", "2.14.0")
        for seed in range(3):
            compare(network, runner.run, feed_of(network, seed))


@pytest.mark.parametrize("which", ["fused", "grus", "states"])
def test_nothing_is_left_over_from_the_sequence_before(which: str, request: pytest.FixtureRequest) -> None:
    network, path, *_ = request.getfixturevalue(which)
    feeds = [feed_of(network, seed) for seed in range(3)]
    with load(path) as runner:
        first = [runner.run(feed) for feed in feeds]
        again = [runner.run(feed) for feed in reversed(feeds)][::-1]
    for a, b in zip(first, again, strict=True):
        assert all(np.array_equal(a[name], b[name]) for name in a)


def test_without_a_reset_the_state_would_leak(fused: tuple[Network, Path]) -> None:
    """The check above can fail: the operators do keep their state."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(fused[1]))
    interpreter.allocate_tensors()
    x = next(iter(feed_of(fused[0], 0).values()))
    outputs = []
    for _ in range(2):
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    assert np.abs(outputs[0] - outputs[1]).max() > 1e-3


def test_inside_a_larger_network(network_of: NetworkOf, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = network_of(Crnn(), torch.randn(1, 2, 6, 9))
    assert convert(network, tmp_path / "m.tflite", channels_last=True) == ()
    found = operators(tmp_path / "m.tflite")
    assert found["CONV_2D"] == 1 and found["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 2
    feed = {"image": np.random.default_rng(0).standard_normal((1, 6, 9, 2)).astype(np.float32)}
    with load(tmp_path / "m.tflite") as runner, torch.no_grad():
        wanted = network.module(torch.from_numpy(feed["image"].transpose(0, 3, 1, 2))).numpy()
        assert np.abs(runner.run(feed)["output"] - wanted).max() < TOLERANCE


@pytest.mark.parametrize("kind", ["LSTM", "RNN", "GRU"])
def test_a_dynamic_length_takes_every_length(kind: str, network_of: NetworkOf, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = network_of(Last(kind), torch.randn(1, 4, 3))
    convert(network, tmp_path / "m.tflite", dynamic={"x": {1: "time"}})
    with load(tmp_path / "m.tflite") as runner:
        for steps in (1, 4, 11, 2, 200):
            x = np.random.default_rng(steps).standard_normal((1, steps, 3)).astype(np.float32)
            compare(network, runner.run, {"x": x})


class Both(nn.Module):
    """Every output of both directions, without a join, which litert-torch cannot write for dynamic sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.GRU(3, 4, 2, bidirectional=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, h = self.layer(x)
        return y, h[3]


@pytest.mark.parametrize("steps", [SHORT + 1, 131, 160])
def test_long_sequences_are_run_in_blocks(
    steps: int, network_of: NetworkOf, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Lengths that blocks of their root divide, and do not."""
    torch.manual_seed(0)
    network = network_of(Both(), torch.randn(steps, 2, 3))
    convert(network, tmp_path / "m.tflite")
    assert operators(tmp_path / "m.tflite")["WHILE"] == 8  # an outer and an inner loop each
    with load(tmp_path / "m.tflite") as runner:
        compare(network, runner.run, feed_of(network, steps))
    if steps == 131:
        python = request.getfixturevalue("other_python")
        with open_runner(tmp_path / "m.tflite", device=f"python:{python}") as runner:
            compare(network, runner.run, feed_of(network, steps))


def test_blocks_at_every_length(network_of: NetworkOf, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = network_of(Both(), torch.randn(5, 2, 3))
    convert(network, tmp_path / "m.tflite", dynamic={"x": {0: "time"}})
    with load(tmp_path / "m.tflite") as runner:
        for steps in (1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 77):
            x = np.random.default_rng(steps).standard_normal((steps, 2, 3)).astype(np.float32)
            compare(network, runner.run, {"x": x})


def test_neither_operators_nor_bytes_grow_with_the_length(network_of: NetworkOf, tmp_path: Path) -> None:
    sizes = {}
    for steps in (SHORT + 1, 4 * SHORT):
        network = network_of(Many([nn.LSTM(3, 4), nn.GRU(3, 4)]), torch.randn(steps, 1, 3))
        convert(network, tmp_path / "m.tflite")
        sizes[steps] = (operators(tmp_path / "m.tflite"), (tmp_path / "m.tflite").stat().st_size)
    assert len({str(sorted(found.items())) for found, _ in sizes.values()}) == 1
    few, many = (size for _, size in sizes.values())
    assert abs(few - many) <= 64  # paddings


def test_what_is_unrolled_is_in_the_notes(network_of: NetworkOf, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = network_of(Many([nn.LSTM(3, 4, proj_size=2)]), torch.randn(3, 1, 3))
    (note,) = convert(network, tmp_path / "m.tflite")
    assert note.startswith("layers.0 (LSTM) is unrolled") and "proj_size" in note
    with load(tmp_path / "m.tflite") as runner:
        compare(network, runner.run, feed_of(network, 0))


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_a_changed_weight_fails_the_proof(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "net.py"
    source.write_text(
        "import torch\nfrom torch import nn\n\n\ndef net():\n    torch.manual_seed(0)\n"
        f"    return nn.{kind}(3, 4), (torch.randn(5, 1, 3),)\n"
    )
    before = TorchToTflite.begin

    def mutated(self: TorchToTflite, capture: Capture, target: Path) -> Any:
        weight = next(t for name, t in capture.program.state_dict.items() if "weight_hh_l0" in name)
        kept = weight.detach().clone()
        with torch.no_grad():
            weight[0, 0] += 0.05
        finish = before(self, capture, target)
        with torch.no_grad():
            weight.copy_(kept)  # the reference shares it
        return finish

    monkeypatch.setattr(TorchToTflite, "begin", mutated)
    with pytest.raises(ParityError, match="does not compute"):
        edgekit.export(f"{source}:net", to="tflite", out=tmp_path / "out")
    assert not list((tmp_path / "out").glob("*"))
