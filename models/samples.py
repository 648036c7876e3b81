"""Training samples in memory: which train, which choose the best epoch, and how an epoch's batches are made of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from edgekit.data import Dataset
from edgekit.data.dataset import split_indices
from edgekit.data.kind import affine
from edgekit.data.preprocess import apply_contract, arranged, array_for
from edgekit.errors import DataError
from edgekit.models.augment import crop_and_flip, padded, padding_for, shifted, words_dropped
from edgekit.models.family import Hyperparameters
from edgekit.models.own_loss import chosen_objective
from edgekit.types import Array, InputSpec, Network

MAX_VALIDATION = 2000
MOST_DELAY = 0.2
"""Share of its window by which a sound is moved in augmentation: 0.2 s of one second."""
WORDS_DROPPED = 0.2
"""Share of the words of a text that its augmentation hides."""


class TrainingSamples:
    """The samples as tensors in memory, split into those that train and those that choose the best epoch."""

    def __init__(self, network: Network, data: Dataset, options: Hyperparameters) -> None:
        self.specs, self.label = network.signature.inputs, data.label
        contract = next(iter(network.card.contract.values()), InputSpec())
        self.objective = chosen_objective(network, options)
        self._view = self.objective.view(network)
        share = min(options.validation, MAX_VALIDATION / len(data))
        self.kept, self.held = kept_and_held(data, share, options.seed)
        self.image = (
            (contract.kind, data.kind) == ("image", "image")
            and contract.layout in ("NCHW", "NHWC")
            and len(self.specs) == 1
        )
        self.targets = self.objective.targets(data, network)
        if self.image:
            if contract.size is None:
                raise DataError(f"{network.name} takes images of any size; give the one to train with: --size 224")
            self.layout, self.size = contract.layout, contract.size
            self.augment = _augmentation(options.augment, contract.channels, network.task.kind)
            self.values = torch.from_numpy(decoded(data.arrays["image"], as_pixels(contract)))
            pad = padding_for(self.augment, contract.size[0])
            self.padded = padded(self.values, pad)
            if self.objective.moves:
                self.padded_targets = padded(self.targets[..., None], pad)
            self.factor, self.offset = map(torch.from_numpy, affine(contract, contract.channels))
        else:
            self.text = contract.kind == "text"
            meant = ("auto", "words") if self.text else (options.augment,) if contract.kind == "audio" else ()
            self.augment = options.augment if options.augment in meant else ""
            self.arrays = tuple(torch.from_numpy(values) for values in _model_ready(network, data))

    def misfit(self, inputs: Sequence[Tensor]) -> str:
        """What of a batch is not as the network's signature has it; empty where all of it is."""
        for spec, values in zip(self.specs, inputs, strict=True):
            wanted, got = spec.shape[1:], tuple(values.shape[1:])
            pairs = zip(wanted, got, strict=False)
            if len(wanted) != len(got) or any(size != extent for size, extent in pairs if isinstance(size, int)):
                return f"{self.label} has samples of shape {got}, the network takes {wanted}"
        return ""

    def viewed(self, results: Any) -> Any:
        """What the objective looks at of what the network gave."""
        return self._view([leaf for leaf in pytree.tree_leaves(results) if isinstance(leaf, Tensor)])

    def steps(self, options: Hyperparameters, world: int) -> int:
        """Optimizer steps of one epoch."""
        return math.ceil(len(self.kept) // world / (options.batch // world))

    def batches(
        self, epoch: int, options: Hyperparameters, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[tuple[Tensor, ...], Any]]:
        """Shuffled training batches of one epoch; order and augmentation follow from seed, epoch and process alone.

        Process ``rank`` of ``world`` takes every ``world``-th sample, and its share of ``options.batch``.
        """
        bits = np.random.PCG64(np.random.SeedSequence([options.seed, epoch]))
        order = torch.from_numpy(self.kept[np.random.Generator(bits).permutation(len(self.kept))])
        order = order[: len(order) // world * world][rank::world]
        generator = torch.Generator().manual_seed(options.seed * 100_003 + epoch + 7_368_787 * rank)
        size = options.batch // world
        for start in range(0, len(order), size):
            picked = order[start : start + size]
            if len(picked) == 1 and len(order) > 1:
                continue  # batch normalisation has no variance of one sample
            yield self._batch(picked, generator)

    def held_batches(self, batch: int = 500) -> Iterator[tuple[tuple[Tensor, ...], Any]]:
        """The held-out samples (the training ones where none are), in order, unaugmented."""
        order = torch.from_numpy(self.held if len(self.held) else self.kept)
        for start in range(0, len(order), batch):
            picked = order[start : start + batch]
            yield self._batch(picked, None)

    def _batch(self, picked: Tensor, generator: torch.Generator | None) -> tuple[tuple[Tensor, ...], Any]:
        """Inputs and targets of the samples ``picked``; ``generator`` moves them, where they are augmented."""
        targets = self.targets[picked]
        if not self.image:
            values = tuple(array[picked] for array in self.arrays)
            if generator is None or not self.augment:
                return values, targets
            if self.text:
                return (words_dropped(values[0], WORDS_DROPPED, generator), *values[1:]), targets
            return (shifted(values[0], round(MOST_DELAY * values[0].shape[1]), generator), *values[1:]), targets
        if generator is None or not self.augment:
            pixels = self.values[picked]
        else:
            moves = (self.size, self.augment == "crop-flip", generator)
            before = generator.get_state()
            pixels = crop_and_flip(self.padded[picked], *moves)  # (B, H, W, C)
            if self.objective.moves:
                generator.set_state(before)  # the same moves for a mask as for its picture
                targets = crop_and_flip(self.padded_targets[picked], *moves)[..., 0]
        normalised = pixels.float() * self.factor + self.offset  # (B, H, W, C)
        if self.layout == "NCHW":
            normalised = normalised.permute(0, 3, 1, 2)  # (B, C, H, W), channels-last in memory
        return (normalised,), targets


def _model_ready(network: Network, data: Dataset) -> Iterator[Array]:
    """All samples for each input of ``network``, as it takes them."""
    inputs = network.signature.inputs
    for spec in inputs:
        contract = InputSpec() if data.kind == "array" else network.card.contract.get(spec.name, InputSpec())
        samples = arranged(data.arrays[array_for(data, spec.name, len(inputs))], data.columns, contract)
        yield apply_contract(samples, contract, spec.dtype)


def as_pixels(contract: InputSpec) -> InputSpec:
    """How a picture becomes the pixels (N, H, W, C), 0..255, that ``contract`` normalises."""
    return replace(contract, layout="NHWC", scale=1.0, mean=(), std=())


def kept_and_held(data: Dataset, share: float, seed: int) -> tuple[Array, Array]:
    """Indices that train and those that choose the best epoch: of a series its last windows, since neighbours share
    most of their rows; else a random share, the classes balanced."""
    if share <= 0:
        return np.arange(len(data)), np.zeros(0, np.int64)
    if data.kind != "series":
        kept, held = split_indices(len(data), data.labels, share, seed)
        return kept, held
    told = int(data.params.get("validation", 0))
    last = told if 0 < told < len(data) else round(share * len(data))
    every = np.arange(len(data))
    return every[: len(data) - last], every[len(data) - last :]


def decoded(images: Any, contract: InputSpec) -> Any:
    """Every image as uint8 (N, H, W, C) of the spec's size, decoded once."""
    return np.asarray(apply_contract(images, contract, "float32").astype(np.uint8), order="C")


def _augmentation(kind: str, channels: int, task: str) -> str:
    """``auto``: crops and flips for colour photographs; grey images (characters, scans) are shifted, never mirrored.
    Of tasks whose answers may be places or lengths in the picture, it is left as it is."""
    if kind == "auto" and task in ("regression", "detection", "keypoints", "none"):
        return ""
    if kind == "auto":
        return "crop-flip" if channels == 3 else "shift"
    return kind
