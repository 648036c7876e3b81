"""The layers of a float model file and what joins them, the same for both formats: what can be scaled, and where to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from edgekit.types import Array


class OperatorKind(StrEnum):
    """What an operator does to the channels of its input."""

    LAYER = "layer"  # a convolution or matrix product with constant weights
    SCALE = "scale"  # a product with a constant a channel, as the end of a normalisation is
    SHIFT = "shift"  # a sum with a constant a channel
    THROUGH = "through"  # f(s x) = s f(x) for positive s, channel by channel
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator.

    Attributes:
        name: as :func:`edgekit.quantization.prepared.Prepared.operators` gives it.
        inputs: tensors that are computed; of a layer the first is the activation.
        outputs: tensors; the channels are those of the first.
        weight: of a layer, the constant.
        shifts: constants with a number a channel that are added (the bias of a layer) or, for ``SCALE``, multiplied.
        order: of a layer, the axes of its weight as (outputs, inputs of a group, kernel).
        groups: of a layer.
        stride: of a transposed convolution, outputs for each place of its input.
        axis: of the channels: 1, or -1; 0 where both are the same.
        fixed: True where outputs do not scale with the weight: a bound (RELU6) is fused into the operator.
    """

    kind: OperatorKind
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weight: str = ""
    shifts: tuple[str, ...] = ()
    order: tuple[int, ...] = ()
    groups: int = 1
    stride: int = 1
    axis: int = 0
    fixed: bool = False


@dataclass(frozen=True)
class ScalingGroup:
    """One set of channels between the operators that make them and those that read them.

    ``(x / s) @ (s * W)`` is ``x @ W``: what ``source`` and ``shifts`` hold is divided by a positive number a channel,
    what the weights of ``readers`` hold for it is multiplied, and nothing else sees the channels.

    Attributes:
        channels: how many.
        source: the layer or the normalisation in front.
        shifts: constants with a number a channel that are divided.
        readers: the layers behind.
    """

    channels: int
    source: Operator
    shifts: tuple[str, ...]
    readers: tuple[Operator, ...]


class LinearGraph(ABC):
    """The main graph of a file. A subclass reads its operators and its constants, and writes them."""

    operators: Sequence[Operator]
    outputs: frozenset[str]
    users: Counter[str]
    """Constant -> how often it is read, in all graphs of the file."""

    @abstractmethod
    def constant(self, name: str) -> Array | None:
        """A float32 constant; None for any other name."""

    @abstractmethod
    def change(self, name: str, value: Array) -> None:
        """Gives a float32 constant other numbers of the same shape."""

    @abstractmethod
    def save(self, path: Path) -> None:
        """Writes the file."""

    def rows(self, layer: Operator) -> Array:
        """(outputs, inputs of a group, kernel places): the weight of ``layer``, as float64."""
        weight = self.constant(layer.weight)
        assert weight is not None
        turned = weight.transpose(layer.order).astype(np.float64)
        return turned.reshape(*turned.shape[:2], -1)

    def change_rows(self, layer: Operator, rows: Array) -> None:
        """Writes what :meth:`rows` gave back, with other numbers."""
        weight = self.constant(layer.weight)
        assert weight is not None
        turned = rows.reshape([weight.shape[axis] for axis in layer.order])
        self.change(layer.weight, turned.transpose(np.argsort(layer.order)).astype(np.float32))

    def scaling_groups(self) -> list[ScalingGroup]:
        """Every set of channels that can be scaled, in the order of the graph."""
        makers = [one for one in self.operators if one.kind in (OperatorKind.LAYER, OperatorKind.SCALE)]
        found = [self._scaling_group(one) for one in makers if not one.fixed]
        return [group for group in found if group is not None]

    def _scaling_group(self, source: Operator) -> ScalingGroup | None:
        """What hangs on the channels of ``source``; None where a reader, or the user, would see them scaled."""
        channels = self._channels(source)
        shifts, readers, waiting = list(source.shifts), [], [(source.outputs[0], source.axis)]
        while waiting:
            tensor, axis = waiting.pop()
            taken = [one for one in self.operators if tensor in one.inputs]
            if tensor in self.outputs or not taken:
                return None
            for reader in taken:
                if reader.axis and axis and reader.axis != axis:
                    return None
                if reader.kind is OperatorKind.LAYER:
                    readers.append(reader)
                elif reader.kind in (OperatorKind.THROUGH, OperatorKind.SHIFT):
                    shifts += reader.shifts
                    waiting.append((reader.outputs[0], axis or reader.axis))
                else:
                    return None
        group = ScalingGroup(channels, source, tuple(shifts), tuple(readers))
        return group if self._whole(group) else None

    def _channels(self, source: Operator) -> int:
        value = self.constant(source.weight if source.kind is OperatorKind.LAYER else source.shifts[0])
        assert value is not None
        return int(value.shape[source.order[0]]) if source.kind is OperatorKind.LAYER else value.size

    def _whole(self, group: ScalingGroup) -> bool:
        """Whether every constant has a number for each channel, and is read here alone."""
        weights = [reader.weight for reader in group.readers]
        weights += [group.source.weight] if group.source.kind is OperatorKind.LAYER else []
        touched = [*weights, *group.shifts]
        if len(set(touched)) < len(touched) or any(self.users[name] != 1 for name in touched):
            return False
        values = [self.constant(name) for name in group.shifts]
        fit = all(value is not None and value.size == group.channels for value in values)
        return fit and all(self.rows(one).shape[1] * one.groups == group.channels for one in group.readers)
