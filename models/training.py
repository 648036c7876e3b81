"""The one training loop, on Lightning Fabric: every task that has an objective, with or without a teacher.

Deterministic for a seed on one machine: order and augmentation of an epoch follow from the seed and the epoch alone, so
that a run that was killed and started again gives the same weights as one that was not.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from edgekit.models.augment import crop_and_flip, padded, padding_for, shifted, words_dropped
from edgekit.models.family import TrainOptions
from edgekit.models.objective import distilled, objective
from edgekit.models.resume import RunState
from lightning_fabric import Fabric
from torch import Tensor, nn

from edgekit.data import Dataset
from edgekit.data.dataset import split_indices
from edgekit.data.kind import affine
from edgekit.data.preprocess import apply_contract, arranged
from edgekit.errors import DeviceError, GateError, UsageError
from edgekit.types import Array, InputContract, Network

log = logging.getLogger("edgekit")
MAX_VALIDATION = 2000
MOST_DELAY = 0.2
"""Share of its window by which a sound is moved in augmentation: 0.2 s of one second."""
WORDS_DROPPED = 0.2
"""Share of the words of a text that its augmentation hides."""
Progress = Callable[[int, int, float, float, str], None]
"""Called after each epoch with (epoch, epochs, mean training loss, validation score, what the score is)."""


@dataclass(frozen=True, slots=True)
class Fit:
    """Epochs run in this process, the best one (from 1), its validation score (see Objective), samples."""

    epochs_run: int
    best_epoch: int
    validation_score: float
    validation_samples: int
    samples: int


def fit(
    network: Network,
    data: Dataset,
    options: TrainOptions,
    *,
    device: str = "cpu",
    state: Path | None = None,
    teacher: Network | None = None,
    progress: Progress | None = None,
) -> Fit:
    """Trains ``network.module`` in place and leaves the weights of the best epoch in it, in eval mode.

    Args:
        network: its card's contract says how samples become inputs.
        data: raw samples with labels; a seeded share of it is held out to choose the best epoch.
        options: see :class:`~edgekit.models.family.TrainOptions`.
        device: ``cpu`` or ``cuda``.
        state: file that is written after each epoch and from which the same run goes on; removed at the end.
        teacher: its logits are a soft target (``options.distil`` and ``options.temperature``).
        progress: called after each epoch.

    Raises:
        DataError: samples without labels, of one class, or that do not fit the network.
        GateError: the loss is no longer a finite number.
        DeviceError: no such device here.
    """
    check_options(options)
    fabric = open_fabric(device, options.precision, network.module)
    samples = _Samples(network, data, options)
    module = network.module.train()
    optimizer = _optimizer(module, options)
    average = Average(module, options.average)
    run = RunState(state, identity(network, data, options))
    first = run.load(module, average.module, optimizer)
    wrapped, optimizer = fabric.setup(module, optimizer)
    average.module.to(fabric.device)
    loop = _Loop(fabric, wrapped, optimizer, average, samples, options, _frozen(teacher, fabric))
    for epoch in range(first, options.epochs):
        loss = loop.epoch(epoch)
        if not math.isfinite(loss):
            raise GateError(
                f"training diverged: the loss of epoch {epoch + 1} is {loss}; lower the learning rate "
                f"(now {options.lr:g})"
            )
        score = loop.score()
        if score >= run.best_score:
            run.remember(epoch + 1, score, average.module)
        run.save(epoch + 1, module, average.module, optimizer)
        if progress:
            progress(epoch + 1, options.epochs, loss, score, f"validation {samples.objective.name}")
    module.load_state_dict(run.best)
    module.to("cpu").eval()
    run.remove()
    return Fit(options.epochs - first, run.best_epoch, run.best_score, len(samples.held), len(samples.kept))


def identity(network: Network, data: Dataset, options: TrainOptions) -> dict[str, Any]:
    """What makes a run the same run: its network, task, data and options."""
    same = {"config": dict(network.card.config), "task": dict(network.task.params)}
    return {"options": asdict(options), "data": data.label, "samples": len(data), **same}


def check_options(options: TrainOptions) -> None:
    """Raises UsageError for numbers that make no sense."""
    if options.epochs < 1 or options.batch < 1:
        raise UsageError(f"epochs and batch must be 1 or more, got {options.epochs} and {options.batch}")
    if not options.lr > 0:
        raise UsageError(f"the learning rate must be above 0, got {options.lr}")
    if not 0 <= options.validation < 1 or not 0 <= options.distil <= 1:
        raise UsageError(
            f"validation must be in [0, 1) and distil in [0, 1], got {options.validation}, {options.distil}"
        )


def open_fabric(device: str, precision: str, module: nn.Module) -> Fabric:
    if device not in ("cpu", "cuda"):
        raise UsageError(f"training runs on cpu or cuda, got {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            "training on cuda was asked for, but torch sees no CUDA device; install a CUDA build, or use cpu"
        )
    if precision == "auto":
        convolutions = any(isinstance(m, nn.modules.conv._ConvNd) for m in module.modules())
        precision = "bf16-mixed" if convolutions and _native_bf16(device) else "32-true"
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    return Fabric(accelerator="cuda" if device == "cuda" else "cpu", devices=1, precision=precision)  # type: ignore[arg-type]


def _native_bf16(device: str) -> bool:
    if device == "cuda":
        return torch.cuda.is_bf16_supported()
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


class _Samples:
    """The samples as tensors in memory, split into those that train and those that choose the best epoch."""

    def __init__(self, network: Network, data: Dataset, options: TrainOptions) -> None:
        (name, contract), *_ = network.card.contract.items() or [("", InputContract())]
        self.objective = objective(network.task.kind)
        share = min(options.validation, MAX_VALIDATION / len(data))
        self.kept, self.held = _kept_and_held(data, share, options.seed)
        self.image = contract.kind == "image" and contract.layout == "NCHW"
        self.targets = self.objective.targets(data, network)
        if self.image:
            assert contract.size is not None
            raw_contract = InputContract("image", "NHWC", contract.size, contract.channels)
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

    def batches(self, epoch: int, options: TrainOptions) -> Iterator[tuple[Tensor, Tensor]]:
        """Shuffled training batches of one epoch; the order and the augmentation follow from seed and epoch."""
        bits = np.random.PCG64(np.random.SeedSequence([options.seed, epoch]))
        order = torch.from_numpy(self.kept[np.random.Generator(bits).permutation(len(self.kept))])
        generator = torch.Generator().manual_seed(options.seed * 100_003 + epoch)
        for start in range(0, len(order), options.batch):
            picked = order[start : start + options.batch]
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


def _kept_and_held(data: Dataset, share: float, seed: int) -> tuple[Array, Array]:
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


def decoded(images: Any, contract: InputContract) -> Any:
    """Every image as uint8 (N, H, W, C) of the contract's size, decoded once."""
    return np.ascontiguousarray(apply_contract(images, contract, "float32").astype(np.uint8))


