"""``train``: a fresh network of a family, trained on a data set, as a checkpoint."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgekit.artifact import library_versions, sha256_file
from edgekit.data import Dataset, open_data
from edgekit.data.dataset import held_out_sets
from edgekit.errors import EdgekitError, UsageError
from edgekit.limits import check
from edgekit.models.autoencoder import normal_only
from edgekit.models.checkpoint import save_checkpoint
from edgekit.models.family import Hyperparameters, family, new_network, parameter_count, with_class_names
from edgekit.models.samples import MAX_VALIDATION, kept_and_held
from edgekit.models.training import Progress, fit
from edgekit.options.base import with_options
from edgekit.options.train import TrainingOptions, TrainOptions
from edgekit.outputs import as_file, check_output, output_suffix
from edgekit.pipeline.constant_answer import compare_with_constant
from edgekit.pipeline.quantization_aware import with_learned_ranges, with_roundings
from edgekit.quality.anomaly import refit_threshold
from edgekit.quality.evaluate import evaluate, measurable
from edgekit.report.epochs import epochs_shown
from edgekit.results.train import Fit, TrainedFile, Training, TrainResult
from edgekit.runtime.torch import TorchModuleRunner, free_batch
from edgekit.types import Card, Network, Quality, Step

log = logging.getLogger("edgekit")
SUFFIX = ".safetensors"
LEAST_STEPS = 200
"""Optimizer steps below which a training has hardly begun: where the user does not say how long, small data are gone
through more often, and in smaller batches, :data:`LEAST_STEPS_AN_EPOCH` of them an epoch."""
LEAST_STEPS_AN_EPOCH, LEAST_BATCH = 8, 8


@with_options(TrainOptions)
def train(options: TrainOptions) -> TrainResult:
    """Trains a fresh network of a family on the training split of a data set and writes a checkpoint.

    ``data``: its ``train`` split is used unless another is named, and those it is never trained on (``test``) for the
    figures in the card.

    Raises:
        UsageError, DataError, GateError, DeviceError: see :func:`edgekit.models.training.fit`.
    """
    place = checkpoint_path(options.out)
    kin = family(options.family)
    samples = with_class_names(open_data(options.data, default_split="train"))
    if options.hold_out is not None:
        samples = replace(samples, params={**samples.params, "held_out": options.hold_out})
    if options.size is not None:
        samples = replace(samples, params={**samples.params, "size": size_for(options.size, samples)})
    settings = settings_for(options, kin.options_for(samples.kind), samples)
    torch.manual_seed(options.seed)
    network = new_network(options.family, samples, options.builder)
    if options.hold_out is not None and network.task.kind != "anomaly":
        learns = f"{options.family} learns {network.task.kind}"
        raise UsageError(f"--hold-out is for anomaly detection; {learns}: leave it out")
    step = Step("train", {"data": samples.label, "device": options.on, **asdict(settings)}, training_versions())
    with as_file(place, SUFFIX) as file:
        result = train_network(network, samples, settings, file, step, device=options.on, progress=options.progress)
    return at(result, place)


def train_network(
    network: Network,
    samples: Dataset,
    options: Hyperparameters,
    out: Path,
    step: Step,
    *,
    device: str = "cpu",
    teacher: Network | None = None,
    progress: Progress | None = None,
) -> TrainResult:
    """The part that ``train``, ``finetune`` and ``prune`` share: fit, measure on held-out data, write the checkpoint.

    A run that is stopped leaves ``OUT.resume`` beside ``out``; the same call goes on from there. With ``options.qat``
    the network learns with the roundings of its int8 files, and the ranges it learnt go into its card.
    """
    start = time.monotonic()
    resume = out.with_name(f"{out.stem}.resume{out.suffix}")
    loop, learnt = _loop(network, samples)
    _check_readable(samples)
    taught = with_roundings(network, learnt, options) if options.qat else network
    with nullcontext(progress) if progress is not None else epochs_shown(options.epochs) as report:
        outcome = loop(taught, learnt, options, device=device, state=resume, teacher=teacher, progress=report)
    card = replace(network.card, ranges=None).with_step(step)
    if options.qat:
        card = with_learned_ranges(taught, card, learnt)
    if network.task.kind == "anomaly":
        card = _with_threshold(network, learnt, options, card)
        network = replace(network, card=card)
    save_checkpoint(replace(network, card=card), out)  # before anything is measured, which may fail
    try:
        rounded = next(iter(held_out_quality(taught, samples)), None) if options.qat else None
        figures = held_out_quality(network, samples)
    except EdgekitError:
        log.warning("the training is not lost: %s holds the network, without its figures", out)
        raise
    compare_with_constant(figures)
    trained = replace(network, card=replace(card, quality=figures))
    save_checkpoint(trained, out)
    count = parameter_count(trained.module)
    return TrainResult(
        checkpoint=TrainedFile(path=out, bytes=out.stat().st_size, sha256=sha256_file(out), parameters=count),
        training=Training(outcome, time.monotonic() - start),
        quality=figures[0] if figures else None,
        simulated_int8=rounded,
        family=trained.card.family,
        steps=trained.card.steps,
        network=trained,
    )


def _check_readable(trained_on: Dataset) -> None:
    """Decodes what the trained network will be measured on: a file that is broken is better found before the training.

    Raises:
        DataError: one cannot be read.
    """
    if trained_on.split != "train":
        return
    for held in held_out_sets(trained_on.name):
        read = [values for values in held.arrays.values() if not isinstance(values, np.ndarray)]
        read += [] if held.answers is None else [held.answers]
        for index in range(len(held)):
            for values in read:
                values[index]


def at(result: TrainResult, place: Path) -> TrainResult:
    """``result`` whose checkpoint was moved to ``place``."""
    return replace(result, checkpoint=replace(result.checkpoint, path=place))


def _with_threshold(network: Network, learnt: Dataset, options: Hyperparameters, card: Card) -> Card:
    """The card with the threshold that the scores of the normal samples held out of the training give."""
    share = min(options.validation, MAX_VALIDATION / len(learnt))
    unseen = {"data": learnt.label, "share": share, "seed": options.seed}
    card = replace(card, task=replace(card.task, params={**card.task.params, "unseen": unseen}))
    return replace(card, task=refit_threshold(module_runner(network), learnt, card))


def _loop(network: Network, samples: Dataset) -> tuple[Callable[..., Fit], Dataset]:
    """The training loop of the network's task, and the samples it learns from.

    Raises:
        DataError: the class to hold out is not there.
        SourceError: the quality could not be measured afterwards; better said now.
    """
    if network.task.kind == "anomaly":
        return fit, normal_only(samples, str(network.task.params["held_out"]))
    if network.task.kind == "generation":
        from edgekit.models.adversarial import fit_adversarial
        from edgekit.quality.frechet import FeatureNetwork

        FeatureNetwork.of(str(network.task.params.get("features", "cnn")))
        return fit_adversarial, samples
    return fit, samples


def held_out_quality(network: Network, trained_on: Dataset) -> tuple[Quality, ...]:
    """The figure of merit on each split of the set trained on that is never trained on (``test``; ``dev`` and ``test``
    where it is published so), each named; empty when all of the set was trained on."""
    if trained_on.split != "train":
        return ()
    sets = held_out_sets(trained_on.name)
    return tuple(module_quality(network, data) for data in sets if measurable(data, network.card))


def module_quality(network: Network, data: Dataset, limit: int | None = None) -> Quality:
    """The task's figure of merit of the torch module itself on ``data``."""
    return evaluate(module_runner(network), data, network.card, limit=limit).quality("torch", "cpu")


