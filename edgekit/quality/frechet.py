"""The Fréchet distance between generated and real images in the features of a classifier (Heusel et al., 2017).

Images of both kinds go through a network trained on other images; the values before its last layer are taken as samples
of two normal distributions, whose distance (Fréchet, 1957; Dowson and Landau, 1982) is

    |m1 - m2|^2 + trace(C1 + C2 - 2 (C1 C2)^(1/2)).

The published distance has an Inception network trained on ImageNet; here the network is named in the card, and its hash
stands beside the figure: distances are comparable for one network and one number of samples only. What the distance
between two sets of real images is, one has to know as well: it is measured with the same numbers of samples.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.data.dataset import Dataset, open_data, stratified
from edgekit.data.noise import normal
from edgekit.data.preprocess import apply_contract
from edgekit.errors import DataError, EdgekitError, ModelError, SourceError
from edgekit.quality.evaluate import Runs, checked, model_batches
from edgekit.results.eval import Evaluation, Outcomes
from edgekit.types import Array, Card, InputSpec, Task

if TYPE_CHECKING:
    import torch

log = logging.getLogger("edgekit")
MOST = 5000
"""Images of each kind at most: with 64 features their covariance is then known to a few per cent."""
SEED = 0
_BATCH = 250


def frechet(runner: Runs, dataset: Dataset, card: Card | None, limit: int | None) -> Evaluation:
    """The distance of generated images to those of ``dataset``, and beside it that of the other split's real images.

    As many images are generated as the other split has (at most :data:`MOST`), so that both distances are measured
    with the same numbers of samples.

    Raises:
        ModelError: the model gives NaN, or its card does not say what its images are.
        DataError: samples that are not images.
        SourceError: the feature network cannot be loaded.
    """
    task = card.task if card is not None else Task()
    if "range" not in task.params or "size" not in task.params:
        raise ModelError("the card does not say the range and size of the generated images; train the network again")
    network = FeatureNetwork.of(str(task.params.get("features", "cnn")))
    count = min(len(dataset) if limit is None else limit, MOST)
    real = network.features(real_images(stratified(dataset, count), task))
    other = _other_split(dataset)
    reference = None
    made = len(real)
    if other is not None:
        twin = network.features(real_images(stratified(other, min(limit or MOST, MOST)), task))
        reference, made = distance(*moments(twin), *moments(real)), len(twin)
    generated = network.features(generated_images(runner, card, task, made))
    against = moments(real)
    value = distance(*moments(generated), *against)
    outcomes = Outcomes("features", generated, reference=against)
    details: dict[str, Any] = {"generated": made, "real": len(real)}
    if other is not None:
        details |= {"reference": reference, "reference_data": f"{other.label} against {dataset.label}"}
    details |= {"features": network.name, "features_sha256": network.sha256}
    return Evaluation(
        "frechet", value, len(real), dataset.label, details=details, lower_is_better=True, outcomes=outcomes
    )


def _other_split(dataset: Dataset) -> Dataset | None:
    """The training images where ``dataset`` are the test images, and the other way round; None where it is all."""
    name = {"train": "test", "test": "train"}.get(dataset.split)
    if name is None:
        return None
    try:
        return open_data(f"{dataset.name}@{name}")
    except EdgekitError as error:
        log.info("the distance between real images is not known: %s", error)
        return None


class FeatureNetwork:
    """A classifier cut before its last linear layer.

    Attributes:
        name: of the zoo, or a checkpoint of such a network.
        sha256: of its weights.

    Raises:
        SourceError: it is another name, or not a classifier of images.
    """

    def __init__(self, name: str) -> None:
        from torch import nn

        from edgekit.source import resolve
        from edgekit.source.checkpoint import Checkpoint
        from edgekit.source.zoo import Zoo

        if not Zoo().claims(name) and not Checkpoint().claims(name):  # the name comes from a card
            raise SourceError(
                f"the card compares images by the features of {name!r}, which is neither a network of the zoo nor a "
                "checkpoint; edgekit opens no other file that a card names"
            )
        network = resolve(name)
        rule = next(iter(network.card.contract.values()), None)
        linear = [module for module in network.module.modules() if isinstance(module, nn.Linear)]
        if rule is None or rule.kind != "image" or not linear:
            raise SourceError(
                f"{name} cannot give features of images: it takes {rule.kind if rule else 'unknown'} data and has "
                f"{len(linear)} linear layers; an image classifier that ends in one is needed"
            )
        self.name, self.sha256 = name, network.card.source_sha256
        self._contract, self._module, self._last = rule, network.module.eval(), linear[-1]

    @staticmethod
    @lru_cache(maxsize=2)
    def of(name: str) -> FeatureNetwork:
        """The network called ``name``, loaded once."""
        return FeatureNetwork(name)

    def features(self, images: Array) -> Array:
        """uint8 (N, H, W, C) -> float64 (N, features)."""
        import torch

        seen: list[Array] = []

        def keep(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            seen.append(inputs[0].numpy().astype(np.float64))

        hook = self._last.register_forward_pre_hook(keep)
        try:
            with torch.inference_mode():
                for start in range(0, len(images), _BATCH):
                    feed = apply_contract(images[start : start + _BATCH], self._contract)
                    self._module(torch.from_numpy(feed))
        finally:
            hook.remove()
        return np.concatenate(seen)


def real_images(dataset: Dataset, task: Task) -> Array:
    """The images of ``dataset`` as the generator was shown them: uint8 (N, H, W, C) of its size and channels."""
    height, width = task.params["size"]
    contract = InputSpec("image", "NHWC", (int(height), int(width)), int(task.params["channels"]))
    raw = dataset.arrays.get("image")
    if dataset.kind != "image" or raw is None:
        raise DataError(f"{dataset.label} holds {dataset.kind} samples; generated images are compared with images")
    return np.rint(apply_contract(raw, contract)).astype(np.uint8)


def generated_images(runner: Runs, card: Card | None, task: Task, count: int) -> Array:
    """``count`` images from seeded noise, as uint8 (N, H, W, C).

    Raises:
        ModelError: the model gives NaN.
    """
    (spec,) = runner.signature.inputs
    noise = normal(SEED, count, spec.resolved()[1:])
    given = Dataset("noise", "all", "array", {spec.name: noise})
    made: list[Array] = []
    done = 0
    for feed, real in model_batches(runner.signature, given, card.contract if card else {}, count):
        outputs = runner.run(feed)
        made.append(as_pixels(checked(outputs, next(iter(outputs)), real, done, given), task))
        done += real
    return np.concatenate(made)


def as_pixels(images: Array, task: Task) -> Array:
    """Model outputs (N, C, H, W) in the task's range -> uint8 (N, H, W, C)."""
    low, high = map(float, task.params["range"])
    bytes_ = np.rint((np.asarray(images, np.float64) - low) * (255.0 / (high - low))).clip(0, 255)
    return np.asarray(bytes_.astype(np.uint8).transpose(0, 2, 3, 1), order="C")


