"""Noise: standard normal, the same for a seed whatever the count, spelled noise:N@SEED, fed whatever the data set."""

import numpy as np
import pytest

from edgekit.data import Dataset, feeds, noise, sample_feed
from edgekit.errors import DataError
from edgekit.types import InputSpec, Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("z", "float32", (1, 6)),), (TensorSpec("image", "float32", (1, 1, 2, 2)),))
CONTRACT = {"z": InputSpec("noise")}


def test_it_is_standard_normal():
    values = noise.normal(0, 4000, (25,)).astype(np.float64)
    # 100,000 values: the mean is known to 0.003, the variance to 0.0045, the fourth moment to 0.03; five times that
    assert abs(values.mean()) < 0.016
    assert abs(values.var() - 1) < 0.023
    assert abs((values**4).mean() - 3) < 0.16
    assert abs(np.corrcoef(values[:, 0], values[:, 13])[0, 1]) < 0.08  # the two halves of Box and Muller's pairs
    assert values.std(0).min() > 0.9  # no column stands still


def test_the_values_never_change():
    """They are part of what a card's figures mean; this row was printed once and kept."""
    np.testing.assert_allclose(noise.normal(0, 1, (4,))[0], GOLDEN, rtol=1e-6)


GOLDEN = [0.9184837, 1.6099974, 0.2418246, 0.1677957]


def test_a_sample_does_not_depend_on_how_many_there_are():
    np.testing.assert_array_equal(noise.normal(5, 3, (2, 3)), noise.normal(5, 10, (2, 3))[:3])
    assert not np.array_equal(noise.normal(5, 3, (7,)), noise.normal(6, 3, (7,)))
    assert noise.normal(0, 2, (3,)).dtype == np.float32


@pytest.mark.parametrize(
    ("given", "meant"),
    [("noise", (64, 0)), ("noise:5", (5, 0)), ("noise:5@7", (5, 7)), ("noise@7", (64, 7)), ("noise.npz", None)],
)
def test_spelling(given, meant):
    assert noise.spelled(given) == meant


@pytest.mark.parametrize("given", ["noise:0", "noise:-3", "noise:9999999"])
def test_senseless_counts(given):
    with pytest.raises(DataError, match="give 1 to 65,536"):
        noise.spelled(given)


def test_a_generator_is_fed_noise_whatever_the_data_set():
    images = Dataset("d", "test", "image", {"image": np.zeros((5, 8, 8, 1), np.uint8)})
    fed = list(feeds(images, SIGNATURE, CONTRACT, batch=2))
    assert [feed["z"].shape for feed in fed] == [(2, 6), (2, 6), (1, 6)]
    np.testing.assert_array_equal(np.concatenate([feed["z"] for feed in fed]), noise.normal(0, 5, (6,)))


def test_arrays_of_the_users_own_are_fed_as_they_are(tmp_path):
    own = np.arange(6, dtype=np.float32)[None]
    np.savez(tmp_path / "z.npz", z=own)
    np.testing.assert_array_equal(sample_feed(str(tmp_path / "z.npz"), SIGNATURE, CONTRACT)["z"], own)


def test_anything_else_is_not_noise():
    with pytest.raises(DataError, match=r"'cat\.jpg' is not; give noise:64"):
        sample_feed("cat.jpg", SIGNATURE, CONTRACT)


def test_spelled_noise_is_one_sample_of_the_models_own_shape() -> None:
    """What the bench is given with ``--input``: the first of the samples that ``run`` makes of the same words."""
    signature = Signature((TensorSpec("noise", "float32", ("batch", 6)),), ())
    contract = {"noise": InputSpec("noise")}
    (found,) = sample_feed("noise:64@7", signature, contract).values()
    assert (found == noise.normal(7, 64, (6,))[:1]).all()
    with pytest.raises(DataError, match="is a generator and takes noise"):
        sample_feed("photo.png", signature, contract)
