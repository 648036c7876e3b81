"""What a page is made of: sections of paragraphs, tables, facts, commands and plots, each plot with its data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from edgekit.types import Sheet


@dataclass(frozen=True)
class Facts:
    """Names and what they stand for, in two columns."""

    rows: Sequence[tuple[str, object]]
    title: str = ""


@dataclass(frozen=True)
class Command:
    """A command line, as a shell takes it."""

    text: str


@dataclass(frozen=True)
class Axis:
    """A figure that a plot can be drawn over.

    Attributes:
        field: of the rows of the plot.
        title: with its unit.
        scale: ``linear`` or ``log``.
    """

    field: str
    title: str
    scale: Literal["linear", "log"] = "linear"


@dataclass(frozen=True)
class Filter:
    """What rows can be chosen by: some of the values of ``field``, or, where there are none, a largest value."""

    field: str
    title: str
    values: Sequence[str] = ()


@dataclass(frozen=True)
class Plot:
    """A plot.

    Attributes:
        about: what is to be seen, for who cannot see it, and under the plot for everybody.
        spec: Vega-Lite, whose data are called ``rows``.
        data: the same as a table. Where there are filters its rows are those of the plot, in the same order.
        filters, axes: what the reader may choose; the first two axes and the third, the size, are drawn at first.
    """

    title: str
    about: str
    spec: Mapping[str, Any]
    data: Sheet
    filters: Sequence[Filter] = ()
    axes: Sequence[Axis] = ()


Part = str | Facts | Command | Sheet | Plot


@dataclass(frozen=True)
class Section:
    """Parts under a heading."""

    title: str
    parts: Sequence[Part]
