"""The figure of merit of a forecast: mean squared error on the standardised target, beside two that need no model."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from edgekit.data.dataset import Dataset
from edgekit.errors import DataError, UnsupportedError
from edgekit.quality.evaluate import Runs, checked, model_batches
from edgekit.results.eval import Evaluation, Outcomes
from edgekit.taskfields import forecast_params
from edgekit.types import Array, Card, InputSpec, Signature, Task


def as_forecaster(card: Card, data: Dataset) -> Card:
    """``card`` with what the series ``data`` knows and a network of the user's own does not say: its task, the column
    that is forecast, the names of its columns and the units of its forecasts.

    Forecasts are in units of the target's mean and deviation where the contract has them, else in those of the data. A
    card that names its target, and one of another task, stays as it is.

    Raises:
        DataError: the network reads another number of columns than the data have.
    """
    if data.kind != "series" or card.task.kind not in ("none", "forecasting") or "target" in card.task.params:
        return card
    (spec, *others), target = card.signature.inputs, str(data.params["target"])
    if others or len(spec.shape) != 3:
        return card
    rule = card.contract.get(spec.name, InputSpec("array"))
    if rule.kind == "array":
        history = {"history": spec.shape[1]} if isinstance(spec.shape[1], int) else {}
        rule = InputSpec("series", params=history)
    rule = rule if rule.columns else replace(rule, columns=tuple(data.params.get("inputs", data.columns)))
    width = spec.shape[-1]
    if (isinstance(width, int) and width != len(rule.columns)) or target not in rule.columns:
        raise DataError(
            f"{card.name} takes {spec}, {data.label} has the columns {', '.join(rule.columns)} and forecasts {target!r}"
            "; name the columns that the network reads, in order, as columns in an io.toml"
        )
    horizon = math.prod(card.signature.outputs[0].resolved()[1:])
    task = Task("forecasting", (), "mse", forecast_params({**card.task.params, "target": target}, horizon, rule))
    return replace(card, task=task, contract={**card.contract, spec.name: rule})


def forecast_error(runner: Runs, dataset: Dataset, card: Card | None, limit: int | None) -> Evaluation:
    """Mean squared error of every forecast value, in units of the target's variance in the rows that were trained on.

    The usual protocol for ETT (Zhou et al. 2021): mean and deviation are the card's, never those of the test rows. The
    details give the mean absolute error, and the same error of repeating the last season (the last day of hourly data)
    and the last value; a forecast is worth something below both.

    Raises:
        DataError: the data set has nothing to forecast, or another target or horizon than the model.
        ModelError: the model gives NaN.
        UnsupportedError: the model has no output as wide as its horizon.
    """
    if card is None:
        raise DataError("nothing says what the model forecasts; give --io-file io.toml (docs/own-work.md)")
    if dataset.targets is None:
        raise DataError(f"{dataset.label} has no values to forecast; give etth1 or series:FILE.csv")
    card = as_forecaster(card, dataset)
    task = card.task
    _require_same(dataset, task)
    output = _output(runner.signature, int(dataset.params["horizon"]))
    total = len(dataset) if limit is None else min(limit, len(dataset))
    wanted = standardised(dataset.targets[:total], task)
    squared, absolute = np.empty(total), 0.0
    done = 0
    for feed, count in model_batches(runner.signature, dataset, card.contract, total):
        answers = checked(runner.run(feed), output, count, done, dataset).reshape(count, -1).astype(np.float64)
        wrong = answers - wanted[done : done + count]
        squared[done : done + count] = (wrong**2).mean(axis=1)
        absolute += float(np.abs(wrong).sum())
        done += count
    details: dict[str, Any] = {"mae": absolute / wanted.size, **baselines(dataset, task, total)}
    # windows that start within one horizon of each other forecast the same rows
    outcomes = Outcomes("errors", squared, block=wanted.shape[1])
    value = float(squared.mean())
    return Evaluation("mse", value, total, dataset.label, details=details, lower_is_better=True, outcomes=outcomes)


def standardised(values: Array, task: Task) -> Array:
    """Raw values of the target in units of the task: (value - mean) / std, float64."""
    mean, std = float(task.params.get("mean", 0.0)), float(task.params.get("std", 1.0))
    return np.asarray((values.astype(np.float64) - mean) / std)


def baselines(dataset: Dataset, task: Task, total: int) -> dict[str, float]:
    """Mean squared error of repeating the last season and the last value of the target; by name.

    The season is left out where the history is shorter.
    """
    assert dataset.targets is not None
    column = dataset.columns.index(str(dataset.params["target"]))
    season, horizon = int(dataset.params.get("season", 0)), dataset.targets.shape[1]
    histories = dataset.arrays["series"]
    past = standardised(np.stack([np.asarray(histories[k])[:, column] for k in range(total)]), task)
    wanted = standardised(dataset.targets[:total], task)
    found = {}
    if 0 < season <= past.shape[1]:
        repeated = np.tile(past[:, -season:], (1, -(-horizon // season)))[:, :horizon]
        found[f"mse_repeating_last_{season}"] = float(((repeated - wanted) ** 2).mean())
    found["mse_repeating_last_value"] = float(((past[:, -1:] - wanted) ** 2).mean())
    return found


def _require_same(dataset: Dataset, task: Task) -> None:
    for name in ("target", "horizon"):
        has, needs = dataset.params.get(name), task.params.get(name)
        if needs is not None and has != needs:
            raise DataError(
                f"{dataset.label} forecasts with {name} {has}, the model was trained with {name} {needs}; for a file "
                f"say series:FILE.csv,{name}={needs}"
            )


def _output(signature: Signature, horizon: int) -> str:
    """The output that holds the forecast: the first whose values are as many as the horizon."""
    for spec in signature.outputs:
        sizes = [size for size in spec.shape[1:] if size != 1]
        if sizes == [horizon] or (horizon == 1 and not sizes):
            return spec.name
    listed = ", ".join(map(str, signature.outputs))
    raise UnsupportedError(f"a forecast of {horizon} steps needs an output of that width, the model has: {listed}")
