"""How wide a stream is, and a sentence in so many columns of it: cut between words, never within one."""

from __future__ import annotations

import os
from typing import Final, TextIO

INDENT: Final = "  "
"""In front of what follows the first line of a sentence."""
USUAL: Final = 80
"""Columns of a terminal that does not know."""


def columns_of(stream: TextIO) -> int | None:
    """Columns of the terminal that ``stream`` is, or what ``$COLUMNS`` says; None for a pipe or a file without it."""
    named = os.environ.get("COLUMNS", "")
    if named.isdecimal() and int(named) > 0:
        return int(named)
    return _window(stream) if stream.isatty() else None


def _window(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or USUAL
    except (OSError, ValueError):  # a terminal that does not know, a test's buffer
        return USUAL


def fitted(text: str, stream: TextIO) -> str:
    """Lines of a message, cut between words where ``stream`` is a terminal; a log that is read by programs is not."""
    if not stream.isatty():
        return text
    width = columns_of(stream) or USUAL
    return "\n".join(line for one in text.split("\n") for line in wrapped(one, width))


def wrapped(text: str, width: int, indent: str = INDENT) -> list[str]:
    """``text`` in lines of ``width`` columns, cut between words; what follows the first is indented by ``indent``
    more than that. A text that fits is not changed."""
    if cells_of(text) <= width:
        return [text]
    margin = text[: len(text) - len(text.lstrip())]
    lines: list[str] = []
    line, begun, indent = margin, False, margin + indent
    for word in text.split():
        for number, part in enumerate(_parts(word, width - len(indent))):
            glue = " " if begun and number == 0 else ""
            if begun and cells_of(line + glue + part) > width:
                lines.append(line)
                line, glue = indent, ""
            line, begun = line + glue + part, True
    return [*lines, line]


def _parts(word: str, width: int) -> list[str]:
    """A word whole, or, if it is a path longer than ``width``, cut behind slashes."""
    if cells_of(word) <= width or "/" not in word:
        return [word]
    names = word.split("/")
    parts = [""]
    for name in [*(f"{name}/" for name in names[:-1]), names[-1]]:
        if parts[-1] and cells_of(parts[-1] + name) > width:
            parts.append("")
        parts[-1] += name
    return [part for part in parts if part]


def cells_of(text: str) -> int:
    """Columns that a text takes: two for a letter of East Asia."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
