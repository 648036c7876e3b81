"""A CSV file of measurements in the order of time: a header, a column of times where there is one, and numbers."""

from __future__ import annotations

import logging
import math
from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain, pairwise
from pathlib import Path

import numpy as np

from edgekit.data.table import MISSING, number
from edgekit.data.textfile import rows
from edgekit.errors import DataError
from edgekit.types import Array

log = logging.getLogger("edgekit")
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Timetable:
    """Rows of numbers, oldest first.

    Attributes:
        path: the file.
        columns: names; empty where the file has no header.
        rows: float32 (time, columns).
        step: time from one row to the next, None where the file does not say.
    """

    path: Path
    columns: tuple[str, ...]
    rows: Array
    step: timedelta | None = None

    @property
    def rows_a_day(self) -> int | None:
        """How many rows make a day, where that is a whole number above 1."""
        if self.step is None or DAY % self.step or self.step >= DAY:
            return None
        return DAY // self.step


def read_timetable(path: Path) -> Timetable:
    """The file ``path`` (.csv, or .csv.gz); cells are separated by commas, semicolons or tabs.

    A first column that holds no numbers is taken for the time and left out of the numbers.

    Raises:
        DataError: it cannot be read, a cell is missing or no number, the rows go backwards in time.
    """
    given = rows(path, ",;\t")
    first = next(given, None)
    if first is None:
        raise DataError(f"{path} is empty; a CSV file with a row of numbers for each time was expected")
    head = [cell.strip() for cell in first[1]]
    named = any(math.isnan(number(cell)) for cell in head) and not _is_time(head[0])
    body = next(given, None) if named else first
    if body is None:
        raise DataError(f"{path} has a header and no row below it")
    cell = body[1][0].strip()
    timed = int(math.isnan(number(cell)) and cell.lower() not in MISSING)
    if len(head) == timed:
        raise DataError(f"{path} has no column of numbers")
    names = tuple(head[timed:]) if named else ()
    if len(set(names)) != len(names) or "" in names:
        raise DataError(f"{path} has columns without a name of their own: {', '.join(names)}; every column needs one")
    values, times = _values(path, names, chain([body], given), len(head), timed)
    return Timetable(path, names, values, _step(path, times) if timed else None)


def _values(
    path: Path, names: tuple[str, ...], body: Iterable[tuple[int, list[str]]], width: int, timed: int
) -> tuple[Array, list[tuple[int, str]]]:
    """The numbers, float32 (time, columns); and the line and first cell of each row, where that is the time."""
    numbers, times, missing = array("f"), list[tuple[int, str]](), 0
    bad: tuple[int, int, str] | None = None  # line, column, what it holds; a missing cell before any other
    for line, row in body:
        if len(row) != width:
            raise DataError(f"{path}, line {line}: {len(row)} cells, the first line has {width}")
        if timed:
            times.append((line, row[0]))
        for k in range(timed, width):
            value = number(row[k])
            numbers.append(value)
            if math.isnan(value):
                cell = row[k].strip()
                lacking = cell.lower() in MISSING
                if bad is None or (lacking and not missing):
                    bad = line, k, cell
                missing += lacking
    if bad is not None:
        line, k, cell = bad
        column = repr(names[k - timed]) if names else str(k + 1)
        if missing:
            raise DataError(
                f"{path}: {'1 cell is' if missing == 1 else f'{missing:,} cells are'} missing, the first in line "
                f"{line}, column {column}; fill them in "
                "(the value before, or between its neighbours), or leave the rows or the column out"
            )
        raise DataError(
            f"{path}, line {line}: column {column} holds {cell[:60]!r}, which is not a finite number; leave the column "
            "out or turn it into numbers"
        )
    return np.frombuffer(numbers, np.float32).reshape(-1, width - timed), times


def _step(path: Path, given: list[tuple[int, str]]) -> timedelta | None:
    """The commonest time between rows; None where the times are of no form that is known.

    Args:
        path: of the file, for messages.
        given: the line and the time of each row.
    """
    times = []
    for _, cell in given:
        try:
            times.append(datetime.fromisoformat(cell.strip()))
        except ValueError:
            log.info("%s: the column of times holds %r, which is not ISO 8601; its order is not checked", path, cell)
            return None
    if len(times) < 2 or len({time.tzinfo is None for time in times}) > 1:
        return None
    steps = [later - earlier for earlier, later in pairwise(times)]
    back = next((k for k, step in enumerate(steps) if step < timedelta(0)), None)
    if back is not None:
        raise DataError(
            f"{path}, line {given[back + 1][0]}: {given[back + 1][1]} comes after {given[back][1]}; sort the rows, "
            "oldest first"
        )
    ((usual, count),) = Counter(steps).most_common(1)
    odd = len(steps) - count
    if odd:
        log.info("%s: %d of %d steps are not %s; rows are taken as equally spaced", path, odd, len(steps), usual)
    return usual if usual > timedelta(0) else None


def _is_time(cell: str) -> bool:
    try:
        datetime.fromisoformat(cell)
    except ValueError:
        return False
    return True
