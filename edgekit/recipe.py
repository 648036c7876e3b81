"""A recipe file -> typed steps, each with the line it stands on; ``edgekit.recipe.check``, ``show`` and ``run``.

A recipe is TOML::

    source = "cnn"              # what every command line takes as SOURCE (or a finished MODEL)
    data = "digits"             # for every step that takes data and names none

    [[step]]
    do = "prune"                # a command; the other keys are its options, without the dashes
    amount = 0.5

    [[step]]
    do = "export"
    from = "prune"              # default: the step before; "source" for the recipe's source; or a list
    to = ["onnx", "tflite"]     # a list where the command takes one value: one run for each

:func:`parse_recipe` knows the shape only; what the steps and their options are, :mod:`edgekit.pipeline.recipe` knows.
"""

from __future__ import annotations

import importlib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit import limits
from edgekit.documents import parse_toml
from edgekit.errors import RecipeError
from edgekit.inputs import read_regular
from edgekit.options.base import shown

if TYPE_CHECKING:
    from edgekit.pipeline.recipe import check as check
    from edgekit.pipeline.recipe import run as run
    from edgekit.pipeline.recipe import show as show

SOURCE = "source"
"""What ``from`` says for the recipe's own source."""
_TOP = ("name", "source", "data", "step")
_OWN = ("do", "name", "from")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_PLACE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


