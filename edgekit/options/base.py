"""What an option is, how its value is checked, and the function that a dataclass of options turns a verb into.

A verb's options are a frozen dataclass; each field has a :class:`Option` in its metadata::

    @dataclass(frozen=True, slots=True, kw_only=True)
    class QuantizeOptions(Options):
        model: str | Path = field(kw_only=False, metadata=option("A float file.", takes="model"))
        max_drop: float | None = field(default=None, metadata=option("Largest loss.", at_least=0))

Annotations say the type: ``bool`` (a flag), ``int``, ``float``, ``str | Path``, or a ``Sequence`` of one of these (an
option that may be repeated; one value will do). The name on the command line is that of the field with dashes.
"""

from __future__ import annotations

import functools
import inspect
import math
import numbers
import os
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, make_dataclass
from difflib import get_close_matches
from typing import Any, Literal, ParamSpec, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from edgekit.errors import UsageError
from edgekit.registry import TABLES, lookup, names

P = ParamSpec("P")
AnyOptions = TypeVar("AnyOptions", bound="Options")
R = TypeVar("R")

ValueKind = Literal["flag", "integer", "number", "text", "object"]
Takes = Literal["", "family", "source", "model", "models", "words"]
Names = Literal["", "network", "code", "data", "input", "output", "device", "runtime", "format", "calibration"]
Gives = Literal["", "checkpoint", "files", "file"]
_KEY = "edgekit.option"


@dataclass(frozen=True, slots=True)
class Option:
    """What an option is beside the name, type and default of its field.

    Attributes:
        help: a sentence for ``--help``, the docstring of the Python function and the reference page.
        metavar: what stands for the value in ``--help``.
        choices: the values there are; empty: any.
        at_least, above, at_most, below: bounds of a number, or of each of several.
        example: what a number within the bounds means, for the message about one that is not.
        flags: as typed, where they are not ``--field-name``.
        off: the flag that says the opposite of a ``bool``.
        aliases: older names, without dashes; they still work everywhere, and are not shown.
        commas: one text may hold several values, separated by commas.
        default: words for the default in the help, where the value itself does not say it.
        takes: an argument: what the command takes. A verb has at most one that is not ``words``.
        names: what the value names.
        gives: of ``-o``: what a step of a recipe hands on.
        python: an argument of the Python function only.
    """

    help: str
    metavar: str = ""
    choices: tuple[str, ...] = ()
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    example: str = ""
    flags: tuple[str, ...] = ()
    off: str = ""
    aliases: tuple[str, ...] = ()
    commas: bool = False
    default: str = ""
    takes: Takes = ""
    names: Names = ""
    gives: Gives = ""
    python: bool = False


def option(help: str, **facts: Any) -> Mapping[str, Option]:
    """The metadata of a field: an :class:`Option` of these facts."""
    return {_KEY: Option(help, **facts)}


def changed(metadata: Mapping[str, Option], **facts: Any) -> Mapping[str, Option]:
    """The metadata of an option that several verbs have, with another text or fact for one of them."""
    known = metadata[_KEY]
    return {_KEY: Option(**{**{f.name: getattr(known, f.name) for f in fields(Option)}, **facts})}


