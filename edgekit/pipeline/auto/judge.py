"""Quality of a candidate where it will run: its runtime, on the device, on the samples that the choice is made on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from edgekit.data.dataset import Dataset
from edgekit.devices import open_runner
from edgekit.pipeline.auto.trial import Trial
from edgekit.pipeline.auto.trial_store import TrialStore, Value
from edgekit.quality.evaluate import evaluate
from edgekit.results.eval import Evaluation, Outcomes
from edgekit.runtime.stream import sequences


def quality_of(trial: Trial, samples: Dataset, store: TrialStore, limit: int | None = None) -> Evaluation:
    """The figure of merit of the trial's file in its runtime on its device, measured once for all thread counts.

    Raises:
        EdgekitError: it cannot be run, or gives NaN.
    """
    made, way = trial.made, trial.way
    assert made is not None and way is not None

    def work() -> Value:
        with open_runner(made.artifact.path, device=way.device, runtime=way.runtime, threads=way.threads) as runner:
            found = evaluate(sequences(runner), samples, made.artifact.card, limit=limit)
        return {**asdict(replace(found, outcomes=None)), "outcomes": _kept(found.outcomes)}

    key = f"quality {made.sha256} {way.runtime} {way.device.name} {samples.label} {len(samples)} {limit}"
    row = dict(store.once(key, work))
    kept = row.pop("outcomes", None)
    return Evaluation(**row, outcomes=None if kept is None else _read(kept))


def _kept(outcomes: Outcomes | None) -> dict[str, Any] | None:
    """What each sample gave, as JSON; features of generated images, which are megabytes, are not kept."""
    if outcomes is None or outcomes.kind == "features":
        return None
    positive = None if outcomes.positive is None else outcomes.positive.tolist()
    return {"kind": outcomes.kind, "values": outcomes.values.tolist(), "block": outcomes.block, "positive": positive}


def _read(row: Mapping[str, Any]) -> Outcomes:
    positive = None if row["positive"] is None else np.array(row["positive"], bool)
    return Outcomes(row["kind"], np.array(row["values"]), row["block"], positive)
