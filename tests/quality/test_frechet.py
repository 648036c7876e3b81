"""The Fréchet distance: against scipy's matrix square root, by hand in one dimension, and on images."""

import numpy as np
import pytest
import scipy.linalg
import torch

from edgekit.data import Dataset, open_data
from edgekit.data.noise import normal
from edgekit.errors import DataError, ModelError, SourceError
from edgekit.models.checkpoint import save_checkpoint
from edgekit.models.family import new_network
from edgekit.quality import frechet as module
from edgekit.quality.evaluate import evaluate
from edgekit.quality.frechet import FeatureNetwork, as_pixels, distance, moments, real_images, square_root
from edgekit.types import Card, InputSpec, Signature, Task, TensorSpec

pytestmark = pytest.mark.usefixtures("kept_workers")

SIGNATURE = Signature((TensorSpec("noise", "float32", (1, 3)),), (TensorSpec("image", "float32", (1, 1, 8, 8)),))


def covariance(features, samples, seed):
    rng = np.random.default_rng(seed)
    return np.cov(rng.normal(size=(samples, features)) @ rng.normal(size=(features, features)), rowvar=False)


def test_the_square_root_is_scipys():
    matrix = covariance(12, 100, 0)
    root = square_root(matrix)
    # eigenvalues to 1e-15 of the largest: 1e-7 of the root where they are smallest
    np.testing.assert_allclose(root, scipy.linalg.sqrtm(matrix), atol=1e-7 * np.abs(root).max())
    np.testing.assert_allclose(root @ root, matrix, atol=1e-12 * np.abs(matrix).max())


def test_the_distance_is_the_published_formula():
    a, b = covariance(10, 80, 1), covariance(10, 60, 2)
    mean_a, mean_b = np.arange(10.0), np.zeros(10)
    published = ((mean_a - mean_b) ** 2).sum() + np.trace(a + b - 2 * scipy.linalg.sqrtm(a @ b).real)
    assert distance(mean_a, a, mean_b, b) == pytest.approx(published, rel=1e-9)  # float64, condition below 1e6


def test_by_hand_in_one_dimension():
    """Of N(m, s) and N(n, t): (m - n)^2 + (s - t)^2."""
    assert distance(np.array([3.0]), np.array([[4.0]]), np.array([1.0]), np.array([[25.0]])) == pytest.approx(4 + 9)


def test_fewer_samples_than_features():
    few = np.random.default_rng(0).normal(size=(5, 30))
    assert distance(*moments(few), *moments(few)) == pytest.approx(0.0, abs=1e-6)
    assert distance(*moments(few), *moments(few + 1)) == pytest.approx(30.0, rel=1e-6)
    with pytest.raises(ValueError, match="two samples"):
        moments(few[:1])


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """A feature network: the features of a random network tell images apart as well (Rahimi and Recht, 2007)."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("features") / "net.safetensors"
    save_checkpoint(new_network("cnn", open_data("digits@train"), {"width": 8, "blocks": (1, 1)}), path)
    return str(path)


def card(features, **params):
    known = {"range": (-1.0, 1.0), "channels": 1, "size": (8, 8), "features": features, **params}
    task = Task("generation", metric="frechet", params=known)
    return Card("g", "custom", task, SIGNATURE, {"noise": InputSpec("noise")})


class Painter:
    """A generator that gives the images it was given, whatever the noise, and records the noise."""

    signature = SIGNATURE

    def __init__(self, images):
        self.images, self.fed = images, []

    def run(self, feed):
        self.fed.append(feed["noise"])
        return {"image": self.images[[(len(self.fed) - 1) % len(self.images)]]}


def as_outputs(dataset):
    task = card("").task
    return (real_images(dataset, task).transpose(0, 3, 1, 2) / 127.5 - 1).astype(np.float32)


def test_images_like_the_real_ones_are_near(features):
    test, train = open_data("digits@test"), open_data("digits@train")
    near = evaluate(Painter(as_outputs(train)), test, card(features))
    assert (near.metric, near.lower_is_better, near.total, near.data) == ("frechet", True, 359, "digits@test")
    # the training images, generated, are just as far from the test images as the training images
    assert near.value == pytest.approx(near.details["reference"], rel=1e-9)
    assert near.details["reference_data"] == "digits@train against digits@test"
    assert near.details["generated"] == len(train)
    shuffled = np.random.default_rng(0).permuted(as_outputs(train).reshape(len(train), -1), axis=1)
    far = evaluate(Painter(shuffled.reshape(-1, 1, 8, 8)), test, card(features))
    assert far.value > 10 * near.value
    one = evaluate(Painter(as_outputs(train)[:1]), test, card(features))  # the same image again and again
    assert one.value > 10 * near.value


def test_the_noise_is_seeded_and_a_limit_bounds_the_work(features):
    painter = Painter(as_outputs(open_data("digits@test")))
    found = evaluate(painter, open_data("digits@test"), card(features), limit=50)
    assert (found.total, found.details["generated"]) == (50, 50)
    np.testing.assert_array_equal(np.concatenate(painter.fed), normal(module.SEED, 50, (3,)))


def test_the_feature_network_stands_beside_the_figure(features):
    found = evaluate(Painter(as_outputs(open_data("digits@test"))), open_data("digits@test"), card(features), limit=20)
    assert found.details["features"] == features
    assert found.details["features_sha256"] == FeatureNetwork.of(features).sha256
    assert len(found.details["features_sha256"]) == 64


def test_data_without_a_second_split(features):
    whole = open_data("digits@all").subset(np.arange(30))
    found = evaluate(Painter(as_outputs(whole)), whole, card(features))
    assert "reference" not in found.details
    assert found.details["generated"] == 30


def test_pixels():
    images = np.float32([[[[-1.0, 1.0], [0.0, 3.0]]]])
    np.testing.assert_array_equal(as_pixels(images, card("").task)[0, ..., 0], [[0, 255], [128, 255]])
    task = card("", range=(0.0, 1.0)).task
    np.testing.assert_array_equal(as_pixels(images, task)[0, ..., 0], [[0, 255], [0, 255]])


def test_what_cannot_be_measured(features):
    painter = Painter(np.full((1, 1, 8, 8), np.nan, np.float32))
    with pytest.raises(ModelError, match="NaN in 'image' for samples 0 to 0"):
        evaluate(painter, open_data("digits@test"), card(features), limit=5)
    with pytest.raises(DataError, match="holds table samples"):
        evaluate(painter, open_data("breast-cancer@test"), card(features), limit=5)
    bare = Card("g", "custom", Task("generation"), SIGNATURE)
    with pytest.raises(ModelError, match="range and size"):
        evaluate(painter, open_data("digits@test"), bare)
    with pytest.raises(SourceError, match="takes table data"):
        evaluate(painter, open_data("digits@test"), card("mlp"))


def test_the_other_split_may_be_missing(features, caplog):
    lonely = Dataset("nowhere", "test", "image", open_data("digits@test").arrays)
    found = evaluate(Painter(as_outputs(lonely)), lonely, card(features), limit=10)
    assert "reference" not in found.details
