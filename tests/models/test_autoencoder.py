"""Autoencoders: any size comes back, what is learnt is what is normal, and what is held out is chosen plainly."""

import numpy as np
import pytest
import torch

from edgekit.data import Dataset, open_data
from edgekit.errors import DataError, UsageError
from edgekit.models.autoencoder import FAMILY, autoencoder, normal_only
from edgekit.models.checkpoint import load_checkpoint
from edgekit.models.family import new_network
from edgekit.pipeline.train import module_quality, train

NUMBERS = [{}, {"bottleneck": 0}, {"widths": (8,)}, {"widths": (4, 8, 16)}, {"layers": "dense"}]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 7), (1, 1, 1), (3, 32, 32), (1, 5, 64)])
@pytest.mark.parametrize("numbers", NUMBERS, ids=str)
def test_any_size_comes_back(shape, numbers):
    with torch.no_grad():
        assert autoencoder(shape=shape, **numbers).eval()(torch.zeros(2, *shape)).shape == (2, *shape)


def test_the_bottleneck_is_one():
    """As many values as the bottleneck has decide the output: its Jacobian has that rank."""
    torch.manual_seed(0)
    network = autoencoder(shape=(1, 6, 6), widths=(8,), bottleneck=3).eval()
    jacobian = torch.autograd.functional.jacobian(network, torch.randn(1, 1, 6, 6)).reshape(36, 36)
    assert int(torch.linalg.matrix_rank(jacobian, rtol=1e-4)) == 3


def test_rows_of_a_table():
    network = autoencoder(shape=(30,), layers="dense", widths=(16, 8), bottleneck=4)
    assert network(torch.zeros(5, 30)).shape == (5, 30)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"shape": (1, 0, 8)}, "1 or more"),
        ({"shape": (1, 8, 8), "widths": ()}, "1 or more"),
        ({"shape": (1, 8, 8), "layers": "dense", "bottleneck": 0}, "1 or more"),
        ({"shape": (30,)}, "use dense"),
        ({"shape": (30,), "layers": "deep"}, "conv or dense"),
    ],
)
def test_senseless_numbers(numbers, message):
    with pytest.raises(ValueError, match=message):
        autoencoder(**numbers)


def test_the_class_that_is_held_out():
    digits, cancer = open_data("digits@train"), open_data("breast-cancer@train")
    assert FAMILY.fit(digits).task.params["held_out"] == "9"  # the last
    assert FAMILY.fit(cancer).task.params["held_out"] == "malignant"  # the one that is looked for
    named = Dataset(**{**{f: getattr(digits, f) for f in digits.__slots__}, "params": {"held_out": "3"}})
    assert FAMILY.fit(named).task.params["held_out"] == "3"
    kept = normal_only(digits, "9")
    assert 9 not in kept.labels and len(kept) == int((digits.labels != 9).sum())
    with pytest.raises(DataError, match="no class 'ten' to hold out; it has: 0, 1"):
        normal_only(digits, "ten")
    bare = Dataset("d", "train", "image", digits.arrays)
    with pytest.raises(DataError, match="no labels"):
        FAMILY.fit(bare)


def test_normal_samples_alone_make_the_contract():
    """The mean and deviation are those of the samples that are learnt."""
    table = np.float32([[0, 1], [2, 1], [1000, 1]])
    data = Dataset("t", "train", "table", {"table": table}, np.array([0, 0, 1]), ("usual", "odd"), ("a", "b"))
    contract = FAMILY.fit(data).contract
    assert contract.mean == (1.0, 1.0) and contract.std == (1.0, 1.0)
    assert new_network("autoencoder", data).signature.outputs[0].shape == (1, 2)


def test_training_tells_anomalies(tmp_path):
    result = train("autoencoder", data="digits", epochs=12, out=tmp_path / "a.safetensors", hold_out="0")
    again = load_checkpoint(result.path)
    params = again.task.params
    assert params["held_out"] == "0"
    assert params["threshold_rule"].endswith("129 normal samples of digits@train that training did not see")
    (quality,) = again.card.quality
    assert (quality.metric, quality.data, quality.total) == ("roc_auc", "digits@test", 359)
    assert quality.value > 0.9  # guessing is 0.5; a full training reaches 0.999 for this class
    # 95% of 129 unseen samples are below the threshold: of 323 others 5% are above it, give or take 3 points (3 sigma)
    assert quality.details["caught"] > 0.5 and quality.details["false_alarms"] < 0.15
    assert module_quality(again, open_data("digits@test")).value == quality.value
    # 1,438 training samples, of which a tenth are zeros: not learnt
    assert result.training.fit.samples + result.training.fit.validation_samples == int(
        (open_data("digits@train").labels != 0).sum()
    )


def test_a_table_can_have_anomalies_too(tmp_path):
    result = train("autoencoder", data="breast-cancer", epochs=30, out=tmp_path / "a.safetensors")
    assert result.quality.value > 0.8
    assert result.network.task.params["held_out"] == "malignant"


def test_holding_out_is_for_anomalies(tmp_path):
    with pytest.raises(UsageError, match="--hold-out is for anomaly detection; mlp learns classification"):
        train("mlp", data="breast-cancer", out=tmp_path / "m.safetensors", hold_out="benign")
    with pytest.raises(DataError, match="no class 'ten'"):
        train("autoencoder", data="digits", out=tmp_path / "m.safetensors", hold_out="ten")
    assert not list(tmp_path.iterdir())
