"""The verbs a recipe can have as steps: what they take, give, and which options they have.

Nothing of it is written down a second time: it is read off the dataclass of the verb's options. The verbs are those of
the table ``steps`` (entry points add to it).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from edgekit import registry
from edgekit.options.base import Gives, OptionField, Options, Takes, option_fields
from edgekit.pipeline.steps import StepKind

FACTORY = "factory"
CODE_OF: Mapping[str, str] = {"against": FACTORY, "distil-from": "teacher-factory"}
"""Option that names a network -> the option that names its code."""


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb as a step.

    Attributes:
        name: of the verb.
        kind: its options and its function.
        argument: the field of what it takes.
        takes: ``family``, ``source`` (a network), ``model`` (one file), ``models`` (any number; one run takes all of
            them only if it gives no file, or chooses among them).
        gives: ``checkpoint``, ``files`` (one a format of ``to``, in a folder), ``file`` (the format of the one it
            took), or nothing.
        options: name without dashes -> option, those that a recipe may set.
    """

    name: str
    kind: StepKind
    argument: str
    takes: Takes
    gives: Gives
    options: Mapping[str, OptionField]

    def named(self, name: str) -> str:
        """The name of an option that a recipe calls ``name``, which may be an older one."""
        return next((one.word for one in self.options.values() if name in one.words), name)

    def typed(self, values: Mapping[str, Any], taken: Any, out: str | None) -> Options:
        """The options of a run: ``values`` by the names a recipe has for them, what it takes, where it writes.

        Raises:
            UsageError: a value that is wrong by itself.
        """
        return self.kind.options(**self.keywords(values, taken, out))

    def keywords(self, values: Mapping[str, Any], taken: Any, out: str | None) -> dict[str, Any]:
        """The same as keywords of the verb's function."""
        rows = {self.options[name].name: value for name, value in values.items()}
        return {self.argument: taken, **rows, **({} if out is None else {"out": out})}


@cache
def verb(name: str) -> Verb:
    """The step called ``name``.

    Raises:
        UsageError: no such step.
        TypeError: what an entry point brings could not be a step.
    """
    kind = registry.lookup("steps", name)
    if not isinstance(kind, StepKind):
        raise TypeError(f"the step {name!r} is a {type(kind).__name__}, not a StepKind")
    known = option_fields(kind.options)
    arguments = [one for one in known if one.option.takes]
    if len(arguments) != 1 or arguments[0].option.takes == "words":
        raise TypeError(f"the step {name!r} has to take one family, source, model or several models")
    gives: Gives = next((one.option.gives for one in known if one.option.gives), "")
    options = {one.word: one for one in known if not (one.option.takes or one.option.gives or one.option.python)}
    return Verb(name, kind, arguments[0].name, arguments[0].option.takes, gives, options)


@cache
def names() -> tuple[str, ...]:
    """The names of all steps that a recipe may have."""
    return registry.names("steps")


def wrong(option: OptionField, value: object) -> str | None:
    """What is wrong with one ``value`` of ``option`` in a recipe; None if nothing is.

    Kinds are those of TOML: 5 is not text, "5" not a number; no value stands for what is not given.
    """
    if value is None or value == "":
        return f"{option.word} is {value!r}; {option.wanted} is wanted"
    problem = option.problem(value)
    return None if problem is None else f"{option.word} is {problem}"


def listed(value: Any) -> list[Any]:
    """A list or tuple as a list; one value as a list of it."""
    return list(value) if isinstance(value, list | tuple) else [value]


def arguments(options: Mapping[str, Any], kind: Verb) -> list[str]:
    """The words of the command line that say ``options``."""
    words: list[str] = []
    for name, value in options.items():
        option = kind.options[name]
        if option.kind == "flag":
            words += [option.flag] if value else [option.option.off] if option.option.off else []
            continue
        for one in listed(value):
            word = one if isinstance(one, str) else repr(one)
            words += [f"{option.flag}={word}"] if word.startswith("-") else [option.flag, word]
    return words
