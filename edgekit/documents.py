"""JSON and TOML of strangers: bounded, parsed, and brought to the types that the reader asks for."""

from __future__ import annotations

import json
import math
import re
import tomllib
import types
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import PurePath
from typing import Any, Final, TypeVar, Union, cast, get_args, get_origin, get_type_hints, is_typeddict

from edgekit.errors import InputError
from edgekit.limits import check
from edgekit.reading import reading

_LARGEST_WHOLE: Final = 2**63
_SHOWN: Final = 60
_NAMES: Final = {
    str: "a text", int: "a whole number", float: "a finite number", bool: "true or false", type(None): "null",
    list: "a list", dict: "a table",
}  # fmt: skip
_PIECES: Final = re.compile(r"[=,{\[\n]")
"""Between these stands one key or one value."""
T = TypeVar("T")


def parse_json(data: bytes, error: type[InputError], subject: object, limit: str = "DOCUMENT_BYTES") -> Any:
    """The value of a JSON document.

    Raises:
        InputError: of the class ``error``: not JSON; NaN and infinities are not.
        LimitError: too large, too many values, nested too deeply.
    """
    check(limit, len(data), subject)
    check("DOCUMENT_VALUES", data.count(b",") + data.count(b"[") + data.count(b"{"), subject)
    with reading(subject, error, "JSON"):
        text = data.decode("utf-8-sig")
        document = json.loads(text, parse_constant=_no_number)
        if "\\ud" in text or "\\uD" in text:  # half a pair of these is a text that cannot be written again
            json.dumps(document, ensure_ascii=False).encode()
    _check_depth(document, subject)
    return document


def parse_toml(text: str, error: type[InputError], subject: object) -> dict[str, Any]:
    """The table of a TOML document; raises as :func:`parse_json`, of whose limits the depth holds.

    tomllib takes time with the square of the parts of a dotted key, so these are counted first.
    """
    check("DOCUMENT_DEPTH", max(piece.count(".") for piece in _PIECES.split(text)), subject)
    with reading(subject, error, "TOML"):
        document = tomllib.loads(text)
    _check_depth(document, subject)
    level: list[Any] = [document]
    while level:  # 0xFFFF… may have any number of digits, which Python then cannot write in tens
        value = level.pop()
        if isinstance(value, int) and abs(value) >= _LARGEST_WHOLE:
            raise error(f"{subject} cannot be read as TOML: a whole number has more than 64 bits")
        level += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return document


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not a number of JSON")


def _check_depth(document: Any, subject: object) -> None:
    depth, level = 0, [document] if isinstance(document, dict | list) else []
    while level:
        depth += 1
        check("DOCUMENT_DEPTH", depth, subject)
        inside = (node.values() if isinstance(node, dict) else node for node in level)
        level = [child for children in inside for child in children if isinstance(child, dict | list)]


def typed(kind: type[T], value: Any, where: str) -> T:
    """``value``, parsed from JSON or TOML, as ``kind``.

    Args:
        kind: a dataclass (fields that it does not name are left out; see :mod:`edgekit.results.base`), a TypedDict
            (they are kept), ``str``, an enumeration of texts, a path, ``int``, ``float`` (finite; a whole number is
            one, too), ``bool``, ``Any``, or ``tuple``, ``list``, ``Sequence`` (a tuple), ``Mapping[str, …]`` and
            unions of these.
        value: what stands in the document.
        where: its place in the document, for messages.

    Raises:
        ValueError: another type, a field that is missing, a number that does not fit into 64 bits.
    """
    return cast(T, _typed(kind, value, where))


def _typed(hint: Any, value: Any, where: str) -> Any:
    if hint is Any:
        return value
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (types.UnionType, Union):
        return _union(inner, value, where)
    if origin in (tuple, list, Sequence):
        return _sequence(tuple if origin is Sequence else origin, inner, value, where)
    if origin is not None:  # Mapping[str, …]
        named = _table(value, where)
        return {key: _typed(inner[1], item, f"{where}.{key}") for key, item in named.items()}
    if is_dataclass(hint) or is_typeddict(hint):
        return _record(hint, value, where)
    if isinstance(hint, type) and issubclass(hint, Enum | PurePath):
        with suppress(ValueError):
            return hint(_typed(str, value, where))
        raise _unfit(str, value, where)
    if hint is float and type(value) is int and abs(value) < _LARGEST_WHOLE:
        return float(value)
    fits = type(value) is hint and not (hint is int and abs(value) >= _LARGEST_WHOLE)
    if not fits or (hint is float and not math.isfinite(value)):
        raise _unfit(hint, value, where)
    return value


def _union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    kinds = tuple(kind for kind in kinds if kind is not type(None))
    if len(kinds) == 1:
        return _typed(kinds[0], value, where)
    for kind in kinds:
        with suppress(ValueError):
            return _typed(kind, value, where)
    raise _unfit(kinds, value, where)


def _sequence(made: Any, inner: tuple[Any, ...], value: Any, where: str) -> Any:
    if not isinstance(value, list | tuple):
        raise _unfit(list, value, where)
    if inner == (int, ...) and all(type(item) is int and abs(item) < _LARGEST_WHOLE for item in value):
        return made(value)  # samples: hundreds of thousands
    kinds = inner if made is tuple and len(inner) > 1 and Ellipsis not in inner else (inner[0],) * len(value)
    if len(kinds) != len(value):
        raise ValueError(f"{where} has {len(value)} values, {len(kinds)} were expected")
    return made(_typed(kind, item, f"{where}[{k}]") for k, (kind, item) in enumerate(zip(kinds, value, strict=True)))


def _record(kind: Any, value: Any, where: str) -> Any:
    table = _table(value, where)
    hints = _hints(kind)
    if is_typeddict(kind):
        absent = [name for name in hints if name in kind.__required_keys__ and name not in table]
        if absent:
            raise ValueError(f"{where} has no {absent[0]!r}")
        return table | {name: _typed(hints[name], table[name], f"{where}.{name}") for name in hints if name in table}
    known = {one.metadata.get("key", one.name): one for one in fields(kind) if one.init}
    made = {f.name: f.metadata["read"] for f in known.values() if "read" in f.metadata}
    lacking = [
        key
        for key, f in known.items()
        if key not in table
        and f.default is f.default_factory is MISSING
        and f.name not in made
        and not f.metadata.get("beside")
    ]
    if lacking:
        raise ValueError(f"{where} has no {lacking[0]!r}")
    found = {
        f.name: _typed(hints[f.name], table[key], f"{where}.{key}")
        for key, f in known.items()
        if key in table and f.name not in made
    }
    for one in known.values():
        if one.metadata.get("beside"):
            rest = {key: value for key, value in table.items() if key not in known}
            found[one.name] = _typed(hints[one.name], rest, where)
    return kind(**found, **{name: read(table, where) for name, read in made.items()})


_hints = cache(get_type_hints)


def _table(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _unfit(dict, value, where)
    return dict(value)


def _unfit(kind: Any, value: Any, where: str) -> ValueError:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    wanted = " or ".join(_NAMES.get(one, str(one)) for one in kinds)
    found = _NAMES[type(value)] if isinstance(value, dict | list) else repr(value)[:_SHOWN]
    return ValueError(f"{where} is {found}, {wanted} was expected")
