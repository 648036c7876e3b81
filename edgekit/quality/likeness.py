"""How like the float file's outputs another file's are, on samples of which nobody says what is right."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from edgekit.data.dataset import Dataset
from edgekit.devices import open_runner
from edgekit.errors import ModelError
from edgekit.quality.evaluate import Metric, Runs
from edgekit.quality.metrics import gathered
from edgekit.results.eval import Evaluation
from edgekit.runtime.stream import sequences
from edgekit.types import Array, Card

LIKENESS = "likeness"
"""1 less the relative error of the output that differs most: 0.9 is 20 dB of signal to noise."""


def allowed_loss(decibels: float) -> float:
    """The loss of likeness that leaves ``decibels`` of signal to noise."""
    return float(10 ** (-decibels / 20))


def likeness_to(float_file: Path) -> Metric:
    """The metric that compares with ``float_file``, run in the default runtime of its format on this machine."""

    def measure(runner: Runs, dataset: Dataset, card: Card | None, limit: int | None) -> Evaluation:
        total = len(dataset) if limit is None else min(limit, len(dataset))
        with (
            open_runner(float_file) as parent,
            gathered(sequences(parent), dataset, card, total) as wanted,
            gathered(runner, dataset, card, total) as found,
        ):
            if list(found) != list(wanted):
                raise ModelError(f"its outputs are {', '.join(found)}, those of {float_file} {', '.join(wanted)}")
            errors = {name: relative_error(wanted[name], found[name]) for name in wanted}
        details = {name: None if error == 0 else round(-20 * math.log10(error), 2) for name, error in errors.items()}
        worst = max(errors.values())
        return Evaluation(LIKENESS, 1 - worst, total, dataset.label, details={"snr_db": details})

    return measure


def relative_error(wanted: Array, found: Array) -> float:
    """Root of the power of the differences over that of ``wanted``; of integers and truth values the share that
    differs. Infinite where ``wanted`` is zero throughout and ``found`` is not, or where shapes differ."""
    if wanted.shape != found.shape:
        return math.inf
    if wanted.dtype.kind != "f":
        return float(np.mean(wanted != found)) if wanted.size else 0.0
    noise = float(np.square(found.astype(np.float64) - wanted).sum())
    signal = float(np.square(wanted.astype(np.float64)).sum())
    if noise == 0:
        return 0.0
    return math.sqrt(noise / signal) if signal > 0 and math.isfinite(noise) else math.inf
