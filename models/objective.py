"""What training minimises and what chooses the best epoch, one objective a kind of task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from edgekit import registry
from edgekit.data import Dataset
from edgekit.errors import DataError
from edgekit.models.family import Hyperparameters, require_labels
from edgekit.types import Network

View = Callable[[Sequence[Tensor]], Any]


def _first(results: Sequence[Tensor]) -> Tensor:
    return results[0].float()


@dataclass(frozen=True, slots=True)
class Objective:
    """Loss and score of one kind of task.

    Attributes:
        targets: data set and network -> one target a sample, first axis = sample.
        loss: (outputs, targets, inputs, options) -> scalar.
        score: (outputs, targets, inputs) -> the sum over the batch of a figure of which more is better.
        name: of the score, as progress shows it; an accuracy is 0..1, an error is given as minus its value.
        view: network -> what makes ``outputs`` of the results of the network, in their order: the first without it.
        moves: a target is a picture, (N, H, W), which augmentation moves with its sample.
        soft: (outputs, a teacher's outputs for the same inputs, options) -> scalar, what a student learns of its
            teacher; None: it cannot be taught.
    """

    targets: Callable[[Dataset, Network], Any]
    loss: Callable[[Any, Any, Tensor, Hyperparameters], Tensor]
    score: Callable[[Any, Any, Tensor], float]
    name: str
    view: Callable[[Network], View] = lambda network: _first
    moves: bool = False
    soft: Callable[[Any, Any, Hyperparameters], Tensor] | None = None


def objective(kind: str) -> Objective:
    """The objective of a task's kind.

    Raises:
        DataError: the loop does not train that kind (a GAN has a loop of its own).
    """
    known = registry.names("objectives")
    if kind not in known:
        raise DataError(
            f"a task of kind {kind!r} has no training objective; there are: {', '.join(known)}. Say what is minimised: "
            "--loss file.py:function"
        )
    found = registry.lookup("objectives", kind)
    if not isinstance(found, Objective):
        raise DataError(f"the objective {kind!r} is a {type(found).__name__}, not an Objective")
    return found


def _class_indices(data: Dataset, network: Network) -> Tensor:
    require_labels(data)
    assert data.labels is not None
    return torch.from_numpy(data.labels.astype("int64"))


def _future(data: Dataset, network: Network) -> Tensor:
    """Targets in units of the normalised series: (raw - mean) / std of the task."""
    if data.targets is None:
        raise DataError(f"{data.label} has no values to forecast; give series:FILE.csv or etth1")
    params: Any = network.task.params
    mean, std = float(params.get("mean", 0.0)), float(params.get("std", 1.0))
    return torch.from_numpy(((data.targets - mean) / std).astype("float32"))


def _nothing(data: Dataset, network: Network) -> Tensor:
    return torch.zeros(len(data))


def _cross_entropy(outputs: Tensor, targets: Tensor, inputs: Tensor, options: Hyperparameters) -> Tensor:
    return F.cross_entropy(outputs, targets, label_smoothing=options.smoothing)


def _squared_error(outputs: Tensor, targets: Tensor, inputs: Tensor, options: Hyperparameters) -> Tensor:
    return F.mse_loss(outputs, targets)


def _reconstruction(outputs: Tensor, targets: Tensor, inputs: Tensor, options: Hyperparameters) -> Tensor:
    return F.mse_loss(outputs, inputs)


def _correct(outputs: Tensor, targets: Tensor, inputs: Tensor) -> float:
    return float((outputs.argmax(1) == targets).sum())


def _minus_squared_error(outputs: Tensor, targets: Tensor, inputs: Tensor) -> float:
    return -float(((outputs - targets) ** 2).flatten(1).mean(1).sum())


def _minus_reconstruction(outputs: Tensor, targets: Tensor, inputs: Tensor) -> float:
    return -float(((outputs - inputs) ** 2).flatten(1).mean(1).sum())


def _logits(network: Network) -> View:
    """The output as wide as there are labels, else the first; of a sequence its last step, (B, classes)."""
    labels, outputs = len(network.task.labels), network.signature.outputs
    place = next((k for k, spec in enumerate(outputs) if spec.shape and spec.shape[-1] == labels), 0)
    return lambda results: results[place].float().reshape(len(results[place]), -1, results[place].shape[-1])[:, -1]


def soft_classes(logits: Tensor, teacher: Tensor, options: Hyperparameters) -> Tensor:
    """Hinton's soft-target loss: t^2 KL(teacher || student) at temperature t.

    Args:
        logits, teacher: (B, classes), or (B, classes, ...) with classes at each place; the mean over all of them.
    """
    temperature = options.temperature
    log_student = F.log_softmax(logits / temperature, 1)
    log_teacher = F.log_softmax(teacher / temperature, 1)
    divergence = F.kl_div(log_student, log_teacher, log_target=True, reduction="none").sum(1).mean()
    return temperature * temperature * torch.as_tensor(divergence)


def soft_values(outputs: Tensor, teacher: Tensor, options: Hyperparameters) -> Tensor:
    """Squared error from the teacher's values (Saputra et al. 2019, regression)."""
    return F.mse_loss(outputs, teacher)


CLASSIFICATION = Objective(_class_indices, _cross_entropy, _correct, "accuracy", _logits, soft=soft_classes)
FORECASTING = Objective(_future, _squared_error, _minus_squared_error, "minus MSE", soft=soft_values)
ANOMALY = Objective(_nothing, _reconstruction, _minus_reconstruction, "minus MSE", soft=soft_values)
