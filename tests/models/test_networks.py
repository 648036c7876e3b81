"""Builders: shapes, sizes, and numbers that are out of range."""

import numpy as np
import pytest
import torch

from edgekit.data import Dataset, open_data
from edgekit.errors import DataError, SourceError, UsageError
from edgekit.models.cnn import cnn
from edgekit.models.family import family, measure_contract, new_network, parameter_count
from edgekit.models.mlp import mlp


def test_resnet8_has_the_parameters_of_the_reference():
    """MLPerf Tiny's ResNet-8 has 78,666 with biases in its convolutions; batch normalisation makes those needless."""
    assert parameter_count(cnn(blocks=(1, 1, 1))) == 78_042
    assert parameter_count(cnn()) == 96_602 < 100_000


@pytest.mark.parametrize("size", [(32, 32), (8, 8), (1, 1), (33, 47), (96, 64)])
def test_any_image_size(size):
    with torch.no_grad():
        assert cnn(channels=1, classes=4, width=8).eval()(torch.zeros(2, 1, *size)).shape == (2, 4)


def test_width_and_depth_are_numbers():
    wide = cnn(width=24, blocks=(2, 1))
    assert [m.out_channels for m in wide.modules() if isinstance(m, torch.nn.Conv2d)] == [24] * 5 + [48, 48, 48]
    assert mlp(columns=3, classes=2, hidden=(5,))(torch.zeros(4, 3)).shape == (4, 2)


@pytest.mark.parametrize("bad", [{"width": 0}, {"blocks": ()}, {"blocks": (1, 0)}, {"classes": 0}])
def test_senseless_cnn(bad):
    with pytest.raises(ValueError, match="1 or more"):
        cnn(**bad)


def test_senseless_mlp():
    with pytest.raises(ValueError, match="dropout"):
        mlp(columns=2, classes=2, dropout=1.0)


def test_a_new_network_fits_its_data():
    network = new_network("cnn", open_data("digits@train"))
    assert network.signature.inputs[0].shape == (1, 1, 8, 8)
    assert network.signature.outputs[0].shape == (1, 10)
    assert network.task.labels == tuple("0123456789")
    contract = network.card.contract["image"]
    assert (contract.layout, contract.size, contract.channels, contract.scale) == ("NCHW", (8, 8), 1, 1 / 255)


def test_the_contract_is_the_mean_and_deviation_of_the_samples():
    images = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 3), np.uint8)
    contract = measure_contract(Dataset("d", "all", "image", {"image": images}))
    np.testing.assert_allclose(contract.mean, (images / 255).mean((0, 1, 2)), rtol=1e-5)  # six digits are kept
    np.testing.assert_allclose(contract.std, (images / 255).std((0, 1, 2)), rtol=1e-5)
    table = Dataset("t", "all", "table", {"table": np.float32([[1, 5], [3, 5]])}, columns=("a", "constant"))
    assert measure_contract(table).std == (1.0, 1.0)  # a constant column is not divided by 0


def test_data_of_the_wrong_kind():
    with pytest.raises(DataError, match="cnn takes image data, breast-cancer@train holds table samples"):
        new_network("cnn", open_data("breast-cancer@train"))
    one_class = Dataset(
        "d", "all", "image", {"image": np.zeros((3, 8, 8, 1), np.uint8)}, np.zeros(3, np.int64), ("a", "b")
    )
    with pytest.raises(DataError, match="1 class"):
        new_network("cnn", one_class)
    with pytest.raises(DataError, match="no labels"):
        new_network("cnn", Dataset("d", "all", "image", {"image": np.zeros((3, 8, 8, 1), np.uint8)}))
    high = Dataset("d", "all", "image", {"image": np.zeros((2, 8, 8, 1), np.uint8)}, np.array([0, 7]), ("a", "b"))
    with pytest.raises(DataError, match="the label 7, but only 2 classes"):
        new_network("cnn", high)


def test_unknown_family():
    with pytest.raises(UsageError, match="mlp, cnn"):
        family("resnet")


def test_an_entry_point_that_is_not_a_family(monkeypatch):
    monkeypatch.setattr("edgekit.registry.lookup", lambda table, name: 3)
    with pytest.raises(SourceError, match="a Family was expected"):
        family("cnn")
