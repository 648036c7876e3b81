"""A family: one builder function, what it is for, how it is trained, and its shipped weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgekit import registry
from edgekit.data import Dataset, audio, series
from edgekit.data.text import text_contract
from edgekit.errors import DataError, SourceError
from edgekit.types import Card, InputSpec, Network, Signature, Task, TensorSpec

WEIGHTS = Path(__file__).parent / "weights"
RECIPES = Path(__file__).parent / "recipes"
"""One recipe a family, ``edgekit recipe run cnn``: the settings that were found to work for its shipped weights."""


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """How a network is trained.

    Attributes:
        epochs: passes over the training samples.
        batch: samples a step.
        lr: peak learning rate of the one-cycle schedule (linear warm-up, then linear decay to 0; Smith 2018).
        momentum: of Nesterov's SGD; ``optimizer="adamw"`` uses betas (0.9, 0.99) instead.
        weight_decay: on weights of two or more dimensions only.
        warmup: share of the steps in which the learning rate rises.
        smoothing: label smoothing (Szegedy et al. 2016).
        average: decay per step of the exponential moving average of the weights that is kept; 0 for none.
        augment: ``crop-flip``, ``shift`` or empty; see :mod:`edgekit.models.augment`.
        precision: ``bf16-mixed``, ``32-true``, or ``auto`` (bf16 where the CPU or GPU multiplies it natively).
        validation: share of the training samples held out to choose the best epoch (at most 2,000 samples).
        clip: largest norm of the gradient; 0 for no limit (recurrent networks need one; Pascanu et al. 2013).
        distil: weight of the teacher's soft targets in the loss, 0..1, at ``temperature`` (Hinton et al. 2015).
        qat: quantization-aware: the network learns with the roundings of its int8 files in place.
        seed: of initial weights, order and augmentation.
        loss: ``file.py:function`` of the user's own, in place of the task's; see :mod:`edgekit.models.own_loss`.
        processes: data-parallel processes (one a GPU on ``cuda``); gradients are averaged after each step.
    """

    epochs: int = 20
    batch: int = 128
    lr: float = 0.1
    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.15
    smoothing: float = 0.0
    average: float = 0.0
    augment: str = ""
    precision: str = "32-true"
    validation: float = 0.1
    clip: float = 0.0
    distil: float = 0.5
    temperature: float = 4.0
    qat: bool = False
    seed: int = 0
    loss: str = ""
    processes: int = 1


@dataclass(frozen=True, slots=True)
class Fitted:
    """What follows from the data: the shape of the network, its input spec, and what its output means.

    Attributes:
        builder: keyword arguments of the family's builder.
        contract: how a raw sample becomes the input.
        task: what the output means.
        input, output: tensors at batch 1.
        others: further outputs.
    """

    builder: Mapping[str, Any]
    contract: InputSpec
    task: Task
    input: TensorSpec
    output: TensorSpec
    others: tuple[TensorSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class Family:
    """One entry of the zoo.

    Attributes:
        name: what the user types.
        build: plain function of numbers to a torch module.
        description: one line for ``edgekit models``.
        data: the data set the shipped weights were trained on.
        kinds: kinds of data it takes (``image``, ``table``, ``audio``, ``text``, ``series``).
        fit: data set -> what follows from it.
        options: how it is trained where the user does not say.
        special: kind of data -> the fields of ``options`` that differ for it.
        further: ``WHAT`` of shipped weights ``FAMILY-WHAT`` -> how they differ from those of the family.
    """

    name: str
    build: Callable[..., torch.nn.Module]
    description: str
    data: str
    kinds: tuple[str, ...]
    fit: Callable[[Dataset], Fitted]
    options: Hyperparameters = field(default_factory=Hyperparameters)
    special: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    further: Mapping[str, str] = field(default_factory=dict)

    def described(self, name: str) -> str:
        """One line of the weights ``name`` (``gru``, ``gru-live``), for ``edgekit models``."""
        more = self.further.get(name.removeprefix(f"{self.name}-"))
        return f"{self.description}; {more}" if more else self.description

    def options_for(self, kind: str) -> Hyperparameters:
        """How it is trained on data of ``kind`` where the user does not say."""
        return replace(self.options, **self.special.get(kind, {}))

    @property
    def weights(self) -> Path:
        """Where the shipped weights lie (a safetensors checkpoint with its card)."""
        return WEIGHTS / f"{self.name}.safetensors"


def shipped() -> dict[str, Path]:
    """Trained weights by name: those of a family, and ``FAMILY-WHAT`` where it is shipped for other data, or pruned."""
    names = registry.names("families")
    found = {path.stem: path for path in sorted(WEIGHTS.glob("*.safetensors"))}
    return {name: path for name, path in found.items() if name in names or name.partition("-")[0] in names}


def family(name: str) -> Family:
    """The family called ``name``.

    Raises:
        UsageError: no family has this name.
    """
    found = registry.lookup("families", name)
    if not isinstance(found, Family):
        raise SourceError(f"the entry point {name!r} gave {type(found).__name__}, a Family was expected")
    return found


def new_network(name: str, data: Dataset, overrides: Mapping[str, Any] | None = None) -> Network:
    """A fresh network of the family ``name`` shaped for ``data``: its classes, channels or columns, normalisation.

    Raises:
        DataError: the data set is of another kind than the family takes, or has no labels.
    """
    kin = family(name)
    if data.kind not in kin.kinds:
        raise DataError(f"{name} takes {' or '.join(kin.kinds)} data, {data.label} holds {data.kind} samples")
    fitted = kin.fit(data)
    builder = {**fitted.builder, **(overrides or {})}
    card = Card(
        name=name,
        family=name,
        task=fitted.task,
        signature=Signature((fitted.input,), (fitted.output, *fitted.others)),
        contract={fitted.input.name: fitted.contract},
        config={"family": name, "builder": builder},
    )
    zeros = np.zeros(fitted.input.resolved(), fitted.input.dtype)
    return Network(kin.build(**builder).eval(), {fitted.input.name: zeros}, card)


def classifier(data: Dataset, contract: InputSpec, builder: Mapping[str, Any]) -> Fitted:
    """A classifier of ``data``'s classes: one input called like its kind, one output ``logits``, batch 1.

    Raises:
        DataError: no labels, or of one class.
    """
    require_labels(data)
    return Fitted(
        {**builder, "classes": len(data.classes)},
        contract,
        Task("classification", data.classes, "accuracy"),
        TensorSpec(contract.kind, "int32" if contract.kind == "text" else "float32", input_shape(contract)),
        TensorSpec("logits", "float32", (1, len(data.classes))),
    )


def with_class_names(data: Dataset) -> Dataset:
    """``data`` with numbers for names where it has labels and does not name their classes."""
    if data.labels is None or data.classes:
        return data
    return replace(data, classes=tuple(map(str, range(int(data.labels.max(initial=0)) + 1))))


def require_labels(data: Dataset) -> None:
    """Raises DataError unless the samples have labels of at least two classes."""
    if data.labels is None:
        raise DataError(f"{data.label} has no labels; training a classifier needs them")
    present = np.unique(data.labels)
    if len(present) < 2:
        raise DataError(f"{data.label} holds {len(present)} class, at least 2 are needed to train a classifier")
    if data.classes and int(present[-1]) >= len(data.classes):
        raise DataError(
            f"{data.label} has the label {int(present[-1])}, but only {len(data.classes)} classes are named"
        )


def input_shape(contract: InputSpec) -> tuple[int, ...]:
    """The input shape at batch 1: (1, channels, height, width), (1, height, width x channels), (1, frames, bands),
    (1, history, columns) or (1, columns)."""
    if contract.kind == "image" and contract.size is not None:
        height, width = contract.size
        if contract.layout == "NHW":
            return (1, height, width * contract.channels)
        return (1, contract.channels, height, width)
    if contract.kind == "audio":
        return (1, int(contract.params["frames"]), int(contract.params["bands"]))
    if contract.kind == "series":
        return (1, int(contract.params["history"]), len(contract.columns))
    if contract.kind == "text":
        return (1, int(contract.params["length"]))
    return (1, len(contract.mean))


def measure_contract(data: Dataset, size: tuple[int, int] | None = None) -> InputSpec:
    """Mean and standard deviation of the samples, per channel, column or band, as an input spec (NCHW for images).

    ``size``: height and width the images are brought to; where it is None those that ``data.params`` say, else the
    first image's own. Of audio: frames and bands; see :func:`edgekit.data.audio.measure`.
    """
    if data.kind == "audio":
        return audio.measure(data, size)
    if data.kind == "series":
        return series.measure(data)
    if data.kind == "text":
        return text_contract(list(data.arrays["text"]))
    if data.kind == "table":
        rows = np.asarray(data.arrays["table"], np.float64)
        std = rows.std(0)
        return InputSpec(
            "table", mean=_rounded(rows.mean(0)), std=_rounded(np.where(std > 0, std, 1.0)), columns=data.columns
        )
    images = data.arrays["image"]
    step = max(1, len(images) // 5000)  # 5,000 images pin a channel's mean to under 0.1 levels
    picked = [np.asarray(images[k], np.float64) / 255.0 for k in range(0, len(images), step)]
    channels = max(image.shape[-1] for image in picked)
    flat = [np.broadcast_to(image, (*image.shape[:2], channels)).reshape(-1, channels) for image in picked]
    count = sum(len(f) for f in flat)
    mean = sum(f.sum(0) for f in flat) / count
    variance = sum(((f - mean) ** 2).sum(0) for f in flat) / count
    std = np.sqrt(np.maximum(variance, 1e-6))
    height, width = size or size_of(data)
    return InputSpec("image", "NCHW", (int(height), int(width)), int(channels), 1 / 255, _rounded(mean), _rounded(std))


def size_of(data: Dataset) -> tuple[int, int]:
    """Height and width that the images of ``data`` are brought to: what was asked for, else those of the first."""
    height, width = data.params.get("size") or np.asarray(data.arrays["image"][0]).shape[:2]
    return int(height), int(width)


def _rounded(values: Any) -> tuple[float, ...]:
    """Six significant digits: the same contract on every machine, and a short card."""
    return tuple(float(f"{v:.6g}") for v in np.asarray(values).ravel())


def parameter_count(module: torch.nn.Module) -> int:
    """Number of trained parameters."""
    return sum(math.prod(p.shape) for p in module.parameters())


def renamed(network: Network, name: str) -> Network:
    """The same network under another name."""
    return replace(network, card=replace(network.card, name=name))
