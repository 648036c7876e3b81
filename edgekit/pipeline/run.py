"""``run``: one inference on real input."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgekit.artifact import open_artifact
from edgekit.data import Dataset, noise, png
from edgekit.data.arrays import save_npz
from edgekit.data.preprocess import sample_feed
from edgekit.devices import open_runner
from edgekit.errors import DataError, UsageError
from edgekit.options.base import with_options
from edgekit.options.measure import RunOptions
from edgekit.outputs import check_output, output_suffix, publishing
from edgekit.pipeline.found import objects_in, picture_with
from edgekit.pipeline.painted import class_map, picture_with_mask, shares
from edgekit.quality.anomaly import score
from edgekit.quality.contents import with_iospec
from edgekit.quality.evaluate import model_batches
from edgekit.quality.frechet import as_pixels
from edgekit.results.inspect import Anomaly, Answer, Forecast, Label, RunResult
from edgekit.runtime.base import Runner
from edgekit.runtime.stream import Stream, sequences
from edgekit.types import Array, Card, Feed, InputSpec, Signature, Task

log = logging.getLogger("edgekit")
_DRAWN = {"detection": "boxes are", "segmentation": "a mask is"}
"""Tasks whose answers are drawn into the picture."""


@with_options(RunOptions)
def run(options: RunOptions) -> RunResult:
    """Runs a model file once for each input, in a worker process.

    Raises:
        ModelError, DataError, FeedError: the model or an input cannot be read, or they do not fit.
        DeviceError: the runtime or the worker failed.
    """
    given = [os.fspath(i) for i in ([options.inputs] if isinstance(options.inputs, str | Path) else options.inputs)]
    artifact = with_iospec(open_artifact(options.model), options.io_file)
    task = artifact.card.task if artifact.card else Task()
    if not given and task.kind != "generation":
        raise UsageError("no input was given; name an image, .csv, .npy or .npz file")
    target, suffix = _target(options.out, artifact.path, task)
    if suffix == ".png" and task.kind in _DRAWN and len(given) > 1:
        raise UsageError(
            f"-o {target}: {_DRAWN[task.kind]} drawn into one picture, and {len(given)} were given; run them one by one"
        )
    with open_runner(options.model, device=options.on, runtime=options.runtime) as opened:
        runner = sequences(opened)
        answers = [_answer(name, runner, artifact.card, options.top) for name in given or [f"noise:{noise.COUNT}"]]
        used = opened.name
    if target is not None and artifact.card is not None and suffix == ".png" and task.kind in _DRAWN:
        content = _drawn(given[0], answers[0], runner.signature, artifact.card)
        with publishing(target, suffix) as temporary:
            temporary.write_bytes(content)
        return RunResult(
            model=str(options.model), runtime=used, device=options.on, answers=tuple(answers), image=str(target)
        )
    if target is not None and suffix == ".png":
        images = [next(iter(answer.outputs.values())) for answer in answers]
        with publishing(target, suffix) as temporary:
            temporary.write_bytes(png.encode(png.grid(as_pixels(np.concatenate(images), task))))
        return RunResult(
            model=str(options.model), runtime=used, device=options.on, answers=tuple(answers), image=str(target)
        )
    if target is not None:
        arrays = stacked([answer.outputs for answer in answers])
        with publishing(target, suffix) as temporary:
            save_npz(temporary, arrays)
    written = None if target is None else str(target)
    return RunResult(model=str(options.model), runtime=used, device=options.on, answers=tuple(answers), out=written)


def _drawn(name: str, answer: Answer, signature: Signature, card: Card) -> bytes:
    if card.task.kind == "detection":
        return picture_with(name, answer.objects or (), card.task.labels)
    return picture_with_mask(name, class_map(answer.outputs, signature, card), card)


def _answer(name: str, runner: Runner | Stream, card: Card | None, top: int) -> Answer:
    """Runs the model on one input, or on all samples that ``noise:N`` stands for."""
    contract = card.contract if card is not None else {}
    if any(rule.kind == "noise" for rule in contract.values()) and (asked := noise.spelled(name)) is not None:
        return Answer(input=name, outputs=_from_noise(runner, contract, *asked))
    feed = sample_feed(name, runner.signature, contract)
    runner.reset()
    outputs = _outputs(runner, feed, contract)
    anomaly = None
    if card is not None and card.task.kind == "anomaly":
        limit = card.task.params.get("threshold")
        anomaly = Anomaly(float(score(feed, outputs)[0]), None if limit is None else float(limit))
    objects = pixels = None
    if card is not None and card.task.kind == "detection":
        objects = objects_in(name, feed, outputs, runner.signature, card)
    if card is not None and card.task.kind == "segmentation":
        pixels = shares(class_map(outputs, runner.signature, card), card)
    labels, forecast = top_k(outputs, card, top), forecast_values(outputs, card)
    return Answer(
        input=name, outputs=outputs, top=labels, forecast=forecast, anomaly=anomaly, objects=objects, pixels=pixels
    )


def _outputs(runner: Runner | Stream, feed: Feed, contract: Mapping[str, InputSpec]) -> dict[str, Array]:
    """The outputs for one sample; a file that takes several at once gets it as often, and the first answer counts."""
    wide = {spec.name: spec.shape[0] for spec in runner.signature.inputs if spec.shape}
    sizes = {
        wide[name]
        for name, array in feed.items()
        if len(array) == 1 and contract.get(name, InputSpec()).kind != "array"
    }
    count = sizes.pop() if len(sizes) == 1 else 1
    if not isinstance(count, int) or count < 2 or set(wide.values()) != {count}:
        return runner.run(feed)
    log.info(
        "the file takes %d samples a run: this one fills them all (edgekit export --shape makes it take one)", count
    )
    filled = {name: np.repeat(array, count, axis=0) for name, array in feed.items()}
    return {name: array[:1] if array.ndim else array for name, array in runner.run(filled).items()}


def _from_noise(runner: Runner | Stream, contract: Mapping[str, InputSpec], count: int, seed: int) -> dict[str, Array]:
    """The outputs for ``count`` samples of noise, one a row."""
    arrays = {
        spec.name: noise.normal(seed + stream, count, spec.resolved()[1:])
        for stream, spec in enumerate(runner.signature.inputs)
    }
    given = Dataset("noise", "all", "array", arrays)
    made = []
    for feed, real in model_batches(runner.signature, given, contract, count):
        made.append({name: array[:real] for name, array in runner.run(feed).items()})
    return stacked(made)


def top_k(outputs: Mapping[str, Array], card: Card | None, top: int) -> tuple[Label, ...]:
    """The ``top`` likeliest labels with their probabilities (softmax of the first output); empty without a card
    that says the task is classification."""
    if card is None or card.task.kind != "classification" or not outputs:
        return ()
    logits = np.asarray(next(iter(outputs.values())), np.float64).reshape(-1)
    if not logits.size:
        return ()
    shifted = np.exp(logits - logits.max())
    probabilities = shifted / shifted.sum()
    labels = card.task.labels if len(card.task.labels) == logits.size else tuple(map(str, range(logits.size)))
    order = np.argsort(-probabilities, kind="stable")[:top]
    return tuple(Label(labels[index], float(probabilities[index])) for index in order)


def forecast_values(outputs: Mapping[str, Array], card: Card | None) -> Forecast | None:
    """Name of the target and its next values, in the units of the data; None unless the card says that the task is
    forecasting."""
    if card is None or card.task.kind != "forecasting" or not outputs:
        return None
    params = card.task.params
    mean, std = float(params.get("mean", 0.0)), float(params.get("std", 1.0))
    values = np.asarray(next(iter(outputs.values())), np.float64).reshape(-1) * std + mean
    return Forecast(str(params.get("target", "value")), tuple(float(value) for value in values))


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


def _target(out: str | Path | None, model: Path, task: Task) -> tuple[Path | None, str]:
    """Where to write, None for nothing; and what: .npz for arrays, .png for the images of a generator and for the
    picture with what a detector or a segmenter found.

    Raises:
        UsageError: another suffix, or a place that cannot be written.
    """
    generates = task.kind == "generation"
    if out is None and not generates:
        return None, ""
    target = Path(f"{model.name}.png") if out is None else Path(out)
    suffix = output_suffix(target, ".png" if generates else ".npz")
    pictures = ", images as .png" if generates else ""
    if task.kind in _DRAWN:
        pictures = f", {_DRAWN[task.kind]} drawn into a .png"
    if suffix == ".png" and not pictures:
        raise UsageError(f"-o {target}: the model gives no images ({task.kind}); outputs are written as one .npz file")
    if suffix not in (".npz", ".png"):
        wanted = f"outputs are written as one .npz file{pictures}"
        raise UsageError(f"-o {target} does not end in .npz; {wanted}")
    check_output(target)
    return target, suffix
