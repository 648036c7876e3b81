"""One result -> its JSON document: the envelope every verb shares, and JSON that any reader accepts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from enum import Enum
from pathlib import PurePath
from typing import Any

from edgekit.escapes import in_json
from edgekit.version import __version__

SCHEMA_VERSION = 1


def envelope(verb: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """``body`` with ``schema``, ``edgekit`` and ``environment`` in front (in every document: README.md)."""
    from edgekit.bench.environment import environment

    head = {"schema": f"edgekit.{verb}/{SCHEMA_VERSION}", "edgekit": __version__, "environment": environment()}
    return {**head, **body}


def dumps(document: Mapping[str, Any]) -> str:
    """Strict JSON with a final newline and no control characters. NaN and infinities, which JSON has not, are null."""
    return in_json(json.dumps(plain(document), indent=2, ensure_ascii=False, allow_nan=False)) + "\n"


def plain(value: Any) -> Any:
    """``value`` as dicts, lists, strings, numbers, booleans and None.

    Raises:
        TypeError: a value that has no JSON form; a result must not lose it silently.
    """
    if isinstance(value, Enum):
        return plain(value.value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return plain(value.tolist())
    raise TypeError(f"no JSON form for {type(value).__name__}")
