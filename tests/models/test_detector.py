"""The detector: its shapes, which cell is to find what, its loss, and training end to end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit.data.boxes import make_boxes
from edgekit.data.dataset import Dataset
from edgekit.errors import DataError, UsageError
from edgekit.models.boxes import DETECTION, _assigned, _overlaps
from edgekit.models.checkpoint import load_checkpoint, save_checkpoint
from edgekit.models.detector import detector, with_classes
from edgekit.models.family import Hyperparameters, new_network, parameter_count
from edgekit.models.training import fit
from edgekit.pipeline.train import module_runner
from edgekit.quality.evaluate import evaluate
from edgekit.types import Signature


def test_shapes_and_size() -> None:
    network = detector(size=(40, 64), classes=3).eval()
    boxes, scores = network(torch.zeros(2, 3, 40, 64))
    assert boxes.shape == (2, 5 * 8, 4) and scores.shape == (2, 5 * 8, 3)
    assert scores.min().item() > 0 and scores.max().item() < 0.5
    assert parameter_count(detector()) < 500_000
    for wrong in ({"size": (60, 64)}, {"classes": 0}, {"widths": (8, 8)}):
        with pytest.raises(ValueError, match="must be"):
            detector(**wrong)  # type: ignore[arg-type]


def test_cells_near_the_centre_find_the_smallest_object() -> None:
    # 6 x 6 cells of 8 pixels; a large object over all of them, and a small one in the second cell of the first row
    targets = torch.tensor([[[0, 0, 0, 48, 48], [1, 9, 1, 15, 7], [-1, -1, -1, -1, -1]]], dtype=torch.float32)
    index, found = _assigned(36, targets, torch.zeros(1, 3, 48, 48))
    wanted = torch.zeros(6, 6, dtype=torch.int64)
    wanted[1:5, 1:5] = 1
    wanted[0, 1] = 1
    assert torch.equal(found.reshape(6, 6).long(), wanted)
    assert index.reshape(6, 6)[0, 1] == 1 and index.reshape(6, 6)[1, 1] == 0


def test_overlap_by_hand() -> None:
    a, b = torch.tensor([0.0, 0, 10, 10]), torch.tensor([5.0, 0, 15, 10])
    overlap, generalised = _overlaps(a, b)
    assert float(overlap) == pytest.approx(50 / 150) and float(generalised) == pytest.approx(50 / 150)
    apart = _overlaps(a, torch.tensor([20.0, 0, 30, 10]))
    assert float(apart[0]) == 0 and float(apart[1]) == pytest.approx(-100 / 300)


def test_loss_is_least_where_boxes_and_scores_are_right() -> None:
    targets = torch.tensor([[[1, 4, 4, 28, 20]]], dtype=torch.float32)
    inputs = torch.zeros(1, 3, 32, 32)
    _, found = _assigned(16, targets, inputs)
    scores = torch.zeros(1, 16, 2)
    scores[0, :, 1] = found[0]
    right = torch.cat([targets[:, :1, 1:].expand(1, 16, 4), scores], -1)
    loss = float(DETECTION.loss(right, targets, inputs, Hyperparameters()))
    assert loss == pytest.approx(0, abs=1e-4)
    for shift in (
        torch.tensor([2.0, 0, 0, 0, 0, 0]),
        torch.tensor([0, 0, 0, 0, 0.5, 0]),
        torch.tensor([0, 0, 0, 0, 0, -0.5]),
    ):
        assert float(DETECTION.loss(right + shift, targets, inputs, Hyperparameters())) > loss + 0.01


def test_targets_are_in_pixels_of_the_input() -> None:
    answers = [make_boxes([[10, 20, 50, 60]], [1], size=(100, 200)), make_boxes([], [], size=(100, 200))]
    pictures = np.zeros((2, 100, 200, 3), np.uint8)
    data = Dataset("own", "train", "image", {"image": pictures}, classes=("a", "b"), answers=answers)
    network = new_network("detector", data)
    assert network.signature.inputs[0].shape == (1, 3, 96, 192)
    targets = DETECTION.targets(data, network).numpy()
    np.testing.assert_allclose(targets[0, 0], [1, 9.6, 19.2, 48, 57.6], rtol=1e-5)
    assert targets[1, 0, 0] == -1
    with pytest.raises(DataError, match="own@train has no boxes"):
        new_network("detector", Dataset("own", "train", "image", {"image": pictures}, classes=("a",)))
    with pytest.raises(DataError, match="holds no box to learn from"):
        DETECTION.targets(data.subset(np.array([1])), network)


def squares(split: str, count: int) -> Dataset:
    """Grey pictures of 32 x 32 with a bright or a dark square."""
    random = np.random.default_rng(0 if split == "train" else 1)
    pictures = random.integers(100, 140, (count, 32, 32, 3)).astype(np.uint8)
    answers = []
    for picture in pictures:
        side, label = int(random.integers(9, 16)), int(random.integers(0, 2))
        left, top = random.integers(0, 32 - side, 2)
        picture[top : top + side, left : left + side] = 250 * label
        answers.append(make_boxes([[left, top, left + side, top + side]], [label], size=(32, 32)))
    return Dataset("squares", split, "image", {"image": pictures}, classes=("dark", "bright"), answers=answers)


def test_it_learns_to_find_squares() -> None:
    torch.manual_seed(0)
    data = squares("train", 160)
    network = new_network("detector", data, {"widths": (8, 12, 16)})
    fit(network, data, Hyperparameters(epochs=12, batch=16, lr=8e-3, optimizer="adamw", clip=5.0))
    found = evaluate(module_runner(network), squares("test", 60), network.card)
    assert found.details["map50"] > 0.8


def test_other_classes_get_new_scores(tmp_path: Path) -> None:
    data = squares("train", 4)
    network = with_classes(new_network("detector", data), data)
    more = with_classes(network, replace(data, classes=("dark", "bright", "round")))
    assert [spec.shape for spec in more.signature.outputs] == [(1, 16, 4), (1, 16, 3)]
    assert more.task.labels == ("dark", "bright", "round")
    save_checkpoint(more, tmp_path / "d.safetensors")
    again = load_checkpoint(tmp_path / "d.safetensors")
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(again.module(x), more.module(x), rtol=0, atol=0)


def test_a_network_of_another_kind_is_refused() -> None:
    network = new_network("detector", squares("train", 4))
    boxes, scores = network.signature.outputs
    for outputs in ((scores, boxes), (boxes,), (boxes, replace(scores, shape=(1, 17, 2)), boxes)):
        other = replace(network, card=replace(network.card, signature=Signature(network.signature.inputs, outputs)))
        with pytest.raises(DataError, match=r"edgekit trains detectors .* --loss file.py:function"):
            DETECTION.view(other)


def test_an_augmentation_that_would_leave_the_boxes_behind_is_refused() -> None:
    data = squares("train", 8)
    with pytest.raises(UsageError, match="augment 'shift' moves pictures"):
        fit(new_network("detector", data), data, Hyperparameters(epochs=1, augment="shift"))
