"""The tables that ``scripts/fuzz --write`` puts into docs/security.md, and that of the limits."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path

from figures import replaced
from results_page import machine

from edgekit.bench.environment import environment
from edgekit.limits import LIMITS, PREFIX

PAGE = Path(__file__).parent.parent / "docs" / "security.md"


def written(name: str, text: str) -> None:
    """Puts ``text`` between the marks of ``name``, and the limits of today between theirs.

    Raises:
        ValueError: the page has no such marks.
    """
    document = PAGE.read_text(encoding="utf-8")
    for part, content in ((name, text), ("limits", limits())):
        begin, end = f"<!-- scripts/fuzz --write, {part}: from here -->", f"<!-- {part}: to here -->"
        document = replaced(document, content, begin, end)
    PAGE.write_text(document, encoding="utf-8")


def made_on(command: str, seconds: float) -> list[str]:
    """What was run, when, for how long and where."""
    today = datetime.date.today().isoformat()
    return [f"Made by `{command}` on {today}, in {seconds / 60:.0f} minutes.", *machine(environment()), ""]


def table(head: Sequence[object], rows: Mapping[str, Sequence[object]]) -> list[str]:
    """A table whose first column is text and whose others are numbers."""
    lines = [f"| {' | '.join(map(str, head))} |", f"|---|{'---:|' * (len(head) - 1)}"]
    return [*lines, *(f"| {' | '.join([name, *map(str, row)])} |" for name, row in rows.items())]


def limits() -> str:
    """Every limit: its variable, its default, what it bounds."""
    lines = ["| variable | default | bounds |", "|---|---:|---|"]
    for name, one in LIMITS.items():
        small = f"; up to {one.small:,} whatever `UNPACKED_RATIO` says" if one.small else ""
        lines.append(f"| `{PREFIX}{name}` | {one.default:,} {one.unit} | {one.what}{small} |")
    return "\n".join(lines)