def module_runner(network: Network) -> TorchModuleRunner:
    """The module behind a runner's ``run``, its first axis free so that it is measured in batches."""

    return TorchModuleRunner(network.module, free_batch(network.signature), threads=torch.get_num_threads())


def settings_for(options: TrainingOptions, base: Hyperparameters, samples: Dataset) -> Hyperparameters:
    """``base`` with what the user says; where that is not how long, long enough for ``samples``.

    Raises:
        UsageError: an override of another name than those of the fields.
    """
    named = {"lr": options.lr, "processes": options.processes, "loss": options.loss}
    settings = hyperparameters(base, options.epochs, options.seed, options.overrides, **named)
    if options.epochs is not None or {"epochs", "batch"} & set(options.overrides or {}):
        return settings
    kept, _ = kept_and_held(samples, min(settings.validation, MAX_VALIDATION / len(samples)), settings.seed)
    batch = min(settings.batch, max(len(kept) // LEAST_STEPS_AN_EPOCH, LEAST_BATCH * settings.processes))
    epochs = max(settings.epochs, -(-LEAST_STEPS // -(-len(kept) // batch)))
    if (epochs, batch) != (settings.epochs, settings.batch):
        log.info(
            "%s has few samples (%d): %d epochs in batches of %d, not %d of %d (--epochs says otherwise)",
            samples.label, len(kept), epochs, batch, settings.epochs, settings.batch,
        )  # fmt: skip
    return replace(settings, epochs=epochs, batch=batch)


def size_for(text: str, samples: Dataset) -> tuple[int, int]:
    """Height and width that ``--size`` names: ``224``, or ``224x320``.

    Raises:
        UsageError: another text, or samples that are not pictures.
    """
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdecimal() and 0 < int(side) < 1 << 16 for side in sides):
        raise UsageError(f"--size {text}: give pixels, as 224, or height and width, as 224x320")
    if samples.kind != "image":
        raise UsageError(f"--size is of pictures; {samples.label} holds {samples.kind} samples: leave it out")
    size = (int(sides[0]), int(sides[-1]))
    check("IMAGE_PIXELS", size[0] * size[1], f"--size {text}")
    return size


def hyperparameters(
    base: Hyperparameters, epochs: int | None, seed: int, overrides: Mapping[str, Any] | None, **named: Any
) -> Hyperparameters:
    """``base`` with the user's own numbers: ``overrides``, and those that have an option of their own.

    Raises:
        UsageError: an override of another name than those of the fields.
    """
    own = {name: value for name, value in {"epochs": epochs, **named}.items() if value is not None}
    try:
        return replace(base, **{"seed": seed, **dict(overrides or {}), **own})
    except TypeError as error:
        raise UsageError(f"no such training option: {error}") from error


def checkpoint_path(out: str | Path) -> Path:
    """``out`` as a place a checkpoint can be written to.

    Raises:
        UsageError: another suffix than .safetensors, or a place that cannot be written.
    """
    place = Path(out)
    if output_suffix(place, SUFFIX) != SUFFIX:
        raise UsageError(f"a checkpoint is a {SUFFIX} file, got -o {place}; call it {place.stem or 'model'}{SUFFIX}")
    check_output(place)
    return place


def source_name(source: str | Path) -> str:
    """A network as a card names it: of a file its name alone, so that the same steps give the same card in any folder.
    Which weights it was stands there as their hash."""
    text = str(source)
    return Path(text).name if any(Path(part).exists() for part in (text, text.rpartition(":")[0]) if part) else text


def training_versions() -> dict[str, str]:
    """Versions of the libraries that train."""
    return library_versions("edgekit", "torch", "lightning-fabric", "numpy")
