"""Results as text for people: ``rich`` tables on standard output, plain when it is not a terminal.

A verb's renderer takes its result and returns what :func:`show` can print: a string, a table of :func:`table`,
or a list of them. Verbs keep their renderer here in ``report/`` (one module a verb where it is more than a table).
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from edgekit.escapes import NONE as NONE
from edgekit.escapes import in_one_line
from edgekit.escapes import ms as ms
from edgekit.report.wrap import columns_of, wrapped
from edgekit.types import Sheet

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Parts = list[Any]
"""Strings and tables, as :func:`show` takes them."""
_SCOPE = 60
_MODULES = re.compile(r"(?<![\w.])(?:(?:\w+|<locals>)\.)+(?=[A-Z])")
"""The modules in front of a class: torch.nn.modules.conv. of torch.nn.modules.conv.Conv2d_0."""
PIPE_WIDTH = 160
"""Columns of a table that is piped or written to a file, where there is no window to measure."""


def show(parts: Any, stream: TextIO) -> None:
    """Prints a string, a table of :func:`table`, or a list of them to ``stream``; nothing in them is markup.

    In a terminal, or where ``$COLUMNS`` says how wide it is, no line is wider (:mod:`edgekit.report.layout`).
    """
    width = columns_of(stream)
    out, blank = console(stream, width), True
    for part in parts if isinstance(parts, list | tuple) else [parts]:
        for line in _lines(part, width):
            if line.plain or not blank:
                out.print(line, soft_wrap=True)
            blank = not line.plain


def _lines(part: str | Sheet, width: int | None) -> list[Text]:
    from rich.text import Text

    from edgekit.report.layout import lay_out

    if isinstance(part, Sheet):
        return lay_out(part, PIPE_WIDTH if width is None else width)
    text = in_one_line(part)
    return [Text(line) for line in ([text] if width is None else wrapped(text, width))]


def console(stream: TextIO, width: int | None) -> Console:
    """A console on ``stream``: with colours in a terminal that has them or where ``$FORCE_COLOR`` is set, and never
    with ``$NO_COLOR``."""
    from rich.console import Console

    class PlainConsole(Console):
        def on_broken_pipe(self) -> None:
            # rich would end the program with exit status 1, which is a gate's; the command line knows better
            raise BrokenPipeError

    forced = os.environ.get("FORCE_COLOR", "") not in ("", "0", "false")
    plain = bool(os.environ.get("NO_COLOR")) or not (forced or stream.isatty())
    return PlainConsole(
        file=stream, width=PIPE_WIDTH if width is None else width, force_terminal=True if forced else stream.isatty(),
        color_system=None if plain else "auto", highlight=False, emoji=False, markup=False,
    )  # fmt: skip


def table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None, right: Iterable[str] = ()
) -> Sheet:
    """A table; columns named in ``right`` are right-aligned; None is shown as a dash."""
    return Sheet(columns, list(rows), title, tuple(right))


def scope(name: str) -> str:
    """The name of an operator for people, in at most 60 characters; a shorter one is whole, as all are in documents.

    Of several that became one it is the first and how many more; of classes it has no modules; if that is too long, its
    end.
    """
    if len(name) <= _SCOPE:
        return name
    names = [part for part in name.split(";") if "/" in part or "." in part] or [name]
    more = f" +{len(names) - 1}" if len(names) > 1 else ""
    text = _MODULES.sub("", names[0])
    room = _SCOPE - len(more)
    return (text if len(text) <= room else "…" + text[1 - room :]) + more


def size(count: int | None) -> str:
    """Bytes with separators: 123,456."""
    return NONE if count is None else f"{count:,}"


def share(value: float | None) -> str:
    """A fraction as a percentage with two decimals."""
    return NONE if value is None else f"{100 * value:.2f}%"


SHARES = (
    *("accuracy", "roc_auc", "miou", "dice", "f1", "average_precision", "map", "map50", "pck"),
    *("recall_at_1", "recall_at_5"),
)
"""Figures of merit that are fractions and shown as percentages; the others are numbers in a unit of their own."""


def figure(metric: str, value: float | None) -> str:
    """A figure of merit: a percentage for a share, four significant figures otherwise."""
    if value is None:
        return NONE
    return share(value) if metric in SHARES else f"{value:.4g}"


def points(drop: float) -> str:
    """Quality lost, as a fraction, in points gained: -0.25 points, +1.00 points, 0.00 points."""
    gained = round(-100 * drop, 2)
    return f"{gained:+.2f} points" if gained else "0.00 points"


def worse(drop: float) -> str:
    """An error that rose or fell by a fraction: 3.12% worse, 0.40% better, 0.00%."""
    percent = f"{100 * abs(drop):.2f}%"
    return percent if percent == "0.00%" else f"{percent} {'worse' if drop > 0 else 'better'}"


def lost(metric: str, drop: float, before: float | None = None, after: float | None = None) -> str:
    """A change of quality in the unit of its ``drop``: points of a share, per cent of an error, else a difference
    (R², a figure of the user's own where higher is better), which ``before`` and ``after`` tell from an error."""
    if metric in SHARES:
        return points(drop)
    if before is not None and after is not None and math.isclose(before - after, drop, rel_tol=1e-6, abs_tol=1e-12):
        return f"{-drop:+.4g}" if drop else "0"
    return worse(drop)


def ratio(value: float | None) -> str:
    """A factor with two decimals, for example ``0.42×``."""
    return NONE if value is None else f"{value:.2f}×"


def small(value: float | None) -> str:
    """A difference: two significant figures, scientific."""
    return NONE if value is None else f"{value:.1e}"