@dataclass(frozen=True, slots=True)
class OptionField:
    """A field of a dataclass of options, as the command line, recipes and the reference page need it.

    Attributes:
        name: of the field.
        option: what else is known of it.
        kind: of its value, or of each of several; ``object`` for what is checked where it is used.
        several: whether it may be repeated.
        nullable: whether None is a value.
        mapping: whether a mapping is one.
        default: :data:`dataclasses.MISSING` where it is required.
    """

    name: str
    option: Option
    kind: ValueKind
    several: bool
    nullable: bool
    mapping: bool
    default: Any

    @property
    def word(self) -> str:
        """The name on the command line and in recipes: ``max-drop`` of ``max_drop``, ``for`` of ``for_``."""
        return self.name.rstrip("_").replace("_", "-")

    @property
    def flag(self) -> str:
        """The name as it is typed and as messages call it: ``--max-drop``, ``-o``, or ``MODEL`` of an argument."""
        if self.option.takes:
            return self.option.metavar or self.word.upper()
        return self.option.flags[0] if self.option.flags else f"--{self.word}"

    @property
    def required(self) -> bool:
        return self.default is MISSING

    @property
    def words(self) -> tuple[str, ...]:
        """Its name and its older ones, as recipes may write them."""
        return (self.word, *self.option.aliases)

    def values(self, value: Any) -> tuple[Any, ...]:
        """The values in ``value``: of one that may be repeated, each; texts with commas are taken apart."""
        if not self.several:
            return (value,)
        given = tuple(value) if isinstance(value, list | tuple) else (value,)
        if self.option.commas:
            given = tuple(
                part
                for one in given
                for part in ([p.strip() for p in one.split(",") if p.strip()] if isinstance(one, str) else [one])
            )
        return tuple(_number(one) for one in given) if self.kind == "integer" else given

    def problem(self, value: Any) -> str | None:
        """What is wrong with ``value``, after the option's name and ``is``; None if nothing is."""
        if (value is None and self.nullable) or (isinstance(value, Mapping) and self.mapping):
            return None
        if self.several and value in ((), []):
            return None if not self.required else f"{shown(value)}; give at least one"
        values = self.values(value)
        if not values:
            return f"{shown(value)}; give at least one"
        for one in values:
            if not self._is_kind(one):
                return f"{shown(one)}; {self.wanted} is wanted"
            if self.option.choices and one not in self.option.choices:
                return f"{one!r}; there are: {', '.join(self.option.choices)}"
            if self.kind in ("integer", "number") and not self._is_within(one):
                example = f" ({self.option.example})" if self.option.example else ""
                return f"{one:g}; give {self.bounds}{example}"
        return None

    @property
    def wanted(self) -> str:
        """What kind of value it takes, in words."""
        words = {"flag": "true or false", "integer": "an integer", "number": "a number", "text": "text"}
        return words.get(self.kind, "another value")

    @property
    def bounds(self) -> str:
        """``more than 0 and at most 3600``; empty without bounds."""
        option = self.option
        low = None if option.above is None else f"more than {option.above:g}"
        low = low if option.at_least is None else f"{option.at_least:g} or more"
        high = None if option.below is None else f"less than {option.below:g}"
        high = high if option.at_most is None else f"at most {option.at_most:g}"
        return " and ".join(part for part in (low, high) if part)

    def _is_within(self, value: float) -> bool:
        option = self.option
        return (
            (option.at_least is None or value >= option.at_least)
            and (option.above is None or value > option.above)
            and (option.at_most is None or value <= option.at_most)
            and (option.below is None or value < option.below)
            and math.isfinite(value)
        )

    def _is_kind(self, value: Any) -> bool:
        if self.kind in ("flag", "object"):
            return self.kind == "object" or isinstance(value, bool)
        if self.kind == "text":
            return isinstance(value, str | os.PathLike)
        wanted = numbers.Integral if self.kind == "integer" else numbers.Real
        return isinstance(value, wanted) and not isinstance(value, bool)


def _number(value: Any) -> Any:
    """The integer that a text spells; the value itself where it spells none."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() else value


def shown(value: Any) -> str:
    """A value and its kind, for messages."""
    if isinstance(value, bool):
        return f"{str(value).lower()} (a truth value)"
    kinds = {str: "text", int: "an integer", float: "a number", list: "a list", dict: "a table"}
    text = repr(value) if len(repr(value)) < 60 else f"{repr(value)[:57]}..."
    return f"{text} ({kinds.get(type(value), type(value).__name__)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of a verb. Values are checked one by one as they are set; what does not go together is for the verb.

    Raises:
        UsageError: a value of another type, out of range, or not among the choices.
    """

    named: frozenset[str] = field(default=frozenset(), init=False, repr=False, compare=False)
    """The options that the caller of the verb's function or the user of the command line named; see
    :func:`with_options`."""

    def __post_init__(self) -> None:
        for one in option_fields(type(self)):
            value = getattr(self, one.name)
            wrong = one.problem(value)
            if wrong is not None:
                raise UsageError(f"{one.flag} is {wrong}")
            if one.several and value is not None and not isinstance(value, Mapping):
                object.__setattr__(self, one.name, one.values(value))

    def given(self) -> dict[str, Any]:
        """The options whose values are not the defaults, by the names of their fields."""
        return {
            one.name: getattr(self, one.name)
            for one in option_fields(type(self))
            if getattr(self, one.name) != one.default
        }


def option_fields(kind: type[Options]) -> tuple[OptionField, ...]:
    """The options of a verb: its arguments first, then the others in the order of the fields."""
    known: tuple[OptionField, ...] = _option_fields(cast(Any, kind))
    return known