def moments(features: Array) -> tuple[Array, Array]:
    """Mean and unbiased covariance of ``features`` (N, D).

    Raises:
        ValueError: fewer than two samples, which have no covariance.
    """
    if len(features) < 2:
        raise ValueError(f"a covariance needs two samples or more, got {len(features)}")
    return features.mean(0), np.atleast_2d(np.cov(features, rowvar=False))


def square_root(matrix: Array) -> Array:
    """The symmetric square root of a symmetric matrix without negative eigenvalues; those below 0 by rounding are 0."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    root: Array = (vectors * np.sqrt(values.clip(0.0))) @ vectors.T
    return root


def distance(mean_a: Array, covariance_a: Array, mean_b: Array, covariance_b: Array) -> float:
    """The squared Fréchet distance of two normal distributions.

    C1 C2 has the eigenvalues of the symmetric matrix C1^(1/2) C2 C1^(1/2), so the trace of its root needs symmetric
    decompositions only, which are stable where the covariances are singular (fewer samples than features).
    """
    root = square_root(covariance_a)
    middle = root @ covariance_b @ root
    values = np.linalg.eigvalsh((middle + middle.T) / 2)
    trace = 2.0 * float(np.sqrt(values.clip(0.0)).sum())
    apart = float(((mean_a - mean_b) ** 2).sum())
    return max(apart + float(np.trace(covariance_a) + np.trace(covariance_b)) - trace, 0.0)
