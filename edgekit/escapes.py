"""What strangers wrote, made visible where it leaves: names, notes and messages must not speak to the terminal.

A control sequence in the name of a layer could set the window's title, write to the clipboard, or repaint what was
printed before. Everything that is printed, logged or written as text goes through here once, at the place where it
leaves: :func:`edgekit.report.text.show`, the handler of the log, the message of an error, bars, CSV, Markdown, plots.
"""

from __future__ import annotations

import re
from typing import Final

NONE: Final = "–"
"""Stands where there is no figure."""
_CONTROLS: Final = r"\x00-\x08\x0b-\x1f\x7f-\x9f"
"""C0 but for newline and tab, DEL, and C1, which terminals take for escape sequences, too."""
_TURNS: Final = r"\u202a-\u202e\u2066-\u2069"
"""Overrides of the direction of writing, which show one text where another one stands."""
_HALVES: Final = r"\ud800-\udfff"
"""Halves of a character, which cannot be written at all; bytes of file names that are not UTF-8 come as such."""
_UNSAFE: Final = re.compile(f"[{_CONTROLS}{_TURNS}{_HALVES}]")


def visible(text: str) -> str:
    r"""``text`` with every control character spelled out, as in Python: ``\x1b``, ``\u202e``."""
    return _UNSAFE.sub(_spelled, text)


def in_one_line(text: str) -> str:
    r"""As :func:`visible`, newlines too (``\n``): for what is a name, a cell or a sentence, and forges no line."""
    return visible(text).replace("\n", r"\n")


def set_off(text: str) -> str:
    """As :func:`visible`, of a message that may have several lines: only the first begins at the margin, so that none
    behind it, whoever wrote it, passes for a message of its own."""
    return visible(text).replace("\n", "\n  ")


def in_json(text: str) -> str:
    r"""A JSON document with the control characters in its texts as escapes of JSON (``\u009b``).

    JSON itself escapes those of ASCII. Half a character has no escape that every reader takes: it is spelled out.
    """
    return _UNSAFE.sub(_escaped, text)


def _spelled(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\\\u{code:04x}" if 0xD800 <= code < 0xE000 else f"\\u{code:04x}"


def ms(value: float | None) -> str:
    """Milliseconds with three significant figures, as decimals: 0.00512, 0.197, 12.3, 1235."""
    if value is None:
        return NONE
    whole = len(str(int(value))) if value >= 1 else 0
    decimals = 3 - whole if value >= 0.1 else 4 if value >= 0.01 else 5
    return f"{value:.{max(decimals, 0)}f}"