def _augmentation(kind: str, channels: int) -> str:
    """``auto``: crops and flips for colour photographs; grey images (characters, scans) are shifted, never mirrored."""
    if kind == "auto":
        return "crop-flip" if channels == 3 else "shift"
    return kind


def _optimizer(module: nn.Module, options: TrainOptions) -> torch.optim.Optimizer:
    matrices = [p for p in module.parameters() if p.ndim > 1]
    vectors = [p for p in module.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": options.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    if options.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=options.lr, betas=(0.9, 0.99))
    return torch.optim.SGD(groups, lr=options.lr, momentum=options.momentum, nesterov=options.momentum > 0)


class Average:
    """Exponential moving average of weights; running statistics are copied. The module itself where ``decay`` is 0."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.source, self.decay = module, decay
        self.module = copy.deepcopy(module) if decay > 0 else module
        self.steps = 0

    @torch.no_grad()
    def update(self, step: int) -> None:
        if self.decay == 0:
            return
        decay = min(self.decay, (1 + step) / (10 + step))  # a short memory at the start, as in TensorFlow's EMA
        for mean, value in zip(self.module.parameters(), self.source.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)
        for mean, value in zip(self.module.buffers(), self.source.buffers(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)


def _frozen(teacher: Network | None, fabric: Fabric) -> nn.Module | None:
    return None if teacher is None else teacher.module.eval().requires_grad_(False).to(fabric.device)


@dataclass(frozen=True, slots=True)
class _Loop:
    """One epoch and its validation, over the parts that stay the same."""

    fabric: Fabric
    module: Any
    optimizer: Any
    average: Average
    samples: _Samples
    options: TrainOptions
    teacher: nn.Module | None

    def epoch(self, epoch: int) -> float:
        """Trains one epoch; gives the mean loss."""
        torch.manual_seed(self.options.seed * 7_919 + epoch)  # dropout
        self.module.train()
        steps = math.ceil(len(self.samples.kept) / self.options.batch)
        total = torch.zeros((), device=self.fabric.device)
        count = 0
        for k, (inputs, targets) in enumerate(self.samples.batches(epoch, self.options)):
            step = epoch * steps + k
            rate = one_cycle(step / (self.options.epochs * steps), self.options)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            inputs, targets = inputs.to(self.fabric.device), targets.to(self.fabric.device)
            loss = self._loss(inputs, targets)
            self.optimizer.zero_grad()
            self.fabric.backward(loss)
            if self.options.clip > 0:
                torch.nn.utils.clip_grad_norm_(self.module.parameters(), self.options.clip)
            self.optimizer.step()
            self.average.update(step)
            total += loss.detach()
            count += 1
        return float(total) / max(count, 1)

    def _loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        outputs = self.module(inputs).float()
        hard = self.samples.objective.loss(outputs, targets, inputs, self.options)
        if self.teacher is None or self.options.distil == 0:
            return hard
        with torch.no_grad(), self.fabric.autocast():
            soft = self.teacher(inputs).float()
        return (1 - self.options.distil) * hard + self.options.distil * distilled(
            outputs, soft, self.options.temperature
        )

    @torch.no_grad()
    def score(self) -> float:
        """Mean score of the averaged weights on the held-out samples."""
        module = self.average.module.eval()
        total, count = 0.0, 0
        with self.fabric.autocast():
            for inputs, targets in self.samples.held_batches():
                outputs = module(inputs.to(self.fabric.device)).float().cpu()
                total += self.samples.objective.score(outputs, targets, inputs)
                count += len(targets)
        return total / count


def one_cycle(progress: float, options: TrainOptions) -> float:
    """Learning rate at ``progress`` 0..1 of all steps: linear up to ``lr`` over ``warmup``, then linear down to 0."""
    if progress < options.warmup:
        return options.lr * (0.1 + 0.9 * progress / options.warmup)
    return options.lr * max(1e-3, (1 - progress) / (1 - options.warmup))
