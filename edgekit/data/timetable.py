"""A CSV file of measurements in the order of time: a header, a column of times where there is one, and numbers."""

from __future__ import annotations

import csv
import gzip
import logging
import math
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np

from edgekit.data.table import MISSING, number
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
    lines = _lines(path)
    head = [cell.strip() for cell in lines[0][1]]
    named = any(math.isnan(number(cell)) for cell in head)
    body = lines[1:] if named and not _is_time(head[0]) else lines
    if not body:
        raise DataError(f"{path} has a header and no row below it")
    width = len(head)
    for line, row in body:
        if len(row) != width:
            raise DataError(f"{path}, line {line}: {len(row)} cells, the first line has {width}")
    timed = math.isnan(number(body[0][1][0])) and body[0][1][0].strip().lower() not in MISSING
    first = 1 if timed else 0
    if width == first:
        raise DataError(f"{path} has no column of numbers")
    names = tuple(head[first:]) if body is not lines else ()
    if len(set(names)) != len(names) or "" in names:
        raise DataError(f"{path} has columns without a name of their own: {', '.join(names)}; every column needs one")
    rows = _values(path, names, body, first)
    step = _step(path, body) if timed else None
    return Timetable(path, names, rows, step)


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """Rows that are not blank, with the number of the line each ends on."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
            text = file.read().decode("utf-8-sig")
        first = text[: text.find("\n")] if "\n" in text else text
        delimiter = max(",;\t", key=first.count)
        reader = csv.reader(text.splitlines(), delimiter=delimiter)
        rows = [(reader.line_num, row) for row in reader if row]
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; give the path of a CSV file") from error
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as CSV: {error}") from error
    if not rows:
        raise DataError(f"{path} is empty; a CSV file with a row of numbers for each time was expected")
    return rows


def _values(path: Path, names: tuple[str, ...], body: list[tuple[int, list[str]]], first: int) -> Array:
    rows = np.array([[number(cell) for cell in row[first:]] for _, row in body], np.float32)
    bad = [(body[i][0], k, body[i][1][first + k].strip()) for i, k in np.argwhere(~np.isfinite(rows)).tolist()]
    if not bad:
        return rows
    missing = [place for place in bad if place[2].lower() in MISSING]
    line, k, cell = (missing or bad)[0]
    column = repr(names[k]) if names else str(k + first + 1)
    if missing:
        raise DataError(
            f"{path}: {len(missing):,} cells are missing, the first in line {line}, column {column}; fill them in "
            "(the value before, or between its neighbours), or leave the rows or the column out"
        )
    raise DataError(
        f"{path}, line {line}: column {column} holds {cell!r}, which is no finite number; leave the column out or "
        "turn it into numbers"
    )


def _step(path: Path, body: list[tuple[int, list[str]]]) -> timedelta | None:
    """The commonest time between rows; None where the times are of no form that is known."""
    times = []
    for _, row in body:
        try:
            times.append(datetime.fromisoformat(row[0].strip()))
        except ValueError:
            log.info("%s: the column of times holds %r, which is not ISO 8601; its order is not checked", path, row[0])
            return None
    if len(times) < 2 or len({time.tzinfo is None for time in times}) > 1:
        return None
    steps = [later - earlier for earlier, later in pairwise(times)]
    back = next((k for k, step in enumerate(steps) if step < timedelta(0)), None)
    if back is not None:
        raise DataError(
            f"{path}, line {body[back + 1][0]}: {body[back + 1][1][0]} comes after {body[back][1][0]}; sort the rows, "
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
