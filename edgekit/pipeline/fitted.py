"""A network that fits a data set: its task, its classes or values, its contract and the size of its pictures."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from edgekit.data import Dataset
from edgekit.data.pixel_classes import score_map
from edgekit.data.text import FIRST_WORD, text_contract
from edgekit.errors import DataError, UsageError
from edgekit.iospec import METRICS
from edgekit.models.detector import with_classes
from edgekit.models.family import measure_contract, require_labels, with_class_names
from edgekit.quality.forecast import as_forecaster
from edgekit.reading import why
from edgekit.types import InputSpec, Network, Signature, Task, TensorSpec

log = logging.getLogger("edgekit")


def fitted_to(network: Network, data: Dataset) -> Network:
    """``network`` with the task, the classes or the values of ``data``: a new last layer where they differ, and a
    contract where it has none.

    A series has no classes: its target, history and horizon must be those of the network. What learns to give back its
    input, or to make images, has no classes either and stays as it is.

    Raises:
        DataError: nothing to learn, no last layer that could be replaced, or another forecast than the network's.
    """
    if network.task.kind == "generation":
        return network
    if network.task.kind == "anomaly":
        return with_contract(network, data)
    kind = task_for(network, data)
    network = with_contract(network, data)
    return _FITTED[kind](network, data) if kind in _FITTED else network


def check_classes(network: Network, data: Dataset) -> None:
    """Refuses data whose answers the network does not know.

    Raises:
        DataError: it has other classes than ``data``.
    """
    labels = network.task.labels
    if labels and data.classes and data.kind != "array" and labels != data.classes:
        raise DataError(
            f"{network.name} has {len(labels)} classes ({', '.join(labels[:3])} …), {data.label} has "
            f"{len(data.classes)} ({', '.join(data.classes[:3])} …); finetune to these classes first"
        )


def task_for(network: Network, data: Dataset) -> str:
    """What ``network`` learns from ``data``: its own task where the data answer that, else the one they answer.

    Raises:
        DataError: no answers, or such as do not say which task they are of.
    """
    own = network.task.kind
    if data.kind == "series" and data.targets is not None:
        return "forecasting"
    if data.answers is not None:
        if own not in ("none", "classification", "regression", "forecasting"):
            return own
        return _told_by_answers(network, data)
    if data.targets is not None or (own == "regression" and data.labels is not None):
        return "regression"
    require_labels(data)
    return own if own not in ("none", "segmentation", "multilabel", "forecasting", "regression") else "classification"


def _told_by_answers(network: Network, data: Dataset) -> str:
    assert data.answers is not None
    first = np.asarray(data.answers[0]) if not isinstance(data.answers[0], Mapping | list | tuple) else np.zeros(0)
    if (
        first.ndim == 2
        and first.dtype.kind in "iub"
        and any(len(spec.shape) == 4 for spec in network.signature.outputs)
    ):
        return "segmentation"
    if first.ndim == 1 and len(first) and np.isin(first, (0, 1)).all():
        return "multilabel"
    raise DataError(
        f"the answers of {data.label} do not say what {network.name} has to learn from them: they are neither a "
        "class nor a value, mask or row of 0 and 1. Give the network its task ({'task': '...'} as third value of the "
        "factory), or say what is minimised: --loss file.py:function"
    )


def _classifying(network: Network, data: Dataset) -> Network:
    require_labels(data)
    labels, width = network.task.labels, network.signature.outputs[0].shape[-1]
    classes = with_class_names(data).classes
    if (not data.classes or data.kind == "array") and len(labels) >= len(classes):
        return network  # labels of an .npz or of a function are bare indices
    if not data.classes and not labels and isinstance(width, int) and width > len(classes):
        classes = tuple(map(str, range(width)))  # a network of the user's own knows how many there are
    if labels == classes:
        return network
    if labels or width != len(classes):
        network = _with_head(network, 0, -1, len(classes), data)
    kind = "classification"
    return _with_task(network, Task(kind, classes, METRICS[kind], _params(network, kind)))


def _segmenting(network: Network, data: Dataset) -> Network:
    labels, classes = network.task.labels, data.classes
    spec, axis, count = score_map(network.signature, len(labels))
    if classes and labels != classes and (labels or count != len(classes)):
        network = _with_head(network, network.signature.outputs.index(spec), axis, len(classes), data)
    return _with_task(
        network, Task("segmentation", classes or labels, METRICS["segmentation"], _params(network, "segmentation"))
    )


def _multilabelling(network: Network, data: Dataset) -> Network:
    assert data.answers is not None
    count, labels = len(data.answers[0]), network.task.labels
    there = [k for k, spec in enumerate(network.signature.outputs) if spec.shape[1:] == (count,)]
    if not there or (labels and data.classes and labels != data.classes):
        network = _with_head(network, 0, -1, count, data)
    names = data.classes or (labels if len(labels) == count else ())
    return _with_task(network, Task("multilabel", names, METRICS["multilabel"], _params(network, "multilabel")))


def _regressing(network: Network, data: Dataset) -> Network:
    values = np.asarray(data.targets if data.targets is not None else data.labels, np.float64)
    count = math.prod(values.shape[1:])
    if math.prod(network.signature.outputs[0].resolved()[1:]) != count:
        network = _with_head(network, 0, -1, count, data)
        _centre(network, values)
    return _with_task(network, Task("regression", (), METRICS["regression"], _params(network, "regression")))


def _centre(network: Network, values: Any) -> None:
    """A fresh last layer starts at the mean of what it has to learn, and moves in units of its spread."""
    _, last = _in_order(network)[-1]
    spread = float(values.std()) or 1.0
    with torch.no_grad():
        last.weight.mul_(spread)  # type: ignore[operator]
        if last.bias is not None:
            mean = values.reshape(len(values), -1).mean(0)
            last.bias.copy_(torch.from_numpy(mean))  # type: ignore[operator]


def _params(network: Network, kind: str) -> Mapping[str, Any]:
    return network.task.params if network.task.kind == kind else {}


def _with_task(network: Network, task: Task) -> Network:
    if task == network.task:
        return network
    return replace(network, card=replace(network.card, task=task, quality=(), selftest=None))


def _with_head(network: Network, output: int, axis: int, count: int, data: Dataset) -> Network:
    """``network`` with a fresh last layer: its output number ``output`` has ``count`` values along ``axis``."""
    spec = network.signature.outputs[output]
    before = spec.shape[axis]
    name = replace_head(network, before if isinstance(before, int) else 0, count)
    what = "classes" if data.classes or data.labels is not None else "values"
    log.info("new last layer %s for the %d %s of %s", name, count, what, data.label)
    config = dict(network.card.config)
    number = next((key for key in ("classes", "outputs") if key in config.get("builder", {})), None)
    if number is not None:
        config["builder"] = {**config["builder"], number: count}
    shape = list(spec.shape)
    shape[axis] = count
    outputs = list(network.signature.outputs)
    outputs[output] = TensorSpec(spec.name, spec.dtype, tuple(shape))
    signature = Signature(network.signature.inputs, tuple(outputs))
    card = replace(network.card, signature=signature, config=config, quality=(), selftest=None)
    return replace(network, card=card)


def at_size(network: Network, size: tuple[int, int]) -> Network:
    """``network`` for pictures of ``size`` (height, width).

    Raises:
        UsageError: its input is not a picture, or it does not run on one of that size.
    """
    (spec, *others), contract = network.signature.inputs, network.card.contract
    known = contract.get(spec.name, InputSpec("image", "NCHW"))
    if others or known.kind != "image" or len(spec.shape) != 4 or known.layout not in ("NCHW", "NHWC"):
        raise UsageError(f"--size is of pictures, and {network.name} takes {', '.join(map(str, (spec, *others)))}")
    first = known.layout.index("H")
    shape = (*spec.shape[:first], *size, *spec.shape[first + 2 :])
    example = np.zeros([side if isinstance(side, int) else 1 for side in shape], spec.dtype)
    try:
        with torch.inference_mode():
            found = network.module(torch.from_numpy(example))
    except Exception as error:  # of the network's own code, whatever that is
        raise UsageError(f"--size {size[0]}x{size[1]}: {network.name} does not run on that: {why(error)}") from error
    results = [leaf for leaf in torch.utils._pytree.tree_leaves(found) if isinstance(leaf, torch.Tensor)]
    outputs = tuple(
        replace(one, shape=tuple(got.shape)) for one, got in zip(network.signature.outputs, results, strict=True)
    )
    signature = Signature((replace(spec, shape=shape),), outputs)
    if spec.name in contract:
        params = {key: value for key, value in known.params.items() if key not in ("shorter", "resize")}
        contract = {**contract, spec.name: replace(known, size=size, params=params)}
    card = replace(network.card, signature=signature, contract=contract, quality=(), selftest=None)
    return replace(network, example_inputs={spec.name: example}, card=card)


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


def with_contract(network: Network, data: Dataset) -> Network:
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
    card = as_forecaster(network.card, data)
    given, output, task = network.signature.inputs[0], network.signature.outputs[0], card.task
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
    return replace(network, card=replace(card, quality=(), selftest=None))


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
        shape = (last.kernel_size, last.stride, last.padding)
        how = {"dilation": last.dilation, "bias": last.bias is not None, "padding_mode": last.padding_mode}
        fresh = torch.nn.Conv2d(last.in_channels, classes, *shape, **how)  # type: ignore[arg-type]
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


_FITTED: Mapping[str, Callable[[Network, Dataset], Network]] = {
    "classification": _classifying,
    "forecasting": _forecasting,
    "segmentation": _segmenting,
    "multilabel": _multilabelling,
    "detection": with_classes,
    "regression": _regressing,
}
