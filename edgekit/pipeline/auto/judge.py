"""Quality of a candidate where it will run: its runtime, on the device, on the samples that the choice is made on."""

from __future__ import annotations

from dataclasses import asdict

from edgekit.data.dataset import Dataset
from edgekit.devices import open_runner
from edgekit.pipeline.auto.notebook import Notebook, Value
from edgekit.pipeline.auto.trial import Trial
from edgekit.quality.evaluate import Evaluation, evaluate
from edgekit.runtime.stream import sequences


def quality_of(trial: Trial, samples: Dataset, notebook: Notebook, limit: int | None = None) -> Evaluation:
    """The figure of merit of the trial's file in its runtime on its device, measured once for all thread counts.

    Raises:
        EdgekitError: it cannot be run, or gives NaN.
    """
    made, way = trial.made, trial.way
    assert made is not None and way is not None

    def work() -> Value:
        with open_runner(made.artifact.path, device=way.device, runtime=way.runtime, threads=way.threads) as runner:
            found = evaluate(sequences(runner), samples, made.artifact.card, limit=limit)
        return asdict(found)

    key = f"quality {made.sha256} {way.runtime} {way.device.name} {samples.label} {len(samples)} {limit}"
    return Evaluation(**notebook.once(key, work))
