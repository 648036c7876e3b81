"""``finetune``: goes on from trained weights, to the user's own classes or to recover what pruning cost."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgekit.data import Dataset, open_data
from edgekit.data.text import FIRST_WORD, text_contract
from edgekit.errors import DataError, UsageError
from edgekit.models.detector import with_classes
from edgekit.models.family import Hyperparameters, family, measure_contract, require_labels
from edgekit.options.base import with_options
from edgekit.options.train import FinetuneOptions
from edgekit.outputs import as_file
from edgekit.pipeline.train import SUFFIX, at, checkpoint_path, hyperparameters, train_network, training_versions
from edgekit.results.train import TrainResult
from edgekit.source import resolve
from edgekit.source.foreign import require_torch
from edgekit.types import InputSpec, Network, Signature, Step, Task, TensorSpec

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
    samples = open_data(options.data, default_split="train")
    base = finetune_options(network, samples.kind)
    if options.qat:
        base = quantization_aware(base)
    settings = hyperparameters(
        base,
        options.epochs or EPOCHS,
        options.seed,
        options.overrides,
        lr=options.lr,
        processes=options.processes,
    )
    torch.manual_seed(options.seed)
    network = fitted_to(network, samples)
    if teacher_of is not None and network.task.kind != "classification":
        raise UsageError(f"--distil-from teaches classifiers by their logits; {network.name} does {network.task.kind}")
    teacher = None if teacher_of is None else _teacher(teacher_of, network, options.teacher_factory)
    if teacher is None:
        settings = replace(settings, distil=0.0)
    params = {"source": str(options.source), "data": samples.label, "distil_from": teacher_of and str(teacher_of)}
    params |= {"device": options.on, **asdict(settings)}
    step = Step("finetune", params, training_versions())
    with as_file(place, SUFFIX) as file:
        result = train_network(
            network, samples, settings, file, step, device=options.on, teacher=teacher, progress=options.progress
        )
    return at(result, place)


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


def fitted_to(network: Network, data: Dataset) -> Network:
    """``network`` with the classes of ``data``: a new last layer where they differ, and a contract where it has none.

    A series has no classes: its target, history and horizon must be those of the network. What learns to give back its
    input, or to make images, has no classes either and stays as it is.

    Raises:
        DataError: no labels, no last layer that could be replaced, or another forecast than the network's.
    """
    if network.task.kind == "generation":
        return network
    if network.task.kind == "anomaly":
        return _with_contract(network, data)
    if network.task.kind == "detection":
        return with_classes(_with_contract(network, data), data)
    if data.targets is None:
        require_labels(data)
    network = _with_contract(network, data)
    if data.targets is not None:
        return _forecasting(network, data)
    labels = network.task.labels
    if data.kind == "array" and len(labels) >= len(data.classes):
        return network  # labels of an .npz are bare indices
    if labels == data.classes:
        return network
    outputs = network.signature.outputs[0].shape[-1]
    config = dict(network.card.config)
    if labels or outputs != len(data.classes):
        name = replace_head(network, int(outputs) if isinstance(outputs, int) else 0, len(data.classes))
        log.info("new last layer %s for the %d classes of %s", name, len(data.classes), data.label)
        if "builder" in config and "classes" in config["builder"]:
            config["builder"] = {**config["builder"], "classes": len(data.classes)}
        elif "builder" in config and "outputs" in config["builder"]:
            config["builder"] = {**config["builder"], "outputs": len(data.classes)}
    first, *rest = network.signature.outputs
    output = TensorSpec(first.name, first.dtype, (*first.shape[:-1], len(data.classes)))
    card = replace(
        network.card,
        task=Task("classification", data.classes, "accuracy"),
        signature=Signature(network.signature.inputs, (output, *rest)),
        config=config,
        quality=(),
        selftest=None,
    )
    return replace(network, card=card)


def _words_for(network: Network, data: Dataset) -> InputSpec:
    """A vocabulary of ``data`` that fits the embedding of a user's network, and its fixed length.

    Raises:
        DataError: the network's input is not a row of token numbers, or nothing looks them up.
    """
    spec = network.signature.inputs[0]
    rows = [m.num_embeddings for m in network.module.modules() if isinstance(m, torch.nn.Embedding)]
    length = spec.shape[-1]
    if np.dtype(spec.dtype).kind not in "iu" or len(spec.shape) != 2 or not isinstance(length, int) or not rows:
        raise DataError(
            f"{network.name} takes {spec}; a network for text takes integers (batch, length) and looks them up in an "
            "nn.Embedding"
        )
    return text_contract(list(data.arrays["text"]), words=max(rows) - FIRST_WORD, length=length)


def _with_contract(network: Network, data: Dataset) -> Network:
    """A user's network gets the contract that the data imply: their normalisation, the size it was exported with."""
    spec = network.signature.inputs[0]
    known = network.card.contract.get(spec.name)
    if data.kind == "array" or (known is not None and known.kind == data.kind):
        return network
    if known is not None and known.kind != "array":
        raise DataError(f"{network.name} takes {known.kind} data, {data.label} holds {data.kind} samples")
    size = None
    if (data.kind, len(spec.shape)) in (("image", 4), ("audio", 3)):
        first, second = spec.shape[-2:]
        size = (first, second) if isinstance(first, int) and isinstance(second, int) else None
    contract: InputSpec = _words_for(network, data) if data.kind == "text" else measure_contract(data, size)
    return replace(network, card=replace(network.card, contract={**network.card.contract, spec.name: contract}))