@functools.cache
def _option_fields(kind: Any) -> tuple[OptionField, ...]:
    hints = get_type_hints(kind)
    found = [_option_field(one, hints[one.name]) for one in fields(kind) if _KEY in one.metadata]
    return tuple(sorted(found, key=lambda one: not one.option.takes))


def with_plugins(table: str) -> Callable[[type[AnyOptions]], type[AnyOptions]]:
    """Adds to a verb's options those of what other packages bring to a table of the registry: the fields of the
    dataclass in ``options`` of each entry that has one."""

    def decorate(kind: type[AnyOptions]) -> type[AnyOptions]:
        brought = [getattr(lookup(table, name), "options", None) for name in names(table) if name not in TABLES[table]]
        own = [
            (one.name, get_type_hints(options)[one.name], field(default=one.default, metadata=one.metadata))
            for options in brought
            if options is not None
            for one in fields(options)
            if _KEY in one.metadata
        ]
        if not own:
            return kind
        facts = {"__module__": kind.__module__, "__doc__": kind.__doc__}
        how = {"frozen": True, "slots": True, "kw_only": True}
        made: Any = make_dataclass(kind.__name__, own, bases=(kind,), namespace=facts, **how)
        return cast(type[AnyOptions], made)

    return decorate


def flag_of(kind: type[Options], name: str) -> str:
    """The flag of the field ``name``, as messages call it."""
    return next(one.flag for one in option_fields(kind) if one.name == name)


def _option_field(one: Field[Any], hint: Any) -> OptionField:
    kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    several = any(get_origin(kind) is Sequence for kind in kinds)
    inner = {part for kind in kinds for part in (get_args(kind)[0] if get_origin(kind) is Sequence else kind,)}
    inner |= {part for kind in inner if get_origin(kind) in (Union, types.UnionType) for part in get_args(kind)}
    names: dict[Any, ValueKind] = {bool: "flag", int: "integer", float: "number", str: "text"}
    own = [name for type_, name in names.items() if type_ in inner]
    kind_name: ValueKind = own[0] if len(own) == 1 else "object"
    default = one.default if one.default_factory is MISSING else one.default_factory()
    mapping = any(get_origin(kind) is Mapping for kind in kinds)
    return OptionField(one.name, one.metadata[_KEY], kind_name, several, type(None) in kinds, mapping, default)


def with_options(kind: Callable[P, AnyOptions]) -> Callable[[Callable[[AnyOptions], R]], Callable[P, R]]:
    """Makes a function of the fields of ``kind`` out of a function of its instances.

    ``@with_options(EvalOptions) def evaluate(options: EvalOptions)`` is called as ``evaluate(model, data="digits")``,
    with the signature of the dataclass for type checkers and ``help``.
    """

    def decorate(run: Callable[[AnyOptions], R]) -> Callable[P, R]:
        known = option_fields(cast(Any, kind))  # a class, of which the type says the signature
        signature = inspect.signature(kind)
        aliases = {alias.replace("-", "_"): one.name for one in known for alias in one.option.aliases}

        @functools.wraps(run)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            named = {aliases.get(name, name): value for name, value in kwargs.items()}
            try:
                bound = signature.bind(*args, **named)
            except TypeError as error:
                raise UsageError(_unbound(run.__name__, known, named) or f"{run.__name__}: {error}") from error
            options = kind(*bound.args, **bound.kwargs)
            object.__setattr__(options, "named", frozenset(k for k, v in bound.arguments.items() if v is not None))
            return run(options)

        call.__signature__ = signature.replace(return_annotation=run.__annotations__.get("return"))  # type: ignore[attr-defined]
        call.__doc__ = f"{inspect.cleandoc(run.__doc__ or '')}\n\nArgs:\n{_documented(known)}"
        return call

    return decorate


def _unbound(verb: str, known: Sequence[OptionField], given: Mapping[str, Any]) -> str:
    """What is wrong with the keywords ``given``: an unknown one, or one that is missing; empty for something else."""
    names = [one.name for one in known]
    for name in given:
        if name not in names:
            close = get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(sorted(names))}"
            return f"{verb} has no option {name}; {hint}"
    missing = [one for one in known if one.required and one.name not in given and not one.option.takes]
    return f"{verb} needs {missing[0].name}: {missing[0].option.help}" if missing else ""


def _documented(known: Sequence[OptionField]) -> str:
    return "\n".join(f"    {one.name}: {one.option.help}" for one in known)
