"""The ``series`` kind: a stretch of a table in time, from which the next values of one column are forecast.

A raw sample is float32 (time, columns), its last rows the newest. The contract (``InputSpec.params``) holds
``history``, the rows the input takes; its mean and standard deviation are those of each column in the rows that were
trained on. What a data set forecasts stands in its ``params``: ``target`` (a column), ``history`` and ``horizon``
(rows), ``season`` (rows after which things repeat), ``inputs`` (columns a network for it reads), ``mean`` and ``std``
of its columns, and ``validation`` (how many of its last windows choose the best epoch).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.data.dataset import Dataset
from edgekit.data.kind import DataKind, affine
from edgekit.data.timetable import Timetable, read_timetable
from edgekit.errors import DataError, UsageError
from edgekit.reading import whole_number
from edgekit.types import Array, InputSpec

log = logging.getLogger("edgekit")
HISTORY, HORIZON = 96, 24
TRAIN, VALIDATION = 0.72, 0.8
"""Where the rows of a file are cut: the first 72% train, up to 80% choose the best epoch, the rest is ``@test``."""
MOST_WINDOWS = 50_000
"""Windows that are trained on; of a longer series every second, third … is taken, and that is said."""
_OPTION = re.compile(r",(target|history|horizon|season|inputs)=([^,]*)$")


class Windows(Sequence[Array]):
    """Stretches of ``history`` rows, each beginning at one of ``starts``; nothing is copied."""

    def __init__(self, rows: Array, starts: Array, history: int) -> None:
        self.rows, self.starts, self.history = rows, starts, history

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: Any) -> Any:
        start = int(self.starts[index])
        return self.rows[start : start + self.history]


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is forecast: ``horizon`` rows of ``target`` from ``history`` rows of the columns ``inputs`` (empty for all);
    ``season``: rows after which things repeat."""

    target: str
    history: int = HISTORY
    horizon: int = HORIZON
    season: int = HORIZON
    inputs: tuple[str, ...] = ()


def encode(raw: Sequence[Array] | Array, contract: InputSpec) -> Array:
    """N stretches -> float32 (N, history, columns); of a longer one the last rows are taken.

    Raises:
        DataError: fewer rows than the history, other columns than the spec's, values that are not finite numbers.
    """
    history = int(contract.params.get("history", 0))
    batch = np.stack([_last(np.asarray(sample), history) for sample in raw])
    factor, offset = affine(contract, batch.shape[-1])
    if not np.isfinite(batch).all():
        raise DataError("the series holds a value that is not a finite number; fill it in")
    return batch.astype(np.float32) * factor + offset


def _last(sample: Array, history: int) -> Array:
    if sample.ndim != 2:
        raise DataError(f"a series has rows of numbers, time x columns, got shape {sample.shape}")
    if len(sample) < history:
        raise DataError(
            f"the series has {len(sample)} rows, the model takes {history}; give at least the last {history} rows"
        )
    return sample[len(sample) - history :] if history else sample


def arrange(raw: Sequence[Array] | Array, columns: tuple[str, ...], contract: InputSpec) -> Sequence[Array] | Array:
    """Stretches with the columns the spec names, in its order, matched by name; as they are without names.

    Raises:
        DataError: a column the spec names is not there.
    """
    wanted = contract.columns
    if not wanted or not columns or columns == wanted:
        return raw
    lacking = [name for name in wanted if name not in columns]
    if lacking:
        raise DataError(
            f"the series has no column {lacking[0]!r}, which the model takes ({len(lacking)} of its {len(wanted)} are "
            f"not there); it has: {', '.join(columns[:10])}{' …' if len(columns) > 10 else ''}"
        )
    if len(columns) > len(wanted):
        log.info("%d of the %d columns are not the model's and are left out", len(columns) - len(wanted), len(columns))
    places = [columns.index(name) for name in wanted]
    if isinstance(raw, Windows):
        return Windows(raw.rows[:, places], raw.starts, raw.history)
    return [np.asarray(sample)[:, places] for sample in raw]


def remarks(raw: Sequence[Array] | Array, contract: InputSpec) -> tuple[str, ...]:
    """Says of one longer series that its last rows are taken."""
    history = int(contract.params.get("history", 0))
    if len(raw) == 1 and 0 < history < len(raw[0]):
        return (f"the series has {len(raw[0]):,} rows, the model takes {history}: the last ones are taken",)
    return ()


def read(given: str) -> Array:
    """The numbers of a CSV file, float32 (time, columns)."""
    return read_timetable(Path(given)).rows


def columns(given: str) -> tuple[str, ...]:
    """The header of a CSV file without its column of times; empty where it has none."""
    return read_timetable(Path(given)).columns


def open_series(name: str, argument: str, split: str, default_split: str) -> Dataset:
    """Reader of ``series:FILE.csv``, with options after commas: ``series:FILE.csv,target=price,horizon=12``.

    The target is the last column unless it is named; history and horizon are 96 and 24 rows; the season is a day where
    the file has times, else the horizon. A network for it reads all columns, or with ``inputs=target`` the target's own
    past. The split is by time: the last 20% of the rows are forecast in ``@test``.

    Raises:
        DataError: see :func:`~edgekit.data.timetable.read_timetable` and :func:`windows`; no such column.
        UsageError: an option is not a number of rows, or inputs neither all nor target.
    """
    path, options = _options(argument)
    table = read_timetable(path)
    table = replace(table, columns=table.columns or tuple(str(k + 1) for k in range(table.rows.shape[1])))
    target = options.get("target", table.columns[-1])
    if target not in table.columns:
        raise DataError(f"{path} has no column {target!r} to forecast; it has: {', '.join(table.columns)}")
    history, horizon = _rows(options, "history", HISTORY), _rows(options, "horizon", HORIZON)
    season, inputs = _rows(options, "season", table.rows_a_day or horizon), options.get("inputs", "all")
    if inputs not in ("all", "target"):
        raise UsageError(f"inputs={inputs} is neither all (columns) nor target")
    forecast = Forecast(target, history, horizon, season, (target,) if inputs == "target" else ())
    count = len(table.rows)
    train, validation = int(TRAIN * count), int(VALIDATION * count)
    cuts = {"train": (0, train), "val": (train, validation), "test": (validation, count)}
    wanted = split or ("train" if default_split == "train" else "all")
    return windows(name, wanted, table, cuts, forecast, own_split=False)