def _forecasting(network: Network, data: Dataset) -> Network:
    """``network`` as a forecaster of ``data``; a network of the user's own gets its task from the data."""
    assert data.targets is not None
    horizon = data.targets.shape[1]
    given, output = network.signature.inputs[0], network.signature.outputs[0]
    task = network.task
    if task.kind == "none":
        column = data.columns.index(str(data.params["target"]))
        moments = {"mean": data.params["mean"][column], "std": data.params["std"][column]}
        task = Task("forecasting", (), "mse", {"target": data.params["target"], "horizon": horizon, **moments})
    if task.kind != "forecasting":
        raise DataError(f"{network.name} does {task.kind}, {data.label} is to be forecast; train a network for that")
    if task.params.get("target") != data.params["target"]:
        raise DataError(
            f"{network.name} forecasts {task.params.get('target')!r}, {data.label} {data.params['target']!r}; say "
            f"series:FILE.csv,target={task.params.get('target')}"
        )
    if output.shape[1:] != (horizon,) or given.shape[1:2] != (data.params["history"],):
        raise DataError(
            f"{network.name} takes {given} and gives {output}, {data.label} has {data.params['history']} rows of "
            f"history and {horizon} to forecast; say series:FILE.csv,history=N,horizon=M"
        )
    return replace(network, card=replace(network.card, task=task, quality=(), selftest=None))


def replace_head(network: Network, outputs: int, classes: int) -> str:
    """Puts a fresh linear layer (or convolution) with ``classes`` outputs in place of the one that gives the network's
    output, which is the last that runs, wherever it stands in the code; gives its name.

    Raises:
        DataError: the last such layer does not have ``outputs`` outputs, so it is not a classifier.
    """
    module = network.module
    layers = _in_order(network)
    if not layers:
        raise DataError("the network has no linear or convolutional layer that could be replaced for the new classes")
    name, last = layers[-1]
    found = last.out_features if isinstance(last, torch.nn.Linear) else last.out_channels
    if outputs and found != outputs:
        raise DataError(
            f"the last layer {name!r} has {found} outputs, the network {outputs}: it is not a classifier whose "
            "last layer can be replaced; give the network a last layer for your classes in its factory"
        )
    fresh: torch.nn.Module
    if isinstance(last, torch.nn.Linear):
        fresh = torch.nn.Linear(last.in_features, classes, bias=last.bias is not None)
    else:
        fresh = torch.nn.Conv2d(last.in_channels, classes, last.kernel_size, last.stride, last.padding)  # type: ignore[arg-type]
    parent, _, attribute = name.rpartition(".")
    setattr(module.get_submodule(parent), attribute, fresh)
    return str(name)


def _in_order(network: Network) -> list[tuple[str, torch.nn.Module]]:
    """The linear layers and convolutions by the order in which they last run on the network's example."""
    ran: dict[str, torch.nn.Module] = {}
    hooks = []

    def noting(name: str) -> Any:
        def note(layer: torch.nn.Module, _given: Any, _result: Any) -> None:
            ran.pop(name, None)
            ran[name] = layer

        return note

    for name, layer in network.module.named_modules():
        if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d):
            hooks.append(layer.register_forward_hook(noting(name)))
    try:
        with torch.inference_mode():
            network.module(*(torch.from_numpy(np.asarray(value)) for value in network.example_inputs.values()))
    finally:
        for hook in hooks:
            hook.remove()
    return list(ran.items())


def _teacher(spec: str | Path, student: Network, factory: str | None) -> Network:
    teacher = resolve(spec, factory=factory, option="--teacher-factory")
    if teacher.signature.outputs[0].shape[-1] != student.signature.outputs[0].shape[-1]:
        raise DataError(
            f"the teacher {spec} has {teacher.signature.outputs[0]}, the student {student.signature.outputs[0]}; they "
            "need the same classes"
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
