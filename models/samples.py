"""Training samples in memory: which train, which choose the best epoch, and how an epoch's batches are made of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgekit.data import Dataset
from edgekit.data.dataset import split_indices
from edgekit.data.kind import affine
from edgekit.data.preprocess import apply_contract, arranged
from edgekit.models.augment import crop_and_flip, padded, padding_for, shifted, words_dropped
from edgekit.models.family import Hyperparameters
from edgekit.models.objective import objective
from edgekit.types import Array, InputSpec, Network

MAX_VALIDATION = 2000
MOST_DELAY = 0.2
"""Share of its window by which a sound is moved in augmentation: 0.2 s of one second."""
WORDS_DROPPED = 0.2
"""Share of the words of a text that its augmentation hides."""


class TrainingSamples:
    """The samples as tensors in memory, split into those that train and those that choose the best epoch."""

    def __init__(self, network: Network, data: Dataset, options: Hyperparameters) -> None:
        self.spec, self.label = network.signature.inputs[0], data.label
        (name, contract), *_ = network.card.contract.items() or [("", InputSpec())]
        self.objective = objective(network.task.kind)
        self._view = self.objective.view(network)
        share = min(options.validation, MAX_VALIDATION / len(data))
        self.kept, self.held = kept_and_held(data, share, options.seed)
        self.image = contract.kind == "image" and contract.layout == "NCHW"
        self.targets = self.objective.targets(data, network)
        if self.image:
            assert contract.size is not None
            raw_contract = InputSpec("image", "NHWC", contract.size, contract.channels)
            pixels = decoded(data.arrays["image"], raw_contract)
            self.augment = _augmentation(options.augment, contract.channels)
            self.size = contract.size
            self.values = torch.from_numpy(pixels)
            self.padded = padded(self.values, padding_for(self.augment, contract.size[0]))
            self.factor, self.offset = map(torch.from_numpy, affine(contract, contract.channels))
        else:
            arrays = data.arrays.get(name)
            arrays = next(iter(data.arrays.values())) if arrays is None else arrays
            self.text = contract.kind == "text"
            meant = ("auto", "words") if self.text else (options.augment,) if contract.kind == "audio" else ()
            self.augment = options.augment if options.augment in meant else ""
            arrays = arranged(arrays, data.columns, contract)
            self.values = torch.from_numpy(apply_contract(arrays, contract, network.signature.inputs[0].dtype))

    def misfit(self, inputs: Tensor) -> str:
        """What of a batch is not as the network's signature has it; empty where all of it is."""
        wanted, got = self.spec.shape[1:], tuple(inputs.shape[1:])
        pairs = zip(wanted, got, strict=False)
        if len(wanted) == len(got) and all(size == extent for size, extent in pairs if isinstance(size, int)):
            return ""
        return f"{self.label} has samples of shape {got}, the network takes {wanted}"

    def viewed(self, results: Any) -> Any:
        """What loss and score take of what the network gives."""
        return self._view(results if isinstance(results, tuple | list) else (results,))

    def steps(self, options: Hyperparameters, world: int) -> int:
        """Optimizer steps of one epoch."""
        return math.ceil(len(self.kept) // world / (options.batch // world))

    def batches(
        self, epoch: int, options: Hyperparameters, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[Tensor, Tensor]]:
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
            yield self._inputs(picked, generator), self.targets[picked]

    def held_batches(self, batch: int = 500) -> Iterator[tuple[Tensor, Tensor]]:
        """The held-out samples (the training ones where none are), in order, unaugmented."""
        order = torch.from_numpy(self.held if len(self.held) else self.kept)
        for start in range(0, len(order), batch):
            picked = order[start : start + batch]
            yield self._inputs(picked, None), self.targets[picked]

    def _inputs(self, picked: Tensor, generator: torch.Generator | None) -> Tensor:
        if not self.image:
            values = self.values[picked]
            if generator is None or not self.augment:
                return values
            if self.text:
                return words_dropped(values, WORDS_DROPPED, generator)
            return shifted(values, round(MOST_DELAY * values.shape[1]), generator)
        if generator is not None and self.augment:
            pixels = crop_and_flip(self.padded[picked], self.size, self.augment == "crop-flip", generator)
        else:
            pixels = self.values[picked]
        normalised = pixels.float() * self.factor + self.offset  # (B, H, W, C)
        return normalised.permute(0, 3, 1, 2)  # (B, C, H, W), channels-last in memory


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


def _augmentation(kind: str, channels: int) -> str:
    """``auto``: crops and flips for colour photographs; grey images (characters, scans) are shifted, never mirrored."""
    if kind == "auto":
        return "crop-flip" if channels == 3 else "shift"
    return kind
