"""Results as frozen dataclasses, and the one function that makes JSON of them.

A field is a key of the document, in the order of the class. What more is to be known of it stands at the field:
:func:`optional`, :func:`named`, :func:`rounded`, :func:`beside`, :func:`hidden`, :func:`derived`.
:func:`edgekit.documents.typed` is the inverse: it reads a document back, and what is missing takes its default.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, ClassVar

from edgekit.errors import EdgekitError
from edgekit.results.checks import Check
from edgekit.results.notebook import as_html, frame, in_one_line
from edgekit.types import Artifact, Card

if TYPE_CHECKING:
    import pandas


class Result:
    """What a verb gives back.

    Attributes:
        ROWS: the key of its document whose entries are the rows of :meth:`to_frame`; empty: it is one row.
    """

    ROWS: ClassVar[str] = ""

    def __repr__(self) -> str:
        return in_one_line(type(self).__name__, self.document(), self.ROWS)

    def _repr_html_(self) -> str:
        """What a notebook shows of it."""
        return as_html(type(self).__name__, self.document(), self.ROWS)

    def to_frame(self) -> pandas.DataFrame:
        """One row for each file, case, cell or trial (the key ``ROWS`` of its document), else one for the whole.

        Raises:
            RuntimeMissingError: pandas is not installed.
        """
        return frame(self.document(), self.ROWS)

    def document(self) -> dict[str, Any]:
        """The body of its JSON document, without envelope."""
        document: dict[str, Any] = to_json(self)
        return document

    def failure(self) -> EdgekitError | None:
        """What the command ends with where a gate of the result says no; None where there is no gate, or it holds."""
        return None

    def checks(self) -> tuple[Check, ...]:
        """What its gates were asked, one by one, for JUnit; :meth:`failure` decides."""
        failure = self.failure()
        return (Check("gates", "" if failure is None else str(failure)),)

    def delivered(self) -> None:
        """To be called when the result has been handed over: what was kept for an interruption goes."""

    def conclude(self) -> None:
        """What follows when the result has been handed over.

        Raises:
            EdgekitError: its gate says no.
        """
        self.delivered()
        failure = self.failure()
        if failure is not None:
            raise failure


def optional(default: Any = None) -> Any:
    """A key that is left out where the field has its default."""
    return field(default=default, metadata={"optional": True})


def named(key: str, default: Any = MISSING) -> Any:
    """A field whose key is another word."""
    return field(default=default, metadata={"key": key})


def rounded(digits: int, default: Any = MISSING) -> Any:
    """A number that is written with so many decimals at most."""
    return field(default=default, metadata={"digits": digits})


def beside(factory: Callable[[], Any] = dict) -> Any:
    """A mapping or a dataclass whose entries are keys of the same table as the fields."""
    return field(default_factory=factory, metadata={"beside": True})


def hidden(default: Any = MISSING, *, read: Callable[[Mapping[str, Any], str], Any] | None = None) -> Any:
    """A field that is not in the document. ``read(table, where)``: its value in a result that is read back, made of the
    table that the result stands in; ``where`` is its place, for messages."""
    metadata = {"hidden": True} | ({} if read is None else {"read": read})
    return field(default=default, compare=False, repr=False, metadata=metadata)


def derived(function: Callable[[Any], Any], **how: Any) -> Any:
    """A property that is a key of the document: what ``function`` makes of the result. ``how``: ``optional``, ``key``,
    ``digits``, as above."""
    return field(init=False, repr=False, compare=False, default=property(function), metadata=how)


@dataclass(frozen=True)
class PublishedFile(Artifact):
    """A file that a verb wrote, or found. Its card is not repeated in the document."""

    card: Card | None = hidden(None)
    bytes: int = 0
    sha256: str = ""


def is_shown(one: Field[Any]) -> bool:
    """Whether a field of a dataclass is in the document."""
    return not one.metadata.get("hidden")


def key_of(one: Field[Any]) -> str:
    """The key of a field."""
    key: str = one.metadata.get("key", one.name)
    return key


def to_json(value: Any) -> Any:
    """``value`` as dicts, lists, strings, numbers, booleans and None. NaN and infinities, which JSON has not, are None.

    Raises:
        TypeError: a value that has no JSON form; a result must not lose it silently.
    """
    if isinstance(value, Enum):
        return to_json(value.value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return _table(value)
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return to_json(value.tolist())
    raise TypeError(f"no JSON form for {type(value).__name__}")


def _table(value: Any) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for one in filter(is_shown, fields(value)):
        item, how = getattr(value, one.name), one.metadata
        if how.get("beside"):
            table |= to_json(item)
        elif not (how.get("optional") and item == (one.default if one.init else None)):
            digits = how.get("digits")
            table[key_of(one)] = to_json(item if digits is None or item is None else round(item, digits))
    return table
