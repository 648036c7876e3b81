"""A table or a sentence in so many columns of a terminal: no line is wider, and no word or number is broken.

A table that does not fit is laid out anew, by the first of these that fits:

1. columns of prose wrap at words;
2. of two columns, values that are too long stand below their names;
3. it is turned: the fields stand below each other, and each row is a column;
4. it is cut into bands of columns, those by which rows are known in front of each;
5. each row is a list of fields.

A path that is longer than a line is cut behind a slash. A single word that is longer stays whole, so that it can be
copied: the terminal cuts it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgekit.escapes import NONE, in_one_line
from edgekit.report.wrap import INDENT, cells_of, wrapped
from edgekit.types import Sheet

if TYPE_CHECKING:
    from rich.text import Text

GAP = 2
"""Blanks between columns."""
PROSE = 24
"""A column wraps only where its longest cell has more letters than this, and keeps so many."""
NARROWEST = 20
"""Columns of the narrowest terminal that is laid out for."""
STYLES = {"faster": "green", "slower": "red", "FAILED": "red", "NO": "red", "failed": "red", "noisy": "yellow"}
"""First word of a cell -> its colour, in a terminal that has any."""


@dataclass(frozen=True, slots=True)
class _Cells:
    """A table of texts in which nothing speaks to the terminal; None is a dash."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: Collection[str] = ()


def _spelled(sheet: Sheet) -> _Cells:
    rows = [[NONE if cell is None else in_one_line(str(cell)) for cell in row] for row in sheet.rows]
    return _Cells(list(map(in_one_line, sheet.columns)), rows, set(map(in_one_line, sheet.right)))


def lay_out(sheet: Sheet, width: int) -> list[Text]:
    """What is printed of a table in ``width`` columns."""
    from rich.text import Text

    cells, width = _spelled(sheet), max(width, NARROWEST)
    lines = wrapped(in_one_line(sheet.title), width) if sheet.title else []
    title = [Text(line, style="italic") for line in lines]
    forms = (_grid, _pairs, _turned, _bands)
    body = next((found for form in forms if (found := form(cells, width)) is not None), None)
    body = _records(cells, width) if body is None else body
    return [Text(""), *title, *body]


def _longest_word(text: str) -> int:
    return max(map(cells_of, text.split()), default=0)


def _grid(table: _Cells, width: int) -> list[Text] | None:
    """A row a line, or several where columns of prose wrap; None where that does not fit."""
    widths = _widths(table, width)
    if widths is None:
        return None
    from rich.text import Text

    right = [name in table.right for name in table.columns]
    head = _row([(name, "bold") for name in table.columns], widths, right)
    rule = Text("─" * (sum(widths) + GAP * (len(widths) - 1)), style="dim")
    rows = (_row([(cell, _style(cell)) for cell in row], widths, right) for row in table.rows)
    return [*head, rule, *(line for row in rows for line in row), Text("")]


def _row(cells: Sequence[tuple[str, str]], widths: Sequence[int], right: Sequence[bool]) -> list[Text]:
    """The lines of a row of (text, style)."""
    from rich.text import Text

    columns = [wrapped(text, width, "") for (text, _), width in zip(cells, widths, strict=True)]
    lines = []
    for k in range(max(map(len, columns))):
        line = Text()
        for column, (_, style), width, aligned in zip(columns, cells, widths, right, strict=True):
            text = column[k] if k < len(column) else ""
            blanks = " " * (width - cells_of(text))
            line.append(blanks if aligned else "")
            line.append(text, style=style)
            line.append("" if aligned else blanks)
            line.append(" " * GAP)
        line.rstrip()
        lines.append(line)
    return lines


