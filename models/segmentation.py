"""What training minimises where every pixel has a class: cross-entropy and the Dice loss, pixels of 255 left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edgekit.data import Dataset
from edgekit.data.pixel_classes import IGNORED, score_map
from edgekit.data.pixels import fit_mask
from edgekit.errors import DataError
from edgekit.models.family import Hyperparameters
from edgekit.models.objective import Objective, View, soft_classes
from edgekit.types import Array, Network

_SMOOTH = 1.0
"""Pixels added to both sides of a Dice score, so that a class of few pixels does not decide a batch."""


def _view(network: Network) -> View:
    """The scores (B, classes, h, w), whichever output and axis they are; of a single score both its signs."""
    spec, axis, _ = score_map(network.signature, len(network.task.labels))
    place = network.signature.outputs.index(spec)

    def scores(results: Sequence[Tensor]) -> Tensor:
        found = results[place].float().movedim(axis, 1)
        return torch.cat([torch.zeros_like(found), found], 1) if found.shape[1] == 1 else found

    return scores


def _masks(data: Dataset, network: Network) -> Tensor:
    """Masks at the size of the input, uint8 or int32 (N, H, W).

    Raises:
        DataError: no masks, masks of several sizes, or a class that the network has not.
    """
    if data.answers is None:
        raise DataError(f"{data.label} has no masks to learn from; give masks:DIR, or a function of your own")
    _, _, classes = score_map(network.signature, len(network.task.labels))
    contract = next((one for one in network.card.contract.values() if one.kind == data.kind == "image"), None)
    masks: list[Array] = []
    for index in range(len(data)):
        mask = np.asarray(data.answers[index])
        if contract is not None:
            mask = fit_mask(mask, contract.size or mask.shape[-2:], contract)
        worst, least = int(mask[mask != IGNORED].max(initial=0)), int(mask.min(initial=0))
        if worst >= classes or least < 0:
            raise DataError(
                f"mask {index} of {data.label} has the class {least if least < 0 else worst}, the network has classes "
                f"0 to {classes - 1} (pixels of {IGNORED} are left out)"
            )
        if masks and mask.shape != masks[0].shape:
            raise DataError(
                f"mask {index} of {data.label} has the shape {mask.shape}, the first {masks[0].shape}; give masks of "
                "one size"
            )
        masks.append(mask.astype(np.uint8 if classes <= IGNORED else np.int32))
    return torch.from_numpy(np.stack(masks))


def _at_size(targets: Tensor, scores: Tensor) -> Tensor:
    """Masks (B, H, W) as int64 at the size of ``scores`` (B, classes, h, w), by the nearest pixel."""
    if targets.shape[1:] == scores.shape[2:]:
        return targets.long()
    return F.interpolate(targets[:, None].float(), scores.shape[2:], mode="nearest-exact")[:, 0].long()


def _loss(scores: Tensor, targets: Tensor, inputs: Tensor, options: Hyperparameters) -> Tensor:
    masks = _at_size(targets, scores)
    if not (masks != IGNORED).any():
        return scores.sum() * 0.0
    entropy = F.cross_entropy(scores, masks, ignore_index=IGNORED, label_smoothing=options.smoothing)
    return entropy + dice_loss(scores, masks)


def dice_loss(scores: Tensor, masks: Tensor) -> Tensor:
    """1 - the mean soft Dice score of the classes that occur in ``masks`` (Milletari et al. 2016).

    Args:
        scores: logits (B, classes, H, W).
        masks: int64 (B, H, W); pixels of 255 are left out.
    """
    counts = (masks != IGNORED)[:, None]
    right = F.one_hot(masks.where(masks != IGNORED, 0), scores.shape[1]).movedim(-1, 1) * counts
    guessed = scores.softmax(1) * counts
    both = (guessed * right).sum((0, 2, 3))
    total = guessed.sum((0, 2, 3)) + right.sum((0, 2, 3))
    there = right.sum((0, 2, 3)) > 0
    return 1 - ((2 * both + _SMOOTH) / (total + _SMOOTH))[there].mean()


def _overlap(scores: Tensor, targets: Tensor, inputs: Tensor) -> float:
    """The sum over the batch of each picture's mean intersection over union, of the classes that occur in it."""
    masks, guessed, classes = _at_size(targets, scores), scores.argmax(1), scores.shape[1]
    total = 0.0
    for mask, guess in zip(masks, guessed, strict=True):
        counts = mask != IGNORED
        pairs = torch.bincount(mask[counts] * classes + guess[counts], minlength=classes**2).view(classes, classes)
        union = pairs.sum(0) + pairs.sum(1) - pairs.diag()
        iou = pairs.diag()[union > 0] / union[union > 0]
        total += float(iou.mean()) if len(iou) else 1.0
    return total


SEGMENTATION = Objective(_masks, _loss, _overlap, "mIoU of a picture", _view, moves=True, soft=soft_classes)
