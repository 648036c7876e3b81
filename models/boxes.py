"""How a detector of one map learns: which cell is to find which object, and what its box and scores should be.

Cells whose centre lies in an object, near its centre, are to find it (centre sampling, Tian et al. 2019), the smallest
where there are several. Boxes learn by generalised intersection over union (Rezatofighi et al. 2019); the score of the
class is to be the overlap that the box has (quality focal loss, Li et al. 2020), so that well placed boxes rank first.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from edgekit.data import Dataset
from edgekit.data.boxes import boxes_of
from edgekit.data.pixels import placement
from edgekit.errors import DataError
from edgekit.models.family import Hyperparameters
from edgekit.models.objective import Objective, View
from edgekit.types import Network

_NEAR = 1.5
"""Cells from an object's centre within which a cell is to find it."""
_BOX_WEIGHT = 2.0
"""Of the loss of boxes beside that of scores (Li et al. 2020)."""
_LEAST = 1e-6


def _joined(network: Network) -> View:
    """What puts boxes (B, N, 4) and scores (B, N, C) side by side, (B, N, 4 + C).

    Raises:
        DataError: the network does not give these two, of the cells of one map.
    """
    given, outputs = network.signature.inputs[0].resolved(), network.signature.outputs
    shapes = [spec.resolved() for spec in outputs]
    rule = network.card.contract.get(network.signature.inputs[0].name)
    cells = shapes[0][1] if len(shapes) == 2 and all(len(shape) == 3 for shape in shapes) else 0
    stride = round(math.sqrt(given[2] * given[3] / cells)) if cells and len(given) == 4 else 0
    fits = bool(stride) and (given[2] // stride) * (given[3] // stride) == cells and shapes[0][2] == 4
    if not fits or rule is None or rule.layout != "NCHW" or network.task.params.get("boxes") != "xyxy":
        listed = ", ".join(map(str, outputs))
        raise DataError(
            f"{network.name} gives {listed}; edgekit trains detectors of pictures (NCHW) that give boxes (1, N, 4) as "
            "xyxy and scores (1, N, classes) of the cells of one map, row by row. For others say what is minimised: "
            "--loss file.py:function"
        )
    return lambda results: torch.cat([results[0].float(), results[1].float()], -1)


def _targets(data: Dataset, network: Network) -> Tensor:
    """Class, left, top, right, bottom in pixels of the input of each object, float32 (pictures, most objects, 5);
    classes of -1 fill up."""
    rule = network.card.contract[network.signature.inputs[0].name]
    assert rule.size is not None
    pictures = data.arrays["image"]
    rows = []
    for index in range(len(data)):
        found = boxes_of(data, index)
        shape = found.size or np.asarray(pictures[index]).shape[:2]
        picture = (int(shape[0]), int(shape[1]))
        boxes = placement(picture, rule.size, rule.params).to_input(found.boxes, picture)
        boxes = np.clip(boxes, 0, [rule.size[1], rule.size[0]] * 2)
        kept = (boxes[:, 2:] > boxes[:, :2]).all(axis=1) & ~found.crowd
        rows.append(np.concatenate([found.labels[kept, None], boxes[kept]], axis=1))
    most = max(map(len, rows))
    if not most:
        raise DataError(f"{data.label} holds no box to learn from")
    table = np.full((len(rows), most, 5), -1, np.float32)
    for index, row in enumerate(rows):
        table[index, : len(row)] = row
    return torch.from_numpy(table)


def _loss_each(outputs: Tensor, targets: Tensor, inputs: Tensor) -> Tensor:
    """Loss of each picture, (B,), before it is divided by the number of cells that are to find something."""
    boxes, scores = outputs[..., :4], outputs[..., 4:].clamp(_LEAST, 1 - _LEAST)
    index, found = _assigned(outputs.shape[1], targets, inputs)
    wanted = targets.gather(1, index[..., None].expand(-1, -1, 5))  # (B, N, 5)
    overlap, generalised = _overlaps(boxes, wanted[..., 1:])
    box_loss = ((1 - generalised) * found).sum(1)
    quality = torch.zeros_like(scores)
    labels = wanted[..., :1].long().clamp(min=0)
    quality.scatter_(2, labels, (overlap.detach() * found)[..., None])
    entropy = torch.nn.functional.binary_cross_entropy(scores, quality, reduction="none")
    score_loss = ((quality - scores).detach().abs() ** 2 * entropy).sum((1, 2))
    return _BOX_WEIGHT * box_loss + score_loss


def _assigned(cells: int, targets: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """The object that each cell is to find, (B, N) and whether there is one, (B, N) of 0 and 1."""
    height, width = inputs.shape[2:]
    stride = round(math.sqrt(height * width / cells))
    rows, columns = torch.meshgrid(torch.arange(height // stride), torch.arange(width // stride), indexing="ij")
    centres = ((torch.stack([columns, rows], -1) + 0.5) * stride).reshape(1, -1, 1, 2).to(targets)  # (1, N, 1, 2)
    start, end = targets[:, None, :, 1:3], targets[:, None, :, 3:]  # (B, 1, M, 2)
    away = (centres - (start + end) / 2).abs().amax(-1)  # (B, N, M)
    inside = ((centres > start) & (centres < end)).all(-1) & (away <= _NEAR * stride)
    near = (inside | (away <= stride / 2)) & (targets[:, None, :, 0] >= 0)
    area = (end - start).prod(-1).expand_as(away).masked_fill(~near, math.inf)
    least, index = area.min(-1)
    return index, torch.isfinite(least).to(targets)


def _overlaps(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection over union of boxes (..., 4) and the generalised one, (...)."""
    shared = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    around = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    union = sum((one[..., 2:] - one[..., :2]).clamp(min=0).prod(-1) for one in (a, b)) - shared
    overlap = shared / union.clamp(min=_LEAST)
    return overlap, overlap - (around - union) / around.clamp(min=_LEAST)


def _loss(outputs: Tensor, targets: Tensor, inputs: Tensor, options: Hyperparameters) -> Tensor:
    _, found = _assigned(outputs.shape[1], targets, inputs)
    return _loss_each(outputs, targets, inputs).sum() / found.sum().clamp(min=1)


def _minus_loss(outputs: Tensor, targets: Tensor, inputs: Tensor) -> float:
    return -float(_loss_each(outputs, targets, inputs).sum())


def _soft(outputs: Tensor, teacher: Tensor, options: Hyperparameters) -> Tensor:
    """Scores learn the teacher's (quality focal loss), boxes its boxes, each cell as much as the teacher is sure of it,
    which is its best score; divided by how sure it is in all."""
    scores, wanted = (values[..., 4:].clamp(_LEAST, 1 - _LEAST) for values in (outputs, teacher))
    sure = wanted.amax(-1)  # (B, N)
    _, generalised = _overlaps(outputs[..., :4], teacher[..., :4])
    entropy = torch.nn.functional.binary_cross_entropy(scores, wanted, reduction="none")
    score_loss = ((wanted - scores).detach().abs() ** 2 * entropy).sum()
    return (_BOX_WEIGHT * ((1 - generalised) * sure).sum() + score_loss) / sure.sum().clamp(min=1)


DETECTION = Objective(_targets, _loss, _minus_loss, "minus loss", _joined, soft=_soft)