@dataclass(frozen=True, slots=True)
class Entry:
    """A value of the file and the line its key stands on, from 1."""

    value: Any
    line: int


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, and on which line."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class RecipeStep:
    """One ``[[step]]``.

    Attributes:
        do: a command, as written; not checked here.
        name: its own, or ``do``.
        parents: names of the steps (or :data:`SOURCE`) whose files it takes.
        options: every other key.
        line: of its ``[[step]]``.
        lines: key -> line of the step's own keys, for messages.
    """

    do: str
    name: str
    parents: tuple[str, ...]
    options: Mapping[str, Entry]
    line: int
    lines: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe file.

    Attributes:
        path: of the file.
        name: its own, or the file's without suffix; outputs lie in ``runs/NAME``.
        source: a SOURCE, or a finished model file.
        data: for steps that name none; None where the recipe names none either.
        steps: in the order of the file.
    """

    path: Path
    name: str
    source: Entry
    data: Entry | None
    steps: tuple[RecipeStep, ...]


def __getattr__(name: str) -> Any:
    if name in ("check", "show", "run"):
        return getattr(importlib.import_module("edgekit.pipeline.recipe"), name)
    raise AttributeError(f"module 'edgekit.recipe' has no attribute {name!r}")


def refused(path: Path, problems: list[Problem]) -> RecipeError:
    """All of ``problems`` as one error, in the order of the lines."""
    ordered = sorted(dict.fromkeys(problems), key=lambda problem: problem.line)
    told = [f"{path}:{problem.line}: {problem.text}" for problem in ordered]
    count = "1 mistake" if len(told) == 1 else f"{len(told)} mistakes"
    return RecipeError("\n".join([f"the recipe has {count}; nothing was run", *told]))


def near(word: str, known: Mapping[str, Any] | tuple[str, ...]) -> str:
    """The end of a message about an unknown ``word``: what was meant, or what there is."""
    close = get_close_matches(word, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known)}"


def read_recipe(path: Path) -> tuple[Recipe, list[Problem]]:
    """The recipe in the file ``path``, and what is wrong with its shape (steps that are wrong are left out).

    Raises:
        RecipeError: it cannot be read, or is not TOML.
        LimitError: it is too long, or nested too deeply.
    """
    data = read_regular(path, RecipeError, "a recipe", "RECIPE_BYTES")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path} is not text: byte {error.start} is not UTF-8; a recipe is a TOML file") from error
    return parse_recipe(text, path)


def parse_recipe(text: str, path: Path) -> tuple[Recipe, list[Problem]]:
    """As :func:`read_recipe`, of the text itself; ``path`` stands in messages and gives the default name."""
    text = text.replace("\r\n", "\n").removeprefix("\ufeff")
    limits.check("RECIPE_LINES", text.count("\n") + 1, path)
    try:
        table = parse_toml(text, RecipeError, path)
    except RecipeError as error:
        if isinstance(error.__cause__, tomllib.TOMLDecodeError):
            raise refused(path, [_syntax(str(error.__cause__), text)]) from error
        raise
    lines = _lines(text)
    problems = [
        Problem(lines[(key,)], f"a recipe has no {key!r}; {near(key, _TOP)}") for key in table if key not in _TOP
    ]
    name = _text(table, "name", lines, problems, path.stem)
    if not _NAME.fullmatch(name):
        problems.append(Problem(lines.get(("name",), 1), f"{name!r} is not a folder name; use letters and digits"))
    if SOURCE not in table:
        problems.append(Problem(1, 'no source; write for example source = "cnn" at the top'))
    source = Entry(_text(table, SOURCE, lines, problems, ""), lines.get((SOURCE,), 1))
    data = Entry(_text(table, "data", lines, problems, ""), lines[("data",)]) if "data" in table else None
    return Recipe(path, name, source, data, tuple(_steps(table, lines, problems))), problems


def _syntax(message: str, text: str) -> Problem:
    """What tomllib says, with the line taken out of its words."""
    found = _PLACE.search(message)
    line = int(found.group(1)) if found and found.group(1) else len(text.splitlines()) or 1
    return Problem(line, f"not valid TOML: {_PLACE.sub('', message)}")


def _text(
    table: Mapping[str, Any], key: str, lines: Mapping[tuple[str | int, ...], int], problems: list[Problem], other: str
) -> str:
    value = table.get(key, other)
    if isinstance(value, str) and (value or key not in table):
        return value
    problems.append(Problem(lines[(key,)], f"{key} is {shown(value)}; a text in quotes is wanted"))
    return other


def _steps(
    table: Mapping[str, Any], lines: Mapping[tuple[str | int, ...], int], problems: list[Problem]
) -> Iterator[RecipeStep]:
    given = table.get("step")
    if not isinstance(given, list) or not given or not all(isinstance(item, dict) for item in given):
        line = lines.get(("step",), lines.get(("step", 0), 1))
        problems.append(Problem(line, 'no steps; write them as [[step]] tables, each with do = "…"'))
        return
    before, seen = SOURCE, dict[str, int]()
    for index, item in enumerate(given):
        own = {key: lines.get(("step", index, key), lines.get(("step",), 1)) for key in item}
        line = lines.get(("step", index), lines.get(("step",), 1))
        do = item.get("do")
        if not isinstance(do, str) or not do:
            told = "this step has no do" if do is None else f"do is {shown(do)}"
            problems.append(Problem(own.get("do", line), f'{told}; write for example do = "export"'))
            continue
        name = item.get("name", do)
        place = own.get("name", own["do"])
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            problems.append(Problem(place, f"name is {shown(name)}; a text of letters, digits, '-', '_' is wanted"))
            name = do
        elif name == SOURCE:
            problems.append(Problem(place, f"{SOURCE!r} is the recipe's own source; give the step another name"))
        elif name in seen:
            problems.append(
                Problem(place, f'two steps are called {name!r} (the other: line {seen[name]}); give one a name = "…"')
            )
        seen.setdefault(name, line)
        parents = _parents(item.get("from", before), own.get("from", line), problems)
        options = {key: Entry(value, own[key]) for key, value in item.items() if key not in _OWN}
        yield RecipeStep(do, name, parents, options, line, own)
        before = name


def _parents(value: object, line: int, problems: list[Problem]) -> tuple[str, ...]:
    names = value if isinstance(value, list) else [value]
    if names and all(isinstance(name, str) for name in names):
        return tuple(dict.fromkeys(names))
    problems.append(Problem(line, f"from is {shown(value)}; the name of a step, or a list of names, is wanted"))
    return ()


def _lines(text: str) -> dict[tuple[str | int, ...], int]:
    """Path of every table and key -> its line, from 1; ``("step", 0, "do")`` is ``do`` of the first ``[[step]]``.

    tomllib gives no positions, so the statements of a valid text are parsed one by one. What stands inside one
    statement (an inline table) has the line the statement begins on.
    """
    found: dict[tuple[str | int, ...], int] = {}
    counts: dict[tuple[str | int, ...], int] = {}
    current: tuple[str | int, ...] = ()
    for line, statement in _statements(text):
        parsed = tomllib.loads(statement)
        if not statement.lstrip().startswith("["):
            for path in _paths(parsed, current):
                found.setdefault(path, line)
            continue
        current, inner = (), parsed
        while inner:
            ((key, value),) = inner.items()
            current = (*current, key)
            many = isinstance(value, list)  # only the last part of a [[header]]
            if many:
                counts[current] = counts.get(current, -1) + 1
            inner = {} if many else value
            if current in counts:
                found.setdefault(current, line)
                current = (*current, counts[current])
            found.setdefault(current, line)
    return found


_PARTS = re.compile(
    r'''"""(?:[^\\]|\\.)*?"{3,5}|\'{3}.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|\#[^\n]*|[\[{]|[\]}]|\n''', re.DOTALL
)
"""Strings and comments as a whole, brackets and ends of lines, in a valid TOML text."""


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """(line from 1, text) of each header and each ``key = value`` of a valid TOML text: a line ends a statement unless
    it ends within a string or brackets that are open."""
    start = depth = 0
    line = begin = 1
    for part in _PARTS.finditer(f"{text}\n"):
        found = part[0]
        line += found.count("\n")
        depth += (found in "[{") - (found in "]}")
        if found == "\n" and not depth:
            statement = text[start : part.start()]
            if statement.strip() and not statement.lstrip().startswith("#"):
                yield begin, statement
            start, begin = part.end(), line


def _paths(table: Mapping[str, Any], above: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    for key, value in table.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from _paths(value, (*above, key))
