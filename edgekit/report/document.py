"""One result -> its JSON document: the envelope every verb shares, and JSON that any reader accepts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from edgekit.escapes import in_json
from edgekit.results.base import to_json
from edgekit.version import __version__

SCHEMA_VERSION = 1


def envelope(verb: str, body: Mapping[str, Any], command: Sequence[str] = ()) -> dict[str, Any]:
    """``body`` with ``schema``, ``edgekit``, ``environment`` and ``date`` in front (in every document: README.md), and
    with the words of the ``command`` that made it, where it was one."""
    from edgekit.bench.environment import environment

    date = datetime.now(UTC).isoformat(timespec="seconds")
    head = {
        "schema": f"edgekit.{verb}/{SCHEMA_VERSION}", "edgekit": __version__, "environment": environment(),
        "date": date,
    }  # fmt: skip
    return {**head, **({"command": list(command)} if command else {}), **body}


def dumps(document: Mapping[str, Any]) -> str:
    """Strict JSON with a final newline and no control characters. NaN and infinities, which JSON has not, are null."""
    return in_json(json.dumps(to_json(document), indent=2, ensure_ascii=False, allow_nan=False)) + "\n"
