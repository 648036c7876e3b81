"""Notebooks: results as a pandas table, as HTML and in one line, and progress below the cell."""

from __future__ import annotations

import html
import logging
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from edgekit.errors import RuntimeMissingError

if TYPE_CHECKING:
    import pandas

_SHOWN: Final = 20
"""Rows of a table in a notebook; ``to_frame()`` has all of them."""
_WIDE: Final = 80
"""Characters of a cell."""
_IN_LINE: Final = 6
"""Fields of a one-line form."""
Row = Mapping[str, Any]


def follow() -> None:
    """In a notebook, what edgekit says while it works appears below the cell; nothing is changed anywhere else, nor
    where the program has set up its logging."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    log = logging.getLogger("edgekit")
    if not hasattr(shell, "kernel") or log.hasHandlers() or log.level != logging.NOTSET:
        return
    log.addHandler(_Below())
    log.setLevel(logging.INFO)


class _Below(logging.Handler):
    """Prints to the cell that runs."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stdout.write(f"edgekit: {record.getMessage()}\n")
        sys.stdout.flush()


def frame(document: Mapping[str, Any], key: str) -> pandas.DataFrame:
    """One row for each entry of ``document[key]``, or one row for the whole of it; tables within are columns ``a.b``.

    Raises:
        RuntimeMissingError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise RuntimeMissingError("to_frame() needs pandas, which is not installed: pip install pandas") from error
    return pandas.json_normalize(list(document[key]) if key else [dict(document)])


def as_html(title: str, document: Mapping[str, Any], key: str) -> str:
    """The plain fields of ``document`` as a table of two columns, and its rows as a table below it."""
    fields = _flat({name: value for name, value in document.items() if name != key})
    parts = [f"<p><b>{html.escape(title)}</b></p>", _table(("field", "value"), fields.items())]
    rows = [_flat(row) for row in document[key]] if key else []
    if rows:
        columns = list(dict.fromkeys(name for row in rows for name in row))
        parts.append(_table(columns, ([row.get(name) for name in columns] for row in rows[:_SHOWN])))
    if len(rows) > _SHOWN:
        parts.append(f"<p>{len(rows) - _SHOWN} more rows: to_frame() has them</p>")
    return "\n".join(parts)


def in_one_line(title: str, document: Mapping[str, Any], key: str) -> str:
    """``EvalResult(metric='accuracy', ...)``: its ``title``, its first plain fields, and how many rows there are."""
    fields = [f"{name}={value!r}" for name, value in document.items() if _plain(value) and value is not None]
    shown = fields[:_IN_LINE] + (["..."] if len(fields) > _IN_LINE else [])
    return f"{title}({', '.join([*shown, *([f'{key}: {len(document[key])} rows'] if key else [])])})"


def _plain(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def _flat(row: Row, prefix: str = "") -> dict[str, Any]:
    """The plain values of ``row``, those of tables within as ``a.b``; lists are left out."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}.")
        elif _plain(value):
            found[prefix + name] = value
    return found


def _table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    lines = ["<tr>" + "".join(f"<th>{html.escape(name)}</th>" for name in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{_cell(value)}</td>" for value in row) + "</tr>" for row in rows]
    return f"<table>{''.join(lines)}</table>"


def _cell(value: Any) -> str:
    text = "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
    return html.escape(text if len(text) <= _WIDE else text[: _WIDE - 1] + "…")
