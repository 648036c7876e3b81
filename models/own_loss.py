"""``--loss file.py:function``: what training minimises, as the user wrote it.

``function(outputs, answers)`` gets the outputs of a batch by name, tensors with the sample on the first axis, and the
answers of the same samples: class indices, values, or masks as one tensor, anything else as the data gave it, tensors
in place of arrays. It gives a scalar tensor that depends on the outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from edgekit import registry
from edgekit.data import Dataset
from edgekit.errors import DataError
from edgekit.models.family import Hyperparameters
from edgekit.models.objective import Objective, View, objective
from edgekit.types import Network
from edgekit.usercode import a_value, explained, named


def chosen_objective(network: Network, options: Hyperparameters) -> Objective:
    """The objective of the network's task, or the user's own loss with what the task says of the answers.

    Raises:
        DataError: the task has no objective, or the user's function cannot be imported.
    """
    kind = network.task.kind
    if not options.loss:
        return objective(kind)
    known = objective(kind) if kind in registry.names("objectives") else None
    own = OwnLoss(options.loss)
    moves = known is not None and known.moves
    targets = known.targets if known is not None and moves else _answers
    return Objective(targets, own, own.score, "minus loss", _by_name, moves)


class OwnLoss:
    """The user's function, and the checks of what it gives."""

    def __init__(self, spelled: str) -> None:
        self._spelled = spelled
        self._function: Callable[[Mapping[str, Tensor], Any], Any] = named(spelled, DataError)
        if not callable(self._function):
            raise DataError(f"{spelled} is {a_value(self._function)}; a loss is a function of outputs and answers")
        self._called = False

    def __call__(self, outputs: Any, targets: Any, inputs: Tensor, options: Hyperparameters) -> Tensor:
        with explained(f"calling {self._spelled}", DataError):
            value = self._function(outputs, targets)
        if not isinstance(value, Tensor) or value.numel() != 1:
            shown = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else _shown(value)
            raise DataError(f"{self._spelled} gave {shown}; a loss gives a tensor of one number")
        if not value.requires_grad:
            raise DataError(
                f"{self._spelled} gave a tensor without a gradient; compute it from the outputs with torch, without "
                "detach(), item() or numpy()"
            )
        if not self._called and not math.isfinite(float(value.detach())):
            raise DataError(
                f"{self._spelled} gave {float(value.detach())} for the first batch; a loss is a finite number"
            )
        self._called = True
        return value.reshape(())

    def score(self, outputs: Any, targets: Any, inputs: Tensor) -> float:
        """Minus the sum of the loss over the samples of a batch."""
        with explained(f"calling {self._spelled}", DataError):
            return -float(self._function(outputs, targets)) * len(inputs)


def _shown(value: Any) -> str:
    return "nothing" if value is None else a_value(value)


def _by_name(network: Network) -> View:
    names = [spec.name for spec in network.signature.outputs]
    return lambda results: {name: one.float() for name, one in zip(names, results, strict=True)}


class Listed:
    """Answers that are not tensors of one shape; of several samples a list."""

    def __init__(self, values: Sequence[Any]) -> None:
        self._values = values

    def __getitem__(self, picked: Tensor) -> list[Any]:
        return [self._values[k] for k in picked.tolist()]


def _answers(data: Dataset, network: Network) -> Any:
    known = data.labels if data.labels is not None else data.targets
    if known is not None:
        return torch.from_numpy(np.array(known))
    if data.answers is None:
        raise DataError(f"{data.label} has no answers to learn from; let each sample be (inputs, target)")
    values = [pytree.tree_map(_tensor, data.answers[k]) for k in range(len(data))]
    if all(isinstance(one, Tensor) and one.shape == values[0].shape for one in values):
        return torch.stack(values)
    return Listed(values)


def _tensor(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.number) and np.asarray(value).dtype.kind in "fiub":
        return torch.from_numpy(np.array(value))
    return value
