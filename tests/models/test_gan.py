"""DCGAN: shapes and ranges, and the loop of generator against discriminator."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from edgekit.data import Dataset, open_data
from edgekit.errors import DataError, GateError, UsageError
from edgekit.models import adversarial
from edgekit.models.adversarial import fit_adversarial
from edgekit.models.checkpoint import weights_sha256
from edgekit.models.family import Hyperparameters, new_network, parameter_count
from edgekit.models.gan import discriminator, generator
from edgekit.quality.frechet import real_images
from edgekit.types import InputSpec

QUICK = Hyperparameters(
    epochs=3, batch=16, lr=1e-3, optimizer="adam", momentum=0.5, average=0.9, augment="shift", validation=0.0
)


@pytest.mark.parametrize("size", [8, 16, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_shapes(size, channels):
    make, judge = (
        generator(latent=5, channels=channels, width=4, size=size),
        discriminator(channels=channels, width=4, size=size),
    )
    with torch.no_grad():
        images = make(torch.randn(3, 5))
        assert images.shape == (3, channels, size, size)
        assert images.abs().max() <= 1
        assert judge(images).shape == (3,)


def test_the_shipped_size_is_small():
    assert parameter_count(generator()) == 295_873


@pytest.mark.parametrize("bad", [{"width": 0}, {"latent": 0}, {"channels": 0}, {"size": 4}, {"size": 24}])
def test_senseless_numbers(bad):
    with pytest.raises(ValueError, match="must be"):
        generator(**bad)


@pytest.fixture(scope="module")
def digits():
    return open_data("digits@train").subset(np.arange(65))  # four batches, and one sample over


def fresh(data, seed=0):
    torch.manual_seed(seed)
    return new_network("gan", data, {"width": 4})


def digest(network):
    return weights_sha256(network.module.state_dict())


def test_what_follows_from_the_data(digits):
    network = fresh(digits)
    assert network.card.contract == {"noise": InputSpec("noise")}
    assert network.signature.outputs[0].shape == (1, 1, 32, 32)
    assert network.task.params["size"] == (32, 32)
    colour = Dataset("c", "train", "image", {"image": np.zeros((4, 6, 9, 3), np.uint8)})
    assert new_network("gan", colour).signature.outputs[0].shape == (1, 3, 32, 32)


def test_it_learns_where_the_ink_is():
    """The mean generated image comes near the mean real one (values are -1..1)."""
    digits = open_data("digits@train").subset(np.arange(200))
    torch.manual_seed(0)
    network = new_network("gan", digits, {"width": 8})
    seen = []
    before = _off(network, digits)
    result = fit_adversarial(network, digits, replace(QUICK, epochs=20), progress=lambda *row: seen.append(row))
    assert [row[0] for row in seen] == list(range(1, 21))
    assert seen[0][4] == "images told apart" and all(0 <= row[3] <= 1 for row in seen)
    assert (result.epochs_run, result.best_epoch, result.samples) == (20, 20, 200)
    assert not network.module.training
    assert before > 0.4 and _off(network, digits) < 0.2  # measured: 0.50 and 0.09


def _off(network, data):
    real = real_images(data, network.task).mean(0) / 127.5 - 1  # (H, W, C)
    noise = torch.randn(200, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        made = network.module.eval()(noise).numpy().mean(0)  # (C, H, W)
    return float(np.abs(made[0] - real[..., 0]).mean())


def test_the_same_seed_gives_the_same_weights_and_another_does_not(digits):
    first, second, other = fresh(digits), fresh(digits), fresh(digits)
    for network, seed in ((first, 0), (second, 0), (other, 1)):
        fit_adversarial(network, digits, replace(QUICK, seed=seed))
    assert digest(first) == digest(second) != digest(other)


class Killed(BaseException):
    pass


def test_a_killed_run_ends_with_the_same_weights(digits, tmp_path, caplog):
    state = tmp_path / "g.resume.safetensors"
    whole, killed = fresh(digits), fresh(digits)
    fit_adversarial(whole, digits, QUICK)

    def stop(epoch, *_):
        if epoch == 2:
            raise Killed

    with pytest.raises(Killed):
        fit_adversarial(killed, digits, QUICK, state=state, progress=stop)
    again = fresh(digits, seed=5)  # other initial weights: all of it must come from the file
    with caplog.at_level(logging.INFO, logger="edgekit"):
        result = fit_adversarial(again, digits, QUICK, state=state)
    assert "resuming after epoch 2" in caplog.text
    assert result.epochs_run == 1
    assert digest(again) == digest(whole)
    assert not state.exists()


def test_a_run_that_diverges_stops_and_says_so(digits, tmp_path):
    state = tmp_path / "g.resume.safetensors"
    with pytest.raises(GateError, match=r"training diverged: the loss of epoch \d+ is nan; nothing was written"):
        fit_adversarial(fresh(digits), digits, replace(QUICK, lr=1e30, epochs=20), state=state)
    assert not list(tmp_path.iterdir())  # going on from there would end the same way


def test_a_discriminator_that_has_won_stops_the_training(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(adversarial, "WON", 100.0)  # every loss counts as won
    monkeypatch.setattr(adversarial, "WON_EPOCHS", 2)
    epochs = []
    with pytest.raises(GateError, match="for 2 epochs, up to epoch 2, the discriminator has told every image"):
        fit_adversarial(
            fresh(digits), digits, QUICK, state=tmp_path / "s.safetensors", progress=lambda e, *_: epochs.append(e)
        )
    assert epochs == [1]
    assert not list(tmp_path.iterdir())


def test_what_it_cannot_learn_from(digits):
    with pytest.raises(UsageError, match="leave --distil-from out"):
        fit_adversarial(fresh(digits), digits, QUICK, teacher=fresh(digits))
    with pytest.raises(UsageError, match="--processes is 2; leave it out"):
        fit_adversarial(fresh(digits), digits, replace(QUICK, processes=2))
    with pytest.raises(DataError, match="holds table samples"):
        fit_adversarial(fresh(digits), open_data("breast-cancer@train"), QUICK)
    with pytest.raises(DataError, match="holds 1 image"):
        fit_adversarial(fresh(digits), digits.subset(np.arange(1)), QUICK)
    with pytest.raises(DataError, match="gan takes image data"):
        new_network("gan", open_data("breast-cancer@train"))
