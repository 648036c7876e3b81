"""The ``table`` kind: rows of numbers, normalised column by column."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgekit.data.kind import Kind, affine
from edgekit.errors import DataError
from edgekit.types import Array, InputContract


def encode(raw: Sequence[Array] | Array, contract: InputContract) -> Array:
    """Rows of raw values -> float32 (N, columns)."""
    stacked = np.stack([np.asarray(row) for row in raw])
    if stacked.ndim != 2:
        raise DataError(f"a table has rows of numbers, got samples of shape {stacked.shape[1:]}")
    factor, offset = affine(contract, stacked.shape[-1])
    return stacked.astype(np.float32) * factor + offset


def read(given: str) -> Array:
    """The first row of numbers of a CSV file, with or without a header, as float32.

    Raises:
        DataError: the file cannot be read, or has no such row in its first two lines.
    """
    path = Path(given)
    try:
        with open(path, newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV: {error}") from error
    for row in rows[:2]:  # the first row may be a header
        try:
            return np.array([float(cell) for cell in row], np.float32)
        except ValueError:
            continue
    raise DataError(f"{path} holds no row of numbers in its first two lines")


KIND = Kind(encode, read, (".csv",))
