"""Recurrent networks: what they compute, what they are made for, and that they learn."""

import numpy as np
import pytest
import torch

from edgekit.data import Dataset, open_data
from edgekit.errors import DataError
from edgekit.models.augment import shifted
from edgekit.models.checkpoint import load_checkpoint, save_checkpoint
from edgekit.models.family import Hyperparameters, family, new_network, parameter_count
from edgekit.models.recurrent import CELLS, gru, lstm, recurrent, rnn
from edgekit.models.samples import kept_and_held
from edgekit.models.training import fit
from edgekit.pipeline.train import module_quality

NAMES = tuple(CELLS)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("pooling", ["last", "mean"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_any_length_and_any_batch(name, pooling, bidirectional):
    model = recurrent(name, features=3, outputs=4, hidden=5, bidirectional=bidirectional, pooling=pooling).eval()
    with torch.no_grad():
        for batch, length in ((1, 1), (2, 7), (5, 64)):
            assert model(torch.randn(batch, length, 3)).shape == (batch, 4)


def test_parameters_of_the_default():
    """A layer of H units on F features has g (F H + H H + 2 H) numbers; g is 4 (LSTM), 3 (GRU), 1 (RNN)."""
    cells = (40 * 64 + 64 * 64 + 2 * 64) + (64 * 64 + 64 * 64 + 2 * 64)
    for build, gates in ((rnn, 1), (lstm, 4), (gru, 3)):
        assert parameter_count(build(features=40, outputs=10)) == gates * cells + 650


def test_what_a_tanh_cell_computes():
    """Two steps by hand: h1 = tanh(w x1), h2 = tanh(w x2 + u h1), y = v h2; with a residual x is read less x2."""
    shape = {"features": 1, "outputs": 1, "hidden": 1, "layers": 1, "pooling": "last"}
    models = [rnn(**shape, residual=column).eval() for column in (None, 0)]
    w, u, v = 0.5, -2.0, 3.0
    found = []
    with torch.no_grad():
        for model in models:
            for value, number in zip(model.parameters(), (w, u, 0.0, 0.0, v, 0.0), strict=True):
                value.fill_(number)
            found.append(float(model(torch.tensor([[[1.0], [2.0]]]))))
    wanted = [v * np.tanh(w * 2 + u * np.tanh(w * 1)), v * np.tanh(u * np.tanh(w * (1 - 2))) + 2.0]
    assert found == pytest.approx(wanted, abs=1e-6)  # float32


def test_both_directions_have_read_everything():
    """Each half of the pooled state depends on the far end of the sequence."""
    model = lstm(features=2, outputs=3, hidden=4, layers=1, bidirectional=True).eval()
    sequence = torch.randn(1, 6, 2, requires_grad=True)
    states, _ = model.layers(sequence)
    pooled = model._pooled(states)
    for half, far in ((slice(0, 4), 0), (slice(4, 8), 5)):
        (grad,) = torch.autograd.grad(pooled[0, half].sum(), sequence, retain_graph=True)
        assert grad[0, far].abs().sum() > 0


def test_forget_gates_begin_open_and_recurrent_weights_orthogonal():
    layer = lstm(features=3, outputs=2, hidden=8, layers=1).layers
    assert layer.bias_ih_l0.tolist() == [0.0] * 8 + [1.0] * 8 + [0.0] * 16
    for gate in layer.weight_hh_l0.split(8):
        np.testing.assert_allclose((gate @ gate.T).detach(), np.eye(8), atol=1e-5)  # float32


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"hidden": 0}, "1 or more"),
        ({"layers": 0}, "1 or more"),
        ({"dropout": 1.0}, "dropout"),
        ({"pooling": "max"}, "last, mean"),
        ({"residual": 3}, "column 0 to 2"),
    ],
)
def test_senseless_numbers(bad, words):
    with pytest.raises(ValueError, match=words):
        gru(**{"features": 3, "outputs": 2, **bad})
    with pytest.raises(ValueError, match="rnn, lstm, gru"):
        recurrent("elman", features=3, outputs=2)


def test_a_new_network_for_images_row_by_row():
    network = new_network("lstm", open_data("digits@train"))
    assert network.signature.inputs[0].shape == (1, 8, 8) and network.signature.outputs[0].shape == (1, 10)
    assert network.card.contract["image"].layout == "NHW"
    assert network.card.config["builder"] == {"features": 8, "outputs": 10}


def series(count=300, period=12):
    """A wave with a trend: rows (sin, rising line + wave)."""
    time = np.arange(count)
    wave = np.sin(2 * np.pi * time / period)
    return np.stack([wave, 0.01 * time + wave], 1).astype(np.float32)


@pytest.fixture
def waves(tmp_path):
    rows = series()
    (tmp_path / "waves.csv").write_text("a,b\n" + "\n".join(",".join(map(str, row)) for row in rows.tolist()))
    return f"series:{tmp_path / 'waves.csv'},history=24,horizon=6,season=12"


