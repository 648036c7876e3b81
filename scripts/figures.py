"""Figures that scripts write into documents, between two marks; and rows of them that are kept from run to run."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def replaced(document: str, text: str, begin: str, end: str) -> str:
    """``document`` with ``text`` between the marks.

    Raises:
        ValueError: it has no such marks.
    """
    head, found, rest = document.partition(begin)
    _, also, tail = rest.partition(end)
    if not found or not also:
        raise ValueError(f"the page has no lines {begin!r} and {end!r} to write between")
    return f"{head}{begin}\n\n{text.strip()}\n\n{end}{tail}"


@dataclass(frozen=True)
class KeptRows:
    """Rows of a page's tables, one a network, which lie in a JSON file beside the page.

    Attributes:
        page: the document.
        networks: names of all rows, in their order.
        marks: between which the tables stand.
        tables: what is kept (``date``, ``rows``, and what else was told) -> the text.
    """

    page: Path
    networks: Sequence[str]
    marks: tuple[str, str]
    tables: Callable[[Mapping[str, Any]], str]

    def parser(self, description: str | None) -> argparse.ArgumentParser:
        """Of a script that measures networks: their names, ``--write`` and ``--work``."""
        parser = argparse.ArgumentParser(description=description)
        parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"of {', '.join(self.networks)}; or all")
        parser.add_argument("--write", action="store_true", help=f"put the tables into docs/{self.page.name}")
        parser.add_argument("--work", type=Path, metavar="FOLDER", help="keep the files here, and make none again")
        return parser

    def wanted(self, parser: argparse.ArgumentParser, names: Sequence[str]) -> list[str]:
        """The networks that were named, or all; ends the script where there is none of such a name."""
        unknown = sorted(set(names) - set(self.networks))
        if unknown:
            parser.error(f"no network is called {', '.join(unknown)}; there are: {', '.join(self.networks)}")
        return list(names or self.networks)

    def add(self, rows: Iterable[tuple[dict[str, Any], dict[str, Any]]], *, write: bool) -> list[dict[str, Any]]:
        """Prints ``rows``, each with what is to stand beside all of them, as they come; ``write``: keeps them, with the
        rows of other networks that were kept before, and puts the tables into the page. Gives the rows that came."""
        place = self.page.with_suffix(".json")
        kept = json.loads(place.read_text(encoding="utf-8"))["rows"] if place.exists() else []
        known = {row["name"]: row for row in kept}
        came = []
        for row, facts in rows:
            print(json.dumps(row), flush=True)
            came.append(row)
            known[row["name"]] = row
            shown = [known[name] for name in self.networks if name in known]
            record = {"date": datetime.now(UTC).date().isoformat(), **facts, "rows": shown}
            if write:
                place.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
                page = self.page.read_text(encoding="utf-8")
                self.page.write_text(replaced(page, self.tables(record), *self.marks), encoding="utf-8")
        return came
