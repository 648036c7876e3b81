"""The ``table`` kind: rows of numbers, normalised column by column, and ``table:FILE.csv``."""

from __future__ import annotations

import logging
import math
import re
import sys
from array import array
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from edgekit.data.dataset import Dataset, choose_split, class_indices, interleaved
from edgekit.data.kind import DataKind, affine
from edgekit.data.textfile import rows
from edgekit.errors import DataError
from edgekit.types import Array, InputSpec

log = logging.getLogger("edgekit")
LABEL_NAMES = ("label", "class")
_LARGEST = float(np.finfo(np.float32).max)
_TARGET = re.compile(r",target=([^,]*)$")
MISSING = ("", "?", "na", "n/a", "nan", "null", "none")


def encode(raw: Sequence[Array] | Array, contract: InputSpec) -> Array:
    """Rows of raw values -> float32 (N, columns).

    Raises:
        DataError: other samples than rows of the spec's width, or a value that is not a finite number.
    """
    stacked = np.stack([np.asarray(row) for row in raw])
    if stacked.ndim != 2:
        raise DataError(f"a table has rows of numbers, got samples of shape {stacked.shape[1:]}")
    factor, offset = affine(contract, stacked.shape[-1])
    values = stacked.astype(np.float32)
    bad = ~np.isfinite(values)
    if bad.any():
        column = int(np.flatnonzero(bad.any(0))[0])
        name = repr(contract.columns[column]) if len(contract.columns) == values.shape[1] else str(column + 1)
        raise DataError(f"the column {name} holds a value that is not a finite number; give a number there")
    return values * factor + offset


def arrange(raw: Sequence[Array] | Array, columns: tuple[str, ...], contract: InputSpec) -> Sequence[Array] | Array:
    """Rows with the columns the spec names, in its order, matched by name.

    Rows as wide as the spec but with none of its names are taken as they are, and that is said.

    Raises:
        DataError: neither the names nor the number of columns fit.
    """
    wanted = contract.columns
    if not wanted or not columns or columns == wanted:
        return raw
    lacking = [name for name in wanted if name not in columns]
    if len(lacking) == len(wanted) == len(columns):
        log.info("the column names are not the model's; columns are matched by position")
        return raw
    if lacking:
        raise DataError(
            f"the table has no column {lacking[0]!r}, which the model takes ({len(lacking)} of its {len(wanted)} "
            f"columns are not there); the table has: {', '.join(columns[:10])}{' …' if len(columns) > 10 else ''}"
        )
    if len(columns) > len(wanted):
        log.info("%d of the %d columns are not the model's and are left out", len(columns) - len(wanted), len(columns))
    places = [columns.index(name) for name in wanted]
    return np.stack([np.asarray(row) for row in raw])[:, places]


def read(given: str) -> Array:
    """The first row of a CSV file, with or without a header, as float32; under a header, what is not a number is NaN.

    Raises:
        DataError: the file cannot be read, or has no row of numbers in its first two lines.
    """
    first, *more = _first(Path(given), 2)
    if columns(given):
        if not more or len(more[0]) != len(first):
            raise DataError(f"{given} has a header of {len(first)} columns and no row of as many below it")
        values = np.array([number(cell) for cell in more[0]], np.float32)
        if not np.isfinite(values).any():
            raise DataError(f"{given} holds no row of numbers in its first two lines")
        return values
    return np.array([number(cell) for cell in first], np.float32)


def columns(given: str) -> tuple[str, ...]:
    """The header of a CSV file; empty where its first line is numbers."""
    (first,) = _first(Path(given), 1)
    numbers = sum(np.isfinite(number(cell)) for cell in first)
    return () if numbers == len(first) else tuple(cell.strip() for cell in first)


def _first(path: Path, count: int) -> list[list[str]]:
    """Up to ``count`` rows, at least one."""
    found = [row for _, row in islice(rows(path), count)]
    if not found:
        raise DataError(f"{path} is empty; a CSV file with a row of numbers was expected")
    return found


def open_table(name: str, argument: str, split: str, default_split: str) -> Dataset:
    """Reader of ``table:FILE.csv``: a header of names, numbers below it, and one column of labels.

    The label is the column called ``label`` or ``class``, else the last one; it may be words or numbers. With
    ``table:FILE.csv,target=price`` the numbers of that column are to be predicted (``targets``), with
    ``target=width|height`` those of several; several that hold 0 and 1 alone are labels of which a row may have some
    (``answers``).

    Raises:
        DataError: no such file, no header, no such column, a missing cell, a cell that is not a number; and, where the
            table is to be trained on, a column with the same value in every row.
    """
    argument, *option = _TARGET.split(argument)[:2]
    path = Path(argument)
    if not argument or not path.exists():
        raise DataError(f"{argument or 'table:'} does not exist; table:FILE.csv takes the path of a CSV file")
    (head,) = _first(path, 1)
    names = _header(path, head)
    whole = _to_predict(name, path, names, option[0].split("|")) if option else _to_classify(name, path, names)
    chosen = choose_split(whole, split, default_split)
    if default_split == "train":
        _refuse_constant(path, chosen)
    return chosen


