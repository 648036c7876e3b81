"""What training minimises where the answers are values, or several labels at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edgekit.data import Dataset
from edgekit.errors import DataError
from edgekit.models.family import Hyperparameters
from edgekit.models.objective import Objective, View, soft_values
from edgekit.taskfields import gives_logits
from edgekit.types import Network

_EDGE = 1e-6
"""Probabilities nearer to 0 or 1 than this are taken for it: their logits are finite."""


def _values(data: Dataset, network: Network) -> Tensor:
    known = data.targets if data.targets is not None else data.labels
    if known is None:
        raise DataError(f"{data.label} has no values to learn; let the target of each sample be a number")
    return torch.from_numpy(np.asarray(known, np.float32).reshape(len(data), -1))


def _flat(results: Sequence[Tensor]) -> Tensor:
    return results[0].float().flatten(1) if results[0].ndim > 1 else results[0].float()[:, None]


def _squared(outputs: Tensor, targets: Tensor, inputs: Tensor, options: Hyperparameters) -> Tensor:
    _same_width(outputs, targets)
    return F.mse_loss(outputs, targets)


def _minus_absolute(outputs: Tensor, targets: Tensor, inputs: Tensor) -> float:
    return -float((outputs - targets).abs().mean(1).sum())


def _same_width(outputs: Tensor, targets: Tensor) -> None:
    if outputs.shape != targets.shape:
        raise DataError(f"the network gives {outputs.shape[1]} values a sample, the data have {targets.shape[1]}")


def _rows(data: Dataset, network: Network) -> Tensor:
    """Float32 (N, classes) of 0 and 1."""
    if data.answers is None:
        raise DataError(f"{data.label} has no rows of labels; let the target of each sample be 0 or 1 for each class")
    rows = [np.asarray(data.answers[k]) for k in range(len(data))]
    for index, row in enumerate(rows):
        if (
            row.shape != rows[0].shape
            or row.ndim != 1
            or row.dtype.kind not in "iubf"
            or not np.isin(row, (0, 1)).all()
        ):
            raise DataError(f"the target of sample {index} of {data.label} is not a row of 0 and 1, one a class")
    return torch.from_numpy(np.stack(rows).astype(np.float32))


def _logits(network: Network) -> View:
    classes = len(network.task.labels)
    outputs = network.signature.outputs
    place = next((k for k, spec in enumerate(outputs) if classes and spec.shape[1:] == (classes,)), 0)
    probabilities = not gives_logits(network.task.params)

    def view(results: Sequence[Tensor]) -> Tensor:
        found = results[place].float()
        return torch.logit(found, _EDGE) if probabilities else found

    return view


def _binary(outputs: Tensor, targets: Tensor, inputs: Tensor, options: Hyperparameters) -> Tensor:
    _same_width(outputs, targets)
    return F.binary_cross_entropy_with_logits(outputs, targets)


def _minus_binary(outputs: Tensor, targets: Tensor, inputs: Tensor) -> float:
    return -float(F.binary_cross_entropy_with_logits(outputs, targets, reduction="none").mean(1).sum())


def _soft_labels(outputs: Tensor, teacher: Tensor, options: Hyperparameters) -> Tensor:
    """t^2 times the cross-entropy with the teacher's probabilities at temperature t, label by label, less the entropy
    of these: 0 where both are the same."""
    t = options.temperature
    wanted = torch.sigmoid(teacher / t)
    entropy = F.binary_cross_entropy(wanted, wanted)
    return t * t * (F.binary_cross_entropy_with_logits(outputs / t, wanted) - entropy)


REGRESSION = Objective(_values, _squared, _minus_absolute, "minus MAE", lambda network: _flat, soft=soft_values)
MULTILABEL = Objective(_rows, _binary, _minus_binary, "minus cross-entropy", _logits, soft=_soft_labels)
