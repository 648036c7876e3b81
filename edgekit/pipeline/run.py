"""``run``: one inference on real input."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.artifact import open_artifact, publishing
from edgekit.data.preprocess import sample_feed
from edgekit.devices import open_runner
from edgekit.errors import DataError, UsageError
from edgekit.types import Array, Card

SHOWN_VALUES = 8
"""Values of an output that a document and the screen show where the model has no labels."""


@dataclass(frozen=True)
class Answer:
    """What the model said to one input: its outputs, for a classifier (label, probability), likeliest first, and for a
    forecast its target's name and values in the units of the data."""

    input: str
    outputs: Mapping[str, Array]
    top: tuple[tuple[str, float], ...]
    forecast: tuple[str, tuple[float, ...]] | None = None

    def document(self) -> dict[str, Any]:
        body = {
            "input": self.input,
            "top": [{"label": label, "probability": probability} for label, probability in self.top],
            "outputs": [_summary(name, array) for name, array in self.outputs.items()],
        }
        if self.forecast is not None:
            body["forecast"] = {"target": self.forecast[0], "values": list(self.forecast[1])}
        return body


@dataclass(frozen=True)
class RunResult:
    """The answers to all inputs, in order; ``out`` is the .npz that holds the whole outputs, if one was wanted."""

    model: str
    runtime: str
    device: str
    answers: tuple[Answer, ...]
    out: str | None = None

    def document(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "runtime": self.runtime,
            "device": self.device,
            "results": [answer.document() for answer in self.answers],
            "out": self.out,
        }


def run(
    model: str | Path,
    inputs: str | Path | Sequence[str | Path],
    *,
    on: str = "cpu",
    runtime: str | None = None,
    out: str | Path | None = None,
    top: int = 5,
) -> RunResult:
    """Runs a model file once for each input, in a worker process.

    Args:
        model: the model file.
        inputs: images (.jpg, .png …), recordings (.wav), sentences, .csv files (the first row of a table, the last rows
            of a series), .npy or .npz files, one sample each.
        on: device, see ``edgekit device list``.
        runtime: None takes the first runtime for the format.
        out: .npz file for the outputs by name, one row a sample.
        top: how many labels a classifier gives.

    Raises:
        ModelError, DataError, FeedError: the model or an input cannot be read, or they do not fit.
        DeviceError: the runtime or the worker failed.
    """
    given = [os.fspath(i) for i in ([inputs] if isinstance(inputs, str | Path) else inputs)]
    if not given:
        raise UsageError("no input was given; name an image, .csv, .npy or .npz file")
    target = None if out is None else _npz_target(out)
    artifact = open_artifact(model)
    contract = artifact.card.contract if artifact.card else {}
    answers = []
    with open_runner(model, device=on, runtime=runtime) as runner:
        for name in given:
            feed = sample_feed(name, runner.signature, contract)
            runner.reset()
            outputs = runner.run(feed)
            forecast = foreseen(outputs, artifact.card)
            answers.append(Answer(name, outputs, likeliest(outputs, artifact.card, top), forecast))
        used = runner.name
    if target is not None:
        arrays = stacked([answer.outputs for answer in answers])
        with publishing(target) as temporary:
            np.savez(temporary, **arrays)  # type: ignore[arg-type]  # numpy's stub takes **kwds for its own option
    return RunResult(str(model), used, on, tuple(answers), None if target is None else str(target))


def likeliest(outputs: Mapping[str, Array], card: Card | None, top: int) -> tuple[tuple[str, float], ...]:
    """The ``top`` likeliest labels with their probabilities (softmax of the first output); empty without a card
    that says the task is classification."""
    if card is None or card.task.kind != "classification" or not outputs:
        return ()
    logits = np.asarray(next(iter(outputs.values())), np.float64).reshape(-1)
    shifted = np.exp(logits - logits.max())
    probabilities = shifted / shifted.sum()
    labels = card.task.labels if len(card.task.labels) == logits.size else tuple(map(str, range(logits.size)))
    order = np.argsort(-probabilities, kind="stable")[:top]
    return tuple((labels[index], float(probabilities[index])) for index in order)


def foreseen(outputs: Mapping[str, Array], card: Card | None) -> tuple[str, tuple[float, ...]] | None:
    """Name of the target and its next values, in the units of the data; None unless the card says that the task is
    forecasting."""
    if card is None or card.task.kind != "forecasting" or not outputs:
        return None
    params = card.task.params
    mean, std = float(params.get("mean", 0.0)), float(params.get("std", 1.0))
    values = np.asarray(next(iter(outputs.values())), np.float64).reshape(-1) * std + mean
    return str(params.get("target", "value")), tuple(float(value) for value in values)


def stacked(samples: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """The outputs of all samples by name, one after the other on the first axis.

    Raises:
        DataError: an output has another shape for another sample.
    """
    joined = {}
    for name in samples[0]:
        arrays = [np.atleast_1d(sample[name]) for sample in samples]
        shapes = {array.shape[1:] for array in arrays}
        if len(shapes) > 1:
            raise DataError(
                f"output {name!r} has shapes {sorted(map(str, shapes))} for different inputs, which make no one array; "
                "run the inputs one by one"
            )
        joined[name] = np.concatenate(arrays)
    return joined


def _npz_target(out: str | Path) -> Path:
    target = Path(out)
    if target.suffix != ".npz":
        raise UsageError(f"-o {target} does not end in .npz; outputs are written as one .npz file")
    return target


def _summary(name: str, array: Array) -> dict[str, Any]:
    flat = np.asarray(array).reshape(-1)
    return {"name": name, "dtype": array.dtype.name, "shape": list(array.shape), "first": flat[:SHOWN_VALUES].tolist()}
