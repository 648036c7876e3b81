"""``finetune``: goes on from trained weights, to the user's own classes or to recover what pruning cost."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgekit.data import Dataset, open_data
from edgekit.errors import DataError, UsageError
from edgekit.models.family import Hyperparameters, family
from edgekit.models.own_loss import chosen_objective
from edgekit.options.base import with_options
from edgekit.options.train import FinetuneOptions
from edgekit.outputs import as_file
from edgekit.pipeline.fitted import at_size, fitted_to, with_contract
from edgekit.pipeline.meaning import told
from edgekit.pipeline.train import (
    SUFFIX,
    at,
    checkpoint_path,
    settings_for,
    size_for,
    source_name,
    train_network,
    training_versions,
)
from edgekit.results.train import TrainResult
from edgekit.source import resolve
from edgekit.source.foreign import require_torch
from edgekit.types import Network, Step

log = logging.getLogger("edgekit")
EPOCHS = 10
RATE = 0.1
"""Peak learning rate relative to training from scratch: trained weights need small steps."""
QAT_RATE, QAT_CLIP = 0.1, 1.0
CUSTOM = Hyperparameters(
    batch=64, lr=1e-2, optimizer="adamw", weight_decay=1e-2, average=0.99, augment="auto", precision="auto"
)
"""For a network that is not of the zoo (its peak rate is then 1e-3)."""


@with_options(FinetuneOptions)
def finetune(options: FinetuneOptions) -> TrainResult:
    """Trains a network further on a data set and writes a checkpoint.

    Classes other than those of the source get a new last layer; the rest keeps its weights. The I/O contract of the
    source stays: images are brought to its size and normalised as it was trained. With ``qat`` the network learns with
    the roundings of its int8 files, in float32; the checkpoint is a float one that carries the ranges it learnt (see
    :mod:`edgekit.quantization.qat`).

    Raises:
        SourceError, DataError, UsageError, GateError, DeviceError: as ``train``.
    """
    place, teacher_of = checkpoint_path(options.out), options.distil_from
    if teacher_of is None and options.teacher_factory is not None:
        raise UsageError("--teacher-factory is for the checkpoint that --distil-from names; leave it out")
    network = resolve(options.source, factory=options.factory, weights=options.weights)
    require_torch(network, "train")
    network = told(network, options.io_file, options.task)
    samples = open_data(options.data, default_split="train")
    base = finetune_options(network, samples.kind)
    if options.qat:
        base = quantization_aware(base)
    settings = settings_for(options, base, samples)
    torch.manual_seed(options.seed)
    if options.size is not None:
        network = at_size(network, size_for(options.size, samples))
    network = _fitted(network, samples, options)
    if teacher_of is not None:
        _require_teachable(network, settings)
    teacher = None if teacher_of is None else _teacher(teacher_of, network, options.teacher_factory)
    if teacher is None:
        settings = replace(settings, distil=0.0)
    params: dict[str, Any] = {"source": source_name(options.source), "data": samples.label}
    params["distil_from"] = None if teacher_of is None else source_name(teacher_of)
    params |= {"device": options.on, **asdict(settings)}
    step = Step("finetune", params, training_versions())
    with as_file(place, SUFFIX) as file:
        result = train_network(
            network, samples, settings, file, step, device=options.on, teacher=teacher, progress=options.progress
        )
    return at(result, place)


def _fitted(network: Network, samples: Dataset, options: FinetuneOptions) -> Network:
    """``network`` as ``samples`` need it; with a loss of the user's own only a classifier or segmenter gets another
    last layer, since nothing says what the outputs of others mean."""
    if options.loss is None or network.task.kind in ("classification", "segmentation"):
        return fitted_to(network, samples)
    return with_contract(network, samples)


def finetune_options(network: Network, kind: str = "") -> Hyperparameters:
    """How ``network`` is trained further on data of ``kind`` where the user does not say."""
    name = network.card.config.get("family")
    base = family(str(name)).options_for(kind) if name else CUSTOM
    return replace(base, lr=base.lr * RATE, epochs=EPOCHS)


def quantization_aware(base: Hyperparameters) -> Hyperparameters:
    """How a network learns with its roundings in place, where it would learn by ``base`` without them.

    In float32: bfloat16 has the 8 bits of what is learnt here, and its own rounding would hide the one of the grid.
    With its batch norms folded a network has larger gradients (of the shipped cnn SGD left nothing at the rate of a
    plain fine-tuning): a tenth of the rate for SGD, whose steps grow with them, and a limit to their norm.
    """
    rate = base.lr * QAT_RATE if base.optimizer == "sgd" else base.lr
    return replace(base, qat=True, precision="32-true", lr=rate, clip=base.clip or QAT_CLIP)


def _require_teachable(network: Network, settings: Hyperparameters) -> None:
    """Raises UsageError where nothing says what is learned of a teacher's outputs."""
    if settings.loss:
        raise UsageError(
            "--distil-from with --loss: nothing says how your loss and the teacher's outputs go together; leave "
            "--distil-from out and let your function ask the teacher"
        )
    if chosen_objective(network, settings).soft is None:
        raise UsageError(f"--distil-from: a task of kind {network.task.kind!r} has no distillation; leave it out")


def _teacher(spec: str | Path, student: Network, factory: str | None) -> Network:
    teacher = resolve(spec, factory=factory, option="--teacher-factory")
    classifies = student.task.kind == "classification"
    gives, wanted = (
        [spec.shape[-1:] if classifies else spec.resolved() for spec in one.signature.outputs]
        for one in (teacher, student)
    )
    if (gives[:1] != wanted[:1]) if classifies else gives != wanted:
        needed = "the same classes" if classifies else "outputs of the same shapes"
        raise DataError(
            f"the teacher {spec} has {', '.join(map(str, teacher.signature.outputs))}, the student "
            f"{', '.join(map(str, student.signature.outputs))}; they need {needed}"
        )
    if teacher.task.labels and student.task.labels and teacher.task.labels != student.task.labels:
        raise DataError(
            f"the teacher {spec} knows {', '.join(teacher.task.labels[:5])}, …, the student "
            f"{', '.join(student.task.labels[:5])}, …: it teaches by position, so both need the same classes in the "
            "same order; finetune the teacher to these classes first"
        )
    mine, theirs = (next(iter(n.card.contract.values()), None) for n in (student, teacher))
    if mine != theirs:
        raise DataError(
            f"the teacher {spec} takes its input as {theirs or 'bare numbers'}, the student as {mine or 'bare numbers'}"
            "; distillation feeds both the same batch, so their input specs must be the same (shapes "
            f"{_shape(student)} and {_shape(teacher)})"
        )
    return teacher


def _shape(network: Network) -> tuple[int, ...]:
    return tuple(np.asarray(next(iter(network.example_inputs.values()))).shape)
