"""``edgekit eval``: the task's metric of a model file on data, wherever the model runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.artifact import open_artifact, sha256_model
from edgekit.data.dataset import open_data
from edgekit.options.base import with_options
from edgekit.options.measure import EvalOptions
from edgekit.quality.evaluate import Evaluation
from edgekit.quality.evaluate import evaluate as measure
from edgekit.runtime.stream import sequences
from edgekit.types import Quality


@dataclass(frozen=True)
class EvalResult:
    """What ``edgekit eval`` found."""

    model: Path
    sha256: str
    evaluation: Evaluation
    runtime: str
    device: str
    recorded: tuple[Quality, ...] = ()
    """What the file's card says was measured before, for comparison."""

    def document(self) -> dict[str, Any]:
        """The ``eval`` document, without the envelope."""
        found = self.evaluation
        return {
            "model": str(self.model),
            "sha256": self.sha256,
            "data": found.data,
            "metric": found.metric,
            "value": found.value,
            "correct": found.correct,
            "total": found.total,
            "per_class": dict(found.per_class),
            "details": dict(found.details),
            "runtime": self.runtime,
            "device": self.device,
        }


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
    return EvalResult(artifact.path, sha256_model(artifact.path), found, name, options.on, recorded)
