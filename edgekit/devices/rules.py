"""Rules for what a device answers, from which :mod:`edgekit.devices.schema` is made.

A rule takes a value and the place where it stands, and gives back what may be used of it, or raises ValueError with the
place, what is there and what was wanted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

Rule: TypeAlias = Callable[[Any, str], Any]
MOST: Final = 1 << 53
"""Integers up to here are the same in every reader of JSON."""
SHOWN: Final = 60
"""Characters of what is wrong that a message shows."""


def text(most: int = 4096, pattern: str = "") -> Rule:
    """A string of at most ``most`` characters, which ``pattern`` matches as a whole."""
    wanted = f"a text of at most {most:,} characters" + (f" like {pattern}" if pattern else "")

    def rule(value: Any, where: str) -> str:
        if not isinstance(value, str) or len(value) > most or (pattern and not re.fullmatch(pattern, value)):
            raise _wrong(value, where, wanted)
        return value

    return rule


def whole(low: int = 0, high: int = MOST) -> Rule:
    """An integer within these bounds."""

    def rule(value: Any, where: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise _wrong(value, where, f"a whole number from {low:,} to {high:,}")
        return value

    return rule


def number(low: float = -1e30, high: float = 1e30) -> Rule:
    """A number within these bounds, which are finite."""

    def rule(value: Any, where: str) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            raise _wrong(value, where, f"a number from {low:g} to {high:g}")
        return value

    return rule


def flag(value: Any, where: str) -> bool:
    """A rule: true or false."""
    if not isinstance(value, bool):
        raise _wrong(value, where, "true or false")
    return value


def either(*rules: Rule) -> Rule:
    """What one of the rules takes; the last one's error where none does."""

    def rule(value: Any, where: str) -> Any:
        for one in rules[:-1]:
            try:
                return one(value, where)
            except ValueError:
                continue
        return rules[-1](value, where)

    return rule


def maybe(rule: Rule) -> Rule:
    """null, or what ``rule`` takes."""
    return lambda value, where: None if value is None else rule(value, where)


def rows(rule: Rule, most: int = MOST) -> Rule:
    """A list of at most ``most`` values."""

    def listed(value: Any, where: str) -> list[Any]:
        if not isinstance(value, list) or len(value) > most:
            raise _wrong(value, where, f"a list of at most {most:,}")
        return [rule(item, f"{where}[{index}]") for index, item in enumerate(value)]

    return listed


def table(rule: Rule) -> Rule:
    """An object with any names."""

    def named(value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _wrong(value, where, "an object")
        return {name: rule(item, f"{where}.{name[:SHOWN]}") for name, item in value.items()}

    return named


def record(optional: Mapping[str, Rule] | None = None, /, **required: Rule) -> Rule:
    """An object with these names, those of ``optional`` where they are there."""
    rules, may_lack = {**required, **(optional or {})}, optional or {}

    def checked(value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _wrong(value, where, "an object")
        for name in required:
            if name not in value:
                raise ValueError(f"{where}.{name} is missing")
        return {
            name: rule(value[name], f"{where}.{name}")
            for name, rule in rules.items()
            if name in value or name not in may_lack
        }

    return checked


def _wrong(value: Any, where: str, wanted: str) -> ValueError:
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        shown = repr(value) if isinstance(value, float) or (isinstance(value, int) and abs(value) < MOST) else ""
        shown = shown or (repr(value[:SHOWN]) if isinstance(value, str) else "a number of too many digits")
    else:
        shown = {dict: "an object", list: "a list", bool: str(value).lower()}.get(type(value), "null")
    return ValueError(f"{where} is {shown}, wanted {wanted}")
