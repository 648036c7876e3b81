"""The commands a recipe can have as steps, asked themselves: what they take, give, and which options they have.

Nothing of it is written down a second time. The commands are those of the table ``steps`` (entry points add to it). The
name of a command's argument says what it takes, the metavar of its ``-o`` what it writes, and the options' own types
convert and check the values.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import click

from edgekit import registry
from edgekit.recipe import shown

Takes = Literal["family", "source", "model", "models"]
Gives = Literal["checkpoint", "files", "file", ""]
_GIVES: Mapping[str | None, Gives] = {"OUT.safetensors": "checkpoint", "DIR": "files", "OUT": "file", None: ""}
_WRITTEN = re.compile(r"PATH|FILE\..+")
"""Metavars of files that a command writes; a ``FILE`` is read."""
_CODE = "file.py:NAME"
FACTORY = "factory"
CODE_OF: Mapping[str, str] = {"against": FACTORY, "distil-from": "teacher-factory"}
"""Option that names a network -> the option that names its code."""
OUT = "out"


@dataclass(frozen=True, slots=True)
class Verb:
    """One command as a step.

    Attributes:
        name: of the command.
        command: the click command itself.
        takes: its argument: ``family``, ``source`` (a network), ``model`` (one file), ``models`` (any number; one run
            takes all of them only if it gives no file, or chooses among them).
        gives: ``checkpoint``, ``files`` (one a format of ``to``, in a folder), ``file`` (the format of the one it
            took), or nothing.
        options: name without dashes -> option, those that a recipe may set.
    """

    name: str
    command: click.Command
    takes: Takes
    gives: Gives
    options: Mapping[str, click.Option]

    @property
    def context(self) -> click.Context:
        return click.Context(self.command, info_name=f"edgekit {self.name}")


@cache
def verb(name: str) -> Verb:
    """The step called ``name``.

    Raises:
        UsageError: no such step.
        TypeError: what an entry point brings is not a command that could be a step.
    """
    command = registry.lookup("steps", name)
    arguments = [p for p in command.params if isinstance(p, click.Argument)]
    takes: Any = arguments[0].name if len(arguments) == 1 else None
    exposed = [p for p in command.params if isinstance(p, click.Option) and p.expose_value]
    outs = [option.metavar for option in exposed if option.name == OUT]
    gives = _GIVES.get(outs[0] if outs else None)
    if takes not in ("family", "source", "model", "models") or gives is None:
        raise TypeError(f"the command {name!r} takes {takes} and writes {outs}: it cannot be a step of a recipe")
    options = {long_name(option): option for option in exposed if option.name != OUT}
    return Verb(name, command, takes, gives, options)


@cache
def names() -> tuple[str, ...]:
    """The names of all steps that a recipe may have."""
    return registry.names("steps")


def long_name(option: click.Option) -> str:
    """``max-drop`` of ``--max-drop``."""
    return max(option.opts, key=len).lstrip("-")


def takes_network(option: click.Option) -> bool:
    """Whether the option names a network or a model file, so that it may name a step too (``against``)."""
    return "SOURCE" in (option.metavar or "")


def names_code(option: click.Option) -> bool:
    """Whether the option names the user's own code, ``file.py:factory``."""
    return option.metavar == _CODE


def reads_file(option: click.Option) -> bool:
    """Whether the option must name a file that is there."""
    return option.metavar == "FILE"


def writes_file(option: click.Option) -> bool:
    """Whether the option names a file that the command writes."""
    return bool(_WRITTEN.fullmatch(option.metavar or ""))


def wrong(kind: Verb, option: click.Option, value: object) -> str | None:
    """What is wrong with one ``value`` of ``option``; None if nothing is.

    Kinds are those of TOML (5 is not text, "5" not a number); ranges and choices are those of the option.
    """
    wanted = _kind(option)
    if not _is(value, option):
        return f"{long_name(option)} is {shown(value)}; {wanted} is wanted"
    try:
        option.process_value(kind.context, prepared(option, value))
    except click.BadParameter as error:
        return f"{long_name(option)}: {error.message.rstrip('.')}"
    return None


def prepared(option: click.Option, value: Any) -> Any:
    """``value`` as the command line would bring it to the option."""
    if option.is_flag:
        return value
    return tuple(map(_word, listed(value))) if option.multiple else _word(value)


def listed(value: Any) -> list[Any]:
    """A list or tuple as a list; one value as a list of it."""
    return list(value) if isinstance(value, list | tuple) else [value]


def arguments(options: Mapping[str, Any], kind: Verb) -> list[str]:
    """The words of the command line that say ``options``."""
    words: list[str] = []
    for name, value in options.items():
        option = kind.options[name]
        spelled = max(option.opts, key=len)
        if option.is_flag:
            off = max(option.secondary_opts, key=len) if option.secondary_opts else None
            words += [spelled] if value else [off] if off else []
            continue
        for one in listed(value) if option.multiple else [value]:
            word = _word(one)
            words += [f"{spelled}={word}"] if word.startswith("-") else [spelled, word]
    return words


def _word(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def _is(value: object, option: click.Option) -> bool:
    if option.is_flag:
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    if isinstance(option.type, click.types.IntParamType):
        return isinstance(value, int)
    if isinstance(option.type, click.types.FloatParamType):
        return isinstance(value, int | float) and math.isfinite(value)
    if option.callback is not None:  # it reads numbers out of its text
        return isinstance(value, str | int)
    return isinstance(value, str) and bool(value)


def _kind(option: click.Option) -> str:
    if option.is_flag:
        return "true or false"
    if isinstance(option.type, click.types.IntParamType):
        return "an integer"
    if isinstance(option.type, click.types.FloatParamType):
        return "a number"
    if isinstance(option.type, click.Choice):
        return f"one of {', '.join(map(str, option.type.choices))}"
    return "a text in quotes"