def _to_classify(name: str, path: Path, names: tuple[str, ...]) -> Dataset:
    label = next((k for k, cell in enumerate(names) if cell.lower() in LABEL_NAMES), len(names) - 1)
    values, words = _values(path, names, label)
    if not words:
        raise DataError(f"{path} has a header and no row below it")
    classes, indices = class_indices(
        path, words, f"; values to predict are named as table:{path},target={names[label]}"
    )
    features = tuple(cell for k, cell in enumerate(names) if k != label)
    order = interleaved(indices)
    return Dataset(name, "all", "table", {"table": values[order]}, indices[order], classes, features)


def _to_predict(name: str, path: Path, names: tuple[str, ...], targets: list[str]) -> Dataset:
    """The rows with the columns ``targets`` as what is right for them."""
    unknown = [target for target in targets if target not in names]
    if unknown:
        raise DataError(f"{path} has no column {unknown[0]!r} to predict; it has: {', '.join(names[:20])}")
    if len(set(targets)) == len(names):
        raise DataError(f"{path}: every column is to be predicted, so none is left to predict them from")
    values, words = _values(path, names, None)
    if not words:
        raise DataError(f"{path} has a header and no row below it")
    wanted = values[:, [names.index(target) for target in targets]]
    kept = [k for k, cell in enumerate(names) if cell not in targets]
    features, columns = values[:, kept], tuple(names[k] for k in kept)
    if len(targets) > 1 and np.isin(wanted, (0, 1)).all():
        answers = list(wanted.astype(np.uint8))
        return Dataset(name, "all", "table", {"table": features}, None, tuple(targets), columns, answers=answers)
    return Dataset(name, "all", "table", {"table": features}, None, (), columns, targets=wanted)


def _header(path: Path, head: list[str]) -> tuple[str, ...]:
    names = tuple(cell.strip() for cell in head)
    numbers = [cell for cell in names if np.isfinite(number(cell))]
    if numbers:
        raise DataError(
            f"{path} has no header: its first line holds the number {numbers[0]}; put a line of column names first, "
            "the label's called 'label' or last"
        )
    if len(names) < 2:
        raise DataError(f"{path} has one column, {names[0]!r}; numbers and a label, separated by commas, were expected")
    twice = [cell for k, cell in enumerate(names) if cell in names[:k] or not cell]
    if twice:
        raise DataError(f"{path} has a column {twice[0]!r} without a name of its own; every column needs one")
    return names


def _values(path: Path, names: tuple[str, ...], label: int | None) -> tuple[Array, list[str]]:
    """The numbers of every column but the label's, float32 (N, columns), and the labels (without one, empty texts)."""
    numbers, labels = array("f"), list[str]()
    for line, row in islice(rows(path), 1, None):
        if len(row) != len(names):
            raise DataError(f"{path}, line {line}: {len(row)} cells, the header has {len(names)}")
        for k, cell in enumerate(row):
            value = 0.0 if k == label else number(cell)
            if (k == label or math.isnan(value)) and cell.strip().lower() in MISSING:
                raise DataError(
                    f"{path}, line {line}: the cell of column {names[k]!r} is missing; fill it in, or leave the line "
                    "or the column out"
                )
            if math.isnan(value):
                raise DataError(
                    f"{path}, line {line}: column {names[k]!r} holds {cell.strip()[:60]!r}, which is not a finite "
                    "number; turn words into numbers (one column a word), or leave the column out"
                )
            if k != label:
                numbers.append(value)
        labels.append("" if label is None else sys.intern(row[label]))
    return np.frombuffer(numbers, np.float32).reshape(len(labels), -1 if labels else 0), labels


def _refuse_constant(path: Path, data: Dataset) -> None:
    values = np.asarray(data.arrays["table"])
    constant = np.flatnonzero((values == values[0]).all(0))
    if constant.size:
        raise DataError(
            f"{path}: column {data.columns[constant[0]]!r} is {values[0, constant[0]]:g} in every row, so nothing can "
            "be learned from it; leave it out"
        )


def number(cell: str) -> float:
    """The number in a cell, if a float32 can hold it; NaN for anything else."""
    try:
        value = float(cell)
    except ValueError:
        return math.nan
    return value if abs(value) <= _LARGEST and "_" not in cell else math.nan


KIND = DataKind(encode, read, (".csv",), columns, arrange)
