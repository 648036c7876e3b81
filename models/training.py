"""The one training loop, on Lightning Fabric: every task that has an objective, with or without a teacher.

Deterministic for a seed on one machine: order and augmentation of an epoch follow from the seed and the epoch alone, so
that a run that was killed and started again gives the same weights as one that was not.
"""

from __future__ import annotations

import copy
import logging
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from edgekit.data import Dataset
from edgekit.errors import DataError, DeviceError, GateError, UsageError
from edgekit.models.fabric import Fabric
from edgekit.models.family import Hyperparameters
from edgekit.models.resume import RunState
from edgekit.models.samples import TrainingSamples
from edgekit.models.spread import spread
from edgekit.reading import why
from edgekit.results.train import Fit
from edgekit.types import Network

log = logging.getLogger("edgekit")
Progress = Callable[[int, int, float, float, str], None]
"""Called after each epoch with (epoch, epochs, mean training loss, validation score, what the score is)."""


def fit(
    network: Network,
    data: Dataset,
    options: Hyperparameters,
    *,
    device: str = "cpu",
    state: Path | None = None,
    teacher: Network | None = None,
    progress: Progress | None = None,
) -> Fit:
    """Trains ``network.module`` in place and leaves the weights of the best epoch in it, in eval mode.

    Of epochs whose accuracies the held-out samples cannot tell apart (one standard error), the latest is the best.

    Args:
        network: its card's contract says how samples become inputs.
        data: raw samples with labels; a seeded share of it is held out to choose the best epoch.
        options: see :class:`~edgekit.models.family.Hyperparameters`; ``batch`` is over all processes.
        device: ``cpu`` or ``cuda``.
        state: file that is written after each epoch and from which the same run goes on; removed at the end.
        teacher: its logits are a soft target (``options.distil`` and ``options.temperature``).
        progress: called after each epoch; with several processes the first one writes a line instead.

    Raises:
        DataError: samples without labels, of one class, or that do not fit the network.
        GateError: the loss is no longer a finite number.
        DeviceError: no such device here, or a process died.
    """
    check_options(options)
    processes = options.processes
    fabric = open_fabric(device, options.precision, network.module, processes)
    job = _Job(network, data, options, state, teacher, progress if processes == 1 else None)
    if processes == 1:
        outcome, best = _train(fabric, job)
    else:
        outcome, best = spread(fabric, _train, job)
    network.module.load_state_dict(best)
    network.module.to("cpu").eval()
    if state is not None:
        state.unlink(missing_ok=True)
    return Fit(**outcome)


@dataclass(frozen=True, slots=True)
class _Job:
    """What each process of a run is told."""

    network: Network
    data: Dataset
    options: Hyperparameters
    state: Path | None
    teacher: Network | None
    progress: Progress | None


def _train(fabric: Fabric, job: _Job) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """One process of a run; gives the outcome and the best weights (of use in the first process only)."""
    options = job.options
    samples = TrainingSamples(job.network, job.data, options)
    module = job.network.module.train()
    optimizer = _optimizer(module, options)
    average = Average(module, options.average)
    run = RunState(job.state, identity(job.network, job.data, options, job.teacher))
    first = run.load(module, average.module, optimizer)
    wrapped, optimizer = fabric.setup(module, optimizer)
    average.module.to(fabric.device)
    loop = _Loop(fabric, wrapped, optimizer, average, samples, options, _frozen(job.teacher, fabric))
    for epoch in range(first, options.epochs):
        loss = loop.epoch(epoch)
        if not math.isfinite(loss):
            raise GateError(
                f"training diverged: the loss of epoch {epoch + 1} is {loss}; lower the learning rate "
                f"(now {options.lr:g})"
            )
        if fabric.global_rank != 0:
            continue
        score = loop.score()
        if score >= run.best_score - loop.noise(run.best_score):
            run.remember(epoch + 1, score, average.module)
        run.save(epoch + 1, module, average.module, optimizer)
        if job.progress:
            job.progress(epoch + 1, options.epochs, loss, score, f"validation {samples.objective.name}")
        elif fabric.world_size > 1:
            sys.stderr.write(f"epoch {epoch + 1} of {options.epochs}: loss {loss:.4f}, validation {score:.4f}\n")
    fit = Fit(options.epochs - first, run.best_epoch, run.kept_score, len(samples.held), len(samples.kept))
    return asdict(fit), run.best


def identity(
    network: Network, data: Dataset, options: Hyperparameters, teacher: Network | None = None
) -> dict[str, Any]:
    """What makes two runs the same run: a state of another network, source, teacher or data is not taken up."""
    card = network.card
    return {
        "options": asdict(options),
        "data": data.label,
        "samples": len(data),
        "config": dict(card.config),
        "task": dict(card.task.params),
        "shapes": {name: list(value.shape) for name, value in network.module.state_dict().items()},
        "source": [card.source_sha256, [step.name for step in card.steps]],
        "teacher": None if teacher is None else teacher.card.source_sha256,
    }


def check_options(options: Hyperparameters) -> None:
    """Raises UsageError for numbers that are out of range."""
    if not 1 <= options.processes <= max(options.batch, 1):
        raise UsageError(f"processes must be 1 to the batch size ({options.batch}), got {options.processes}")
    if options.epochs < 1 or options.batch < 1:
        raise UsageError(f"epochs and batch must be 1 or more, got {options.epochs} and {options.batch}")
    if not options.lr > 0:
        raise UsageError(f"the learning rate must be above 0, got {options.lr}")
    if not 0 <= options.validation < 1 or not 0 <= options.distil <= 1:
        raise UsageError(
            f"validation must be in [0, 1) and distil in [0, 1], got {options.validation}, {options.distil}"
        )


