"""A page as one HTML file that needs nothing else: jinja2 makes it, Vega-Lite (carried by vl-convert-python) draws."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgekit.errors import RuntimeMissingError
from edgekit.escapes import NONE, ms, visible
from edgekit.report.page.parts import Part, Section
from edgekit.results.base import to_json
from edgekit.version import __version__

MOST_ROWS, MOST_CHOSEN = 300, 1000
"""Rows of a table, and of one whose rows can be chosen: the first ones are in the page, all in the document."""
_LONGEST = 400
"""Characters of a cell."""
TEMPLATES = Path(__file__).parent / "templates"
_PACKAGES = {"jinja2": "jinja2", "vl_convert": "vl-convert-python"}


def check_packages() -> None:
    """Refuses, before any work, what could not be made.

    Raises:
        RuntimeMissingError: a package that makes pages is not installed.
    """
    missing = [package for module, package in _PACKAGES.items() if find_spec(module) is None]
    if missing:
        raise RuntimeMissingError(
            f"a page needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed; "
            "pip install 'edgekit[report]'"
        )


def render(title: str, sections: Sequence[Section]) -> str:
    """The text of the file.

    Raises:
        RuntimeMissingError: as :func:`check_packages`.
    """
    check_packages()
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, finalize=lambda value: visible(value) if type(value) is str else value,
    )  # fmt: skip
    environment.filters["shown"] = shown
    environment.filters["plain"] = _plain
    environment.tests["kind"] = lambda part, name: kind_of(part) == name
    library, program = drawing_library(), (TEMPLATES / "page.js").read_text(encoding="utf-8")
    return environment.get_template("page.html.jinja").render(
        title=title,
        sections=sections,
        most_rows=MOST_ROWS,
        most_chosen=MOST_CHOSEN,
        version=__version__,
        # Of edgekit and of the library; what strangers wrote is never in them.
        style=Markup((TEMPLATES / "page.css").read_text(encoding="utf-8")),
        library=Markup(library),
        program=Markup(program),
        hashes=[_hash(library), _hash(program)],
    )


@cache
def drawing_library() -> str:
    """Vega, Vega-Lite and vega-embed as one script, which sets ``vegaEmbed``."""
    import vl_convert

    text: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return text


def _hash(script: str) -> str:
    """A script as the page's policy names it: nothing but the two of edgekit may run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def kind_of(part: Part) -> str:
    """The part of the template that shows it."""
    return "text" if isinstance(part, str) else type(part).__name__.lower()


def shown(value: object) -> str:
    """A cell of a table."""
    if value is None or value == "":
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return (ms(value) if 0 <= value < 1e6 else f"{value:.4g}") if math.isfinite(value) else NONE
    if isinstance(value, int):
        return f"{value:,}"
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"


def _plain(value: Any) -> Any:
    """As JSON values in which every text is visible and numbers are as exact as a drawing."""
    return _visible(to_json(value))


def _visible(value: Any) -> Any:
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, float):
        return float(f"{value:.6g}")  # more is not seen
    if isinstance(value, dict):
        return {visible(key): _visible(item) for key, item in value.items()}
    return [_visible(item) for item in value] if isinstance(value, list) else value