def test_a_new_network_for_a_series(waves):
    data = open_data(f"{waves}@train")
    network = new_network("gru", data)
    assert network.signature.inputs[0].shape == (1, 24, 2) and network.signature.outputs[0].shape == (1, 6)
    assert network.card.config["builder"] == {"features": 2, "outputs": 6, "residual": 1}
    params = network.task.params
    assert (network.task.kind, params["target"], params["horizon"]) == ("forecasting", "b", 6)
    assert (params["mean"], params["std"]) == (data.params["mean"][1], data.params["std"][1])


def test_data_of_the_wrong_kind():
    with pytest.raises(DataError, match="gru takes audio or series or image data"):
        new_network("gru", open_data("breast-cancer@train"))


def test_sounds_are_delayed_never_lost():
    frames = torch.arange(2 * 6, dtype=torch.float32).reshape(2, 6, 1)
    moved = shifted(frames, 0, torch.Generator())
    assert torch.equal(moved, frames)
    seen = set()
    for seed in range(20):
        row = shifted(frames, 2, torch.Generator().manual_seed(seed))[0, :, 0].tolist()
        seen.add(tuple(row))
    # moved to the front by 0, 1 or 2; what follows is the first step
    assert seen == {(0, 1, 2, 3, 4, 5), (1, 2, 3, 4, 5, 0), (2, 3, 4, 5, 0, 0)}


def test_a_series_chooses_its_best_epoch_by_time(waves):
    data = open_data(f"{waves}@train")
    kept, held = kept_and_held(data, 0.1, 0)
    assert len(held) == data.params["validation"] and kept.max() < held.min()
    part = data.subset(np.arange(10))  # as many as are told to be held do not exist
    kept, held = kept_and_held(part, 0.2, 0)
    assert (kept.tolist(), held.tolist()) == ([0, 1, 2, 3, 4, 5, 6, 7], [8, 9])
    images = Dataset("d", "train", "image", {"image": np.zeros((20, 2, 2, 1))}, np.arange(20) % 2, ("a", "b"))
    kept, held = kept_and_held(images, 0.2, 0)
    assert len(held) == 4 and not set(kept.tolist()) & set(held.tolist())
    assert kept_and_held(images, 0.0, 0)[1].size == 0


@pytest.mark.parametrize("name", NAMES)
def test_digits_row_by_row_are_learned(name, tmp_path):
    torch.manual_seed(0)
    data = open_data("digits@train")
    network = new_network(name, data)
    fit(network, data, Hyperparameters(epochs=8, batch=64, lr=1e-2, optimizer="adamw", average=0.9, clip=1.0))
    quality = module_quality(network, open_data("digits@test"))
    assert quality.value > 0.85, quality  # chance is 0.1
    save_checkpoint(network, tmp_path / "n.safetensors")
    again = load_checkpoint(tmp_path / "n.safetensors")
    probe = torch.randn(3, 8, 8)
    with torch.no_grad():
        assert torch.equal(again.module(probe), network.module(probe))


def test_a_series_is_learned(waves):
    torch.manual_seed(0)
    data = open_data(f"{waves}@train")
    network = new_network("gru", data, {"hidden": 16, "layers": 1, "dropout": 0.0})
    before = module_quality(network, open_data(f"{waves}@test"))
    fit(network, data, Hyperparameters(epochs=15, batch=32, lr=1e-2, optimizer="adamw", clip=1.0))
    quality = module_quality(network, open_data(f"{waves}@test"))
    assert (quality.metric, quality.data) == ("mse", f"{waves}@test")
    assert quality.value < 0.5 * before.value
    assert quality.value < quality.details["mse_repeating_last_value"]


@pytest.mark.parametrize("name", NAMES)
def test_shipped_weights_say_how_good_they_are(name):
    network = load_checkpoint(family(name).weights)
    (quality,) = network.card.quality
    assert (quality.metric, quality.data, quality.total) == ("accuracy", "fsdd@test", 300)
    assert quality.value >= 0.97
    assert network.signature.inputs[0].shape == (1, 64, 40)


@pytest.mark.needs_data
@pytest.mark.parametrize("name", NAMES)
def test_shipped_weights_know_the_digits(name):
    network = load_checkpoint(family(name).weights)
    measured = module_quality(network, open_data("fsdd@test"))
    assert measured.value == pytest.approx(network.card.quality[0].value, abs=1 / 300)  # one borderline recording


@pytest.mark.needs_data
def test_the_shipped_forecast_is_worth_something():
    network = load_checkpoint(family("lstm").weights.with_name("lstm-etth1.safetensors"))
    measured = module_quality(network, open_data("etth1"))
    assert measured.value == pytest.approx(network.card.quality[0].value, rel=1e-3)  # sums in another order
    assert measured.value < measured.details["mse_repeating_last_24"]
    assert measured.value < measured.details["mse_repeating_last_value"]