def _widths(table: _Cells, width: int) -> list[int] | None:
    """Columns for each column: what it wants, or where that is too much, what is left for those that wrap."""
    wanted, least = [], []
    for k, name in enumerate(table.columns):
        cells = [row[k] for row in table.rows]
        natural = max(map(cells_of, [name, *cells]))
        figures = max(map(cells_of, cells), default=0) if name in table.right else 0
        words = max(map(_longest_word, [name, *cells]))
        wanted.append(natural)
        least.append(max(words, figures, min(natural, PROSE)) if natural > PROSE or figures else natural)
    free = width - GAP * (len(wanted) - 1) - sum(least)
    if free < 0:
        return None
    widths = list(least)
    while free > 0 and widths != wanted:  # the narrowest of those that want more first
        k = min((k for k in range(len(widths)) if widths[k] < wanted[k]), key=widths.__getitem__)
        widths[k] += 1
        free -= 1
    return widths


def _style(cell: str) -> str:
    return STYLES.get(cell.partition(":")[0].partition(" ")[0], "")


def _pairs(table: _Cells, width: int) -> list[Text] | None:
    """Of two columns, a name and its value: a value without room beside its name stands below it."""
    if len(table.columns) != 2:
        return None
    from rich.text import Text

    label = min(max(cells_of(row[0]) for row in (table.columns, *table.rows)), width // 2)
    first, second = table.columns
    head = [Text(line, style="bold") for line in _field(first, second, label, width)] if first or second else []
    lines = [Text(line) for name, value in table.rows for line in _field(name, value, label, width)]
    return [*head, *lines, Text("")]


def _turned(table: _Cells, width: int) -> list[Text] | None:
    """Fields below each other, a column a row: figures of two or three files stand side by side."""
    if len(table.columns) < 3 or len(table.rows) < 2:
        return None
    first, *others = zip(table.columns, *table.rows, strict=True)
    if len(set(first)) < len(first):
        return None  # a column is known by its name
    return _grid(_Cells(first, others, right=first[1:] if table.right else ()), width)


def _bands(table: _Cells, width: int) -> list[Text] | None:
    """Several tables below each other, each with the columns that rows are known by, and as many of the
    others as fit."""
    if len(table.rows) < 2:
        return None
    key = _key(table)
    bands: list[list[int]] = []
    for k in range(len(key), len(table.columns)):
        if bands and _widths(_chosen(table, [*bands[-1], k]), width) is not None:
            bands[-1].append(k)
        elif _widths(_chosen(table, [*key, k]), width) is not None:
            bands.append([*key, k])
        else:
            return None
    grids = [_grid(_chosen(table, band), width) for band in bands]
    return [part for grid in grids for part in grid or ()]


def _key(table: _Cells) -> list[int]:
    """The first columns by which a row is known from the others; the first alone where no number of them does it."""
    for count in range(1, len(table.columns)):
        if len({tuple(row[:count]) for row in table.rows}) == len(table.rows):
            return list(range(count))
    return [0]


def _chosen(table: _Cells, columns: Sequence[int]) -> _Cells:
    names = [table.columns[k] for k in columns]
    return replace(table, columns=names, rows=[[row[k] for k in columns] for row in table.rows])


def _records(table: _Cells, width: int) -> list[Text]:
    """A list of fields for each row, without those that are empty."""
    from rich.text import Text

    lines: list[Text] = []
    filled = [k for k in range(len(table.columns)) if any(row[k] not in ("", NONE) for row in table.rows)]
    label = min(max((cells_of(table.columns[k]) for k in filled), default=0), width // 3)
    for row in table.rows:
        for number, (name, cell) in enumerate(zip(table.columns, row, strict=True)):
            if cell in ("", NONE):
                continue
            style = "bold" if number == 0 else _style(cell)
            lines += [Text(line, style=style) for line in _field(name, cell, label, width)]
        lines.append(Text(""))
    return lines


def _field(name: str, cell: str, label: int, width: int) -> list[str]:
    """``name  value``; the value on lines of its own where it has no room beside its name."""
    head = name + " " * (label - cells_of(name)) + " " * GAP if label else ""
    room = width - cells_of(head)
    if cells_of(name) <= label and (cells_of(cell) <= room or _longest_word(cell) <= room >= PROSE):
        first, *rest = wrapped(cell, room, "")
        return [head + first, *(" " * cells_of(head) + line for line in rest)]
    below = wrapped(INDENT + cell, width, "")
    return [*wrapped(name, width), *below] if name else below