def open_fabric(device: str, precision: str, module: nn.Module, processes: int = 1) -> Fabric:
    """Lightning Fabric for one training, in as many processes as were asked for.

    Args:
        device: ``cpu`` or ``cuda``.
        precision: as Fabric spells it; ``auto`` is ``bf16-mixed`` for a ``module`` with convolutions where the device
            computes in bfloat16 itself, else ``32-true``.

    Raises:
        UsageError: another device.
        DeviceError: torch sees no CUDA device.
    """
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
    return Fabric(
        accelerator="cuda" if device == "cuda" else "cpu",
        devices=processes,
        strategy="ddp_spawn" if processes > 1 else "auto",
        precision=precision,
    )


def _native_bf16(device: str) -> bool:
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _optimizer(module: nn.Module, options: Hyperparameters) -> torch.optim.Optimizer:
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
        for kept, current in zip(self.module.buffers(), self.source.buffers(), strict=True):
            if kept.is_floating_point():
                kept.lerp_(current, 1 - decay)
            else:
                kept.copy_(current)


def _frozen(teacher: Network | None, fabric: Fabric) -> nn.Module | None:
    return None if teacher is None else teacher.module.eval().requires_grad_(False).to(fabric.device)


@dataclass(frozen=True, slots=True)
class _Loop:
    """One epoch and its validation, over the parts that stay the same."""

    fabric: Fabric
    module: Any
    optimizer: Any
    average: Average
    samples: TrainingSamples
    options: Hyperparameters
    teacher: nn.Module | None

    def epoch(self, epoch: int) -> float:
        """Trains one epoch; gives the mean loss."""
        torch.manual_seed(self.options.seed * 7_919 + epoch)  # dropout
        self.module.train()
        rank, world = self.fabric.global_rank, self.fabric.world_size
        steps = self.samples.steps(self.options, world)
        total = torch.zeros((), device=self.fabric.device)
        count = 0
        for k, (inputs, targets) in enumerate(self.samples.batches(epoch, self.options, rank, world)):
            step = epoch * steps + k
            rate = one_cycle(step / (self.options.epochs * steps), self.options)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            loss = self._loss(on(self.fabric.device, inputs), on(self.fabric.device, targets))
            self.optimizer.zero_grad()
            self.fabric.backward(loss)
            if self.options.clip > 0:
                torch.nn.utils.clip_grad_norm_(self.module.parameters(), self.options.clip)
            self.optimizer.step()
            self.average.update(step)
            total += loss.detach()
            count += 1
        return float(total) / max(count, 1)

    def _loss(self, inputs: Sequence[Tensor], targets: Any) -> Tensor:
        outputs = self.samples.viewed(self._outputs(inputs))
        hard = self.samples.objective.loss(outputs, targets, inputs[0], self.options)
        if self.teacher is None or self.options.distil == 0:
            return hard
        with torch.no_grad(), self.fabric.autocast():
            soft = self.samples.viewed(self.teacher(*inputs))
        taught = self.samples.objective.soft
        assert taught is not None  # train_network has looked
        return (1 - self.options.distil) * hard + self.options.distil * taught(outputs, soft, self.options)

    def _outputs(self, inputs: Sequence[Tensor]) -> Any:
        try:
            return self.module(*inputs)
        except Exception as error:  # of the network's own code, whatever that is
            misfit = self.samples.misfit(inputs)
            if not misfit:
                raise
            raise DataError(f"{misfit}: {why(error)}; give data of its shape") from error

    def noise(self, best: float) -> float:
        """One standard error of an accuracy on the held-out samples; 0 for other scores.

        The latest epoch within one standard error of the best is kept (Breiman et al. 1984): among epochs that the
        held-out samples cannot tell apart, the one with the smallest learning rate.
        """
        count = len(self.samples.held)
        if self.samples.objective.name != "accuracy" or not count or not 0 < best < 1:
            return 0.0
        return math.sqrt(best * (1 - best) / count)

    @torch.no_grad()
    def score(self) -> float:
        """Mean score of the averaged weights on the held-out samples."""
        module = self.average.module.eval()
        total, count = 0.0, 0
        with self.fabric.autocast():
            for inputs, targets in self.samples.held_batches():
                outputs = on("cpu", self.samples.viewed(module(*on(self.fabric.device, inputs))))
                total += self.samples.objective.score(outputs, targets, inputs[0])
                count += len(inputs[0])
        return total / count


def on(device: Any, values: Any) -> Any:
    """``values`` with the tensors in it, in dicts, lists and tuples too, on ``device``."""
    return tree_map(lambda value: value.to(device) if isinstance(value, Tensor) else value, values)


def one_cycle(progress: float, options: Hyperparameters) -> float:
    """Learning rate at ``progress`` 0..1 of all steps: linear up to ``lr`` over ``warmup``, then linear down to 0."""
    if progress < options.warmup:
        return options.lr * (0.1 + 0.9 * progress / options.warmup)
    return options.lr * max(1e-3, (1 - progress) / (1 - options.warmup))
