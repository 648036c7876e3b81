"""Training on masks: the loss, what is left out of it, and masks that move with their pictures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from edgekit.data import Dataset
from edgekit.errors import DataError
from edgekit.models.family import Hyperparameters, family, measure_contract, new_network, parameter_count
from edgekit.models.samples import TrainingSamples
from edgekit.models.segmentation import SEGMENTATION, dice_loss
from edgekit.models.segmenter import segmenter
from edgekit.types import Card, InputSpec, Network, Signature, Task, TensorSpec

QUICK = Hyperparameters(batch=4, augment="crop-flip", validation=0.2)


def pictures(count: int = 10, size: tuple[int, int] = (16, 24)) -> Dataset:
    """Every pixel says its class, so that a mask that was moved otherwise than its picture is seen."""
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 3, (count, *size)).astype(np.uint8)
    images = np.repeat(masks[..., None] * 100, 3, -1)
    return Dataset("made", "train", "image", {"image": images}, classes=("a", "b", "c"), answers=masks)


def network(scores: TensorSpec, labels: tuple[str, ...] = ("a", "b", "c")) -> Network:
    spec = TensorSpec("image", "float32", (1, 3, 16, 24))
    contract = {"image": InputSpec("image", "NCHW", (16, 24), 3, 1 / 255)}
    card = Card("made", "custom", Task("segmentation", labels, "miou"), Signature((spec,), (scores,)), contract)
    return Network(torch.nn.Conv2d(3, 3, 1), {"image": np.zeros(spec.resolved(), np.float32)}, card)


SCORES = TensorSpec("scores", "float32", (1, 3, 16, 24))


def test_a_mask_moves_with_its_picture() -> None:
    samples = TrainingSamples(network(SCORES), pictures(), QUICK)
    seen = 0
    for (inputs,), targets in samples.batches(0, QUICK):
        assert torch.equal((inputs[:, 0] * 2.55).round().long(), targets.long())
        seen += len(targets)
    original = torch.from_numpy(pictures().answers)  # type: ignore[arg-type]
    assert seen == 8 and not all((targets == one).all((1, 2)).any() for one in original[samples.kept])
    (inputs,), targets = next(samples.held_batches())
    assert torch.equal(targets, original[samples.held])


def test_the_dice_loss_by_hand() -> None:
    masks = torch.tensor([[[0, 1], [1, 255]]])
    sure = torch.full((1, 3, 2, 2), -50.0)
    sure[0, 0, 0, 0] = sure[0, 1, 0, 1] = sure[0, 1, 1, 0] = sure[0, 2, 1, 1] = 50.0
    assert float(dice_loss(sure, masks)) == pytest.approx(0, abs=1e-6)
    wrong = sure.roll(1, 1)
    # class 0: nothing guessed, 1 right: (0 + 1) / (1 + 1); class 1: 1 guessed, 2 right: 1 / 4
    assert float(dice_loss(wrong, masks)) == pytest.approx(1 - (1 / 2 + 1 / 4) / 2, abs=1e-6)


def test_pixels_of_255_are_left_out() -> None:
    scores = torch.zeros(1, 3, 4, 4, requires_grad=True)
    masks = torch.full((1, 4, 4), 255)
    masks[0, 0, 0] = 1
    SEGMENTATION.loss(scores, masks, scores, QUICK).backward()
    gradient = scores.grad
    assert gradient is not None and gradient[0, :, 0, 0].abs().sum() > 0
    gradient[0, :, 0, 0] = 0
    assert float(gradient.abs().sum()) == 0
    nothing = SEGMENTATION.loss(scores, torch.full((1, 4, 4), 255), scores, QUICK)
    assert float(nothing.detach()) == 0 and nothing.requires_grad
    assert SEGMENTATION.score(scores, masks, scores) == pytest.approx(0)  # all zeros are of class 0


@pytest.mark.parametrize(
    ("shape", "result"),
    [((1, 3, 8, 12), (2, 3, 8, 12)), ((1, 8, 12, 3), (2, 3, 8, 12)), ((1, 1, 16, 24), (2, 2, 16, 24))],
)
def test_scores_are_found_wherever_they_are(shape: tuple[int, ...], result: tuple[int, ...]) -> None:
    """Channels first or last, a single score, at half of the size."""
    labels = ("a", "b", "c") if 3 in shape else ("a", "b")
    made = network(TensorSpec("s", "float32", shape), labels)
    given = torch.randn(2, *shape[1:])
    view = SEGMENTATION.view(made)([given])
    assert view.shape == result
    if len(labels) == 2:
        assert torch.equal(view.argmax(1), (given[:, 0] > 0).long())
    targets = torch.zeros(2, 16, 24, dtype=torch.uint8)
    assert torch.isfinite(SEGMENTATION.loss(view, targets, view, QUICK))


def test_masks_that_do_not_fit() -> None:
    data = pictures()
    too_many = replace(data, answers=np.full((10, 16, 24), 7, np.uint8))
    with pytest.raises(DataError, match=r"mask 0 of made@train has the class 7, the network has classes 0 to 2"):
        SEGMENTATION.targets(too_many, network(SCORES))
    with pytest.raises(DataError, match="has no masks to learn from"):
        SEGMENTATION.targets(replace(data, answers=None), network(SCORES))
    with pytest.raises(DataError, match="one whole number a pixel"):
        SEGMENTATION.targets(replace(data, answers=np.zeros((10, 16, 24, 3))), network(SCORES))


def test_a_u_net_of_any_size_that_its_stride_divides() -> None:
    model = segmenter(classes=5).eval()
    assert parameter_count(model) < 500_000
    for size in ((8, 8), (32, 72)):
        assert model(torch.zeros(2, 3, *size)).shape == (2, 5, *size)
    with pytest.raises(ValueError, match="two widths"):
        segmenter(widths=(8,))


def test_the_size_is_that_of_the_data_or_the_one_asked_for() -> None:
    data = pictures(size=(16, 24))
    made = new_network("segmenter", data)
    assert made.signature.outputs[0].shape == (1, 3, 16, 24) and made.task.labels == ("a", "b", "c")
    asked = new_network("segmenter", replace(data, params={"size": (32, 40)}))
    assert asked.card.contract["image"].size == (32, 40) and asked.signature.inputs[0].shape == (1, 3, 32, 40)
    with pytest.raises(DataError, match=r"multiples of 8.* give --size 16x32"):
        new_network("segmenter", pictures(size=(17, 30)))
    for name in ("cnn", "lstm", "transformer", "autoencoder", "gan"):
        labelled = replace(data, labels=np.arange(10) % 3, params={"size": (32, 32)})
        made = family(name).fit(labelled)
        shape = made.output.shape if name == "gan" else made.input.shape
        assert 32 in shape and (made.contract.size == (32, 32) or name == "gan")
    assert measure_contract(data, (4, 4)).size == (4, 4)


def test_classes_of_masks_that_nothing_names() -> None:
    unnamed = replace(pictures(), classes=())
    assert new_network("segmenter", unnamed).task.labels == ("0", "1", "2")
    with pytest.raises(DataError, match="hold no class but 0"):
        new_network("segmenter", replace(unnamed, answers=np.zeros((10, 16, 24), np.uint8)))
    with pytest.raises(DataError, match="has no masks"):
        new_network("segmenter", replace(unnamed, answers=None))