def windows(
    name: str,
    split: str,
    table: Timetable,
    cuts: Mapping[str, tuple[int, int]],
    forecast: Forecast,
    own_split: bool = True,
) -> Dataset:
    """The windows of one split; histories reach back into the rows before it, what is forecast does not.

    Args:
        cuts: rows (first, last + 1) whose values are forecast in ``train``, ``val`` and ``test``. The split ``train``
            holds the windows of train and val, in that order, and says how many are of val; ``all`` holds every row.

    Raises:
        DataError: too few rows for one window of the split, or a target that never changes.
    """
    parts = {"train": ("train", "val"), "all": ("train", "val", "test")}.get(split, (split,))
    reach = forecast.history
    starts = {
        part: np.arange(max(cuts[part][0], reach), cuts[part][1] - forecast.horizon + 1) - reach for part in parts
    }
    if split == "all":  # no border inside, so no row is lost at one
        starts = {"all": np.arange(cuts["test"][1] - reach - forecast.horizon + 1)}
    if not len(next(iter(starts.values()))):
        first, last = cuts[parts[0]]
        raise DataError(
            f"{table.path}: {split} has {last - first:,} rows, one window takes {reach} + {forecast.horizon} "
            "(history + horizon); give more rows, or take fewer: series:FILE.csv,history=48,horizon=12"
        )
    if split == "train":
        starts["train"] = _thinned(name, starts["train"])
    every = np.concatenate(list(starts.values()))
    mean, std = _moments(table, table.rows[: cuts["train"][1]], forecast.target)
    values = table.rows[:, table.columns.index(forecast.target)]
    ahead = np.lib.stride_tricks.sliding_window_view(values, forecast.horizon)
    params = {
        "target": forecast.target,
        "history": forecast.history,
        "horizon": forecast.horizon,
        "season": forecast.season,
        "inputs": forecast.inputs or table.columns,
        "mean": mean,
        "std": std,
        "validation": len(starts.get("val", ())) if split == "train" else 0,
    }
    samples = {"series": Windows(table.rows, every, reach)}
    targets = np.asarray(ahead[every + reach], order="C")
    return Dataset(name, split, "series", samples, None, (), table.columns, own_split, targets, params)


def _thinned(name: str, starts: Array) -> Array:
    step = -(-len(starts) // MOST_WINDOWS)
    if step > 1:
        log.info("%s has %d windows to train on; every %d-th is used", name, len(starts), step)
    return starts[::step]


def _moments(table: Timetable, rows: Array, target: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the columns, six significant digits; 1 for a column that never changes."""
    wide = rows.astype(np.float64)
    mean, std = wide.mean(0), wide.std(0)
    constant = [name for name, low, high in zip(table.columns, wide.min(0), wide.max(0), strict=True) if low == high]
    if target in constant:
        raise DataError(
            f"{table.path}: {target!r} is {mean[table.columns.index(target)]:g} in every row that is trained on, so "
            "there is nothing to forecast; name another: series:FILE.csv,target=NAME"
        )
    if constant:
        log.info(
            "%s: %s never changes in the training rows and carries no information", table.path, ", ".join(constant)
        )
    std = np.where([name in constant for name in table.columns], 1.0, std)
    return tuple(float(f"{v:.6g}") for v in mean), tuple(float(f"{v:.6g}") for v in std)


def _options(argument: str) -> tuple[Path, dict[str, str]]:
    """File and options of ``FILE.csv,target=price,horizon=12``."""
    options: dict[str, str] = {}
    while (match := _OPTION.search(argument)) is not None:
        options[match[1]] = match[2]
        argument = argument[: match.start()]
    if not argument or not Path(argument).exists():
        raise DataError(f"{argument or 'series:'} does not exist; series:FILE.csv takes the path of a CSV file")
    return Path(argument), options


def _rows(options: Mapping[str, str], name: str, default: int) -> int:
    text = options.get(name, str(default))
    if not whole_number(text):
        raise UsageError(f"{name}={text[:60]} is not a number of rows; give 1 or more")
    return int(text)


def measure(data: Dataset) -> InputSpec:
    """The spec of a series: the columns that are read, with mean and deviation of the rows that are trained on.

    Raises:
        DataError: the reader of the data set does not say what is forecast.
    """
    lacking = [name for name in ("target", "history", "horizon", "mean", "std") if name not in data.params]
    if lacking or data.targets is None:
        raise DataError(f"{data.label} does not say what is forecast ({', '.join(lacking) or 'no targets'})")
    inputs = tuple(data.params.get("inputs", data.columns))
    mean, std = (tuple(data.params[name][data.columns.index(c)] for c in inputs) for name in ("mean", "std"))
    return InputSpec("series", mean=mean, std=std, columns=inputs, params={"history": int(data.params["history"])})


KIND = DataKind(encode, read, (), columns, arrange, remarks)
