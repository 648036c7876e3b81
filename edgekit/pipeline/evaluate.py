"""``edgekit eval``: the task's metric of a model file on data, wherever the model runs."""

from __future__ import annotations

from edgekit.artifact import open_artifact, sha256_model
from edgekit.data.dataset import open_data
from edgekit.options.base import with_options
from edgekit.options.measure import EvalOptions
from edgekit.quality.evaluate import evaluate as measure
from edgekit.results.eval import EvalResult
from edgekit.runtime.stream import sequences


@with_options(EvalOptions)
def evaluate(options: EvalOptions) -> EvalResult:
    """The metric of the model file ``model`` on ``data`` (its test split where none is named), run on ``on``.

    Raises:
        ModelError, DataError, UnsupportedError: the file or the data cannot be used, or do not fit each other.
        DeviceError: the runtime failed; the worker died, hung or ran out of memory.
        UsageError: no such data set, runtime or device, or a limit below 1.
    """
    from edgekit.devices import open_runner

    artifact = open_artifact(options.model)
    dataset = open_data(options.data, default_split="test")
    with open_runner(artifact.path, device=options.on, runtime=options.runtime, threads=options.threads) as runner:
        found = measure(sequences(runner), dataset, artifact.card, limit=options.limit)
        name = runner.name
    recorded = artifact.card.quality if artifact.card is not None else ()
    digest = sha256_model(artifact.path)
    return EvalResult(
        model=artifact.path, sha256=digest, runtime=name, device=options.on, evaluation=found, recorded=recorded
    )
