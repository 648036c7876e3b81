"""``edgekit eval``: the task's metric of a model file on data, wherever the model runs."""

from __future__ import annotations

import logging

from edgekit.artifact import open_artifact, sha256_model
from edgekit.data.dataset import Dataset, open_data
from edgekit.options.base import with_options
from edgekit.options.measure import EvalOptions
from edgekit.quality.contents import with_iospec
from edgekit.quality.evaluate import evaluate as measure
from edgekit.quality.metrics import metric_of
from edgekit.results.eval import EvalResult
from edgekit.runtime.stream import sequences
from edgekit.types import Card

log = logging.getLogger("edgekit")


@with_options(EvalOptions)
def evaluate(options: EvalOptions) -> EvalResult:
    """The metric of the model file ``model`` on ``data`` (its test split where none is named), run on ``on``.

    Raises:
        ModelError, DataError, UnsupportedError: the file or the data cannot be used, or do not fit each other.
        DeviceError: the runtime failed; the worker died, hung or ran out of memory.
        UsageError: no such data set, runtime or device, or a limit below 1.
    """
    from edgekit.devices import open_runner

    artifact = with_iospec(open_artifact(options.model), options.io_file)
    metric = None if options.metric is None else metric_of(options.metric)
    dataset = _held_out(open_data(options.data, default_split="test"), options.data, artifact.card)
    with open_runner(artifact.path, device=options.on, runtime=options.runtime, threads=options.threads) as runner:
        log.info("measuring %s on %s samples of %s", artifact.path.name, f"{_count(dataset, options):,}", dataset.label)
        found = measure(sequences(runner), dataset, artifact.card, limit=options.limit, metric=metric)
        name = runner.name
    recorded = artifact.card.quality if artifact.card is not None else ()
    digest = sha256_model(artifact.path)
    return EvalResult(
        model=artifact.path,
        sha256=digest,
        split=dataset.split,
        runtime=name,
        device=options.on,
        evaluation=found,
        recorded=recorded,
        minimum=options.min,
    )


def _count(dataset: Dataset, options: EvalOptions) -> int:
    return len(dataset) if options.limit is None else min(len(dataset), options.limit)


def _held_out(dataset: Dataset, spelled: str, card: Card | None) -> Dataset:
    """The test part of a set without a split of its own that the model was trained on, where none was named."""
    if dataset.own_split or dataset.split != "all" or spelled.endswith("@all") or card is None:
        return dataset
    trained = {str(step.params.get("data", "")) for step in card.steps if step.name in ("train", "finetune")}
    if f"{dataset.name}@train" not in trained:
        return dataset
    log.info("%s was trained on the training part of %s: measuring on its test part", card.name, dataset.name)
    return open_data(f"{dataset.name}@test")
