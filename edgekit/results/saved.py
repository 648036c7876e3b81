"""A saved document read back: the result that stands in it, and where, how and by which version it was made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekit.documents import parse_json, typed
from edgekit.errors import InputError
from edgekit.inputs import read_regular
from edgekit.results.base import Result
from edgekit.results.quantize import PLAN_SCHEMA
from edgekit.results.schema import VERBS

HOW = "give a file that 'edgekit VERB … --json FILE' wrote"
_SCHEMA = re.compile(r"edgekit\.([a-z]+)/1")


@dataclass(frozen=True, kw_only=True)
class SavedDocument:
    """A document.

    Attributes:
        origin: the file it was read from, or what it was made by.
        version: of edgekit, which wrote it.
        environment: CPU, memory, system and versions of the machine it ran on.
        command: the command line that made it; empty where the document does not say.
        date: when it was made, UTC, ISO 8601; empty where the document does not say.
    """

    verb: str
    result: Result
    origin: str
    version: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    date: str = ""


@dataclass(frozen=True, kw_only=True)
class _Head:
    schema: str
    edgekit: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    date: str = ""


def read_result(path: str | Path) -> SavedDocument:
    """The result that is saved in the file ``path``.

    Raises:
        InputError: it cannot be read, is not JSON, or is not a document of this version of edgekit.
        LimitError: larger than the limits on documents.
    """
    data = read_regular(path, InputError, f"a saved result; {HOW}", "DOCUMENT_BYTES")
    return from_json(parse_json(data, InputError, path), str(path))


def from_json(document: Any, origin: str) -> SavedDocument:
    """The result in ``document``, a parsed JSON document; ``origin``: where it comes from.

    Raises:
        InputError: not a document of edgekit, of another version of it, or one that lacks something.
    """
    try:
        head = typed(_Head, document, "it")
    except ValueError as error:
        raise InputError(f"{origin} is not a result of edgekit: {error}; {HOW}") from error
    schema = "edgekit.quantize/1" if head.schema == PLAN_SCHEMA else head.schema
    known = _SCHEMA.fullmatch(schema)
    if known is None or known[1] not in VERBS:
        raise InputError(
            f"{origin} has the schema {head.schema[:60]!r}; those are read: "
            f"{', '.join(f'edgekit.{verb}/1' for verb in VERBS)}; {HOW}"
        )
    return SavedDocument(
        verb=known[1],
        result=result_of(known[1], document, origin),
        origin=origin,
        version=head.edgekit,
        environment=head.environment,
        command=head.command,
        date=head.date,
    )


def result_of(verb: str, body: Mapping[str, Any], origin: str) -> Result:
    """The result of ``verb`` whose document without envelope is ``body``.

    Raises:
        InputError: it is of another verb.
    """
    problems = []
    for kind in VERBS[verb]:
        try:
            return typed(kind, body, "it")
        except ValueError as error:
            problems.append(str(error))
    raise InputError(f"{origin} is not a result of {verb}: {'; or '.join(dict.fromkeys(problems))}; {HOW}")
