"""A dataclass of options -> a click command: flags, help, defaults and hidden older names all come from its fields."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from edgekit.cli.options import State, output_options
from edgekit.options.base import OptionField, Options, option_fields


class VerbCommand(click.Command):
    """A command that also takes the older names of its options, which its help does not show. ``page``: whether it has
    ``--html``; ``log``: whether it has ``--log``."""

    def __init__(self, kind: type[Options], page: bool = False, log: bool = False, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.kind = kind
        self.page, self.log = page, log
        self.aliases = {
            f"--{alias}": one.flag
            for one in option_fields(kind)
            if not one.option.takes
            for alias in one.option.aliases
        }

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        return super().parse_args(ctx, [*map(self._renamed, args[:end]), *args[end:]])

    def _renamed(self, word: str) -> str:
        name, equals, value = word.partition("=")
        return self.aliases.get(name, name) + equals + value


def verb_command(
    kind: type[Options], *, page: bool = False, log: bool = False
) -> Callable[[Callable[..., None]], click.Command]:
    """Makes a command of a function that takes the options the user gave as keywords, under the names of the fields.

    What was not given is left to the defaults of ``kind``. The function's docstring is the help. ``page``: it takes
    ``--html``, too; ``log``: ``--log``.
    """

    def decorate(function: Callable[..., None]) -> click.Command:
        known = [one for one in option_fields(kind) if not one.option.python]

        guarded = output_options(function, page=page, log=log)

        def checked(**values: Any) -> None:
            given = {name: value for name, value in values.items() if value is not None and value != ()}
            for one in known:
                wrong = one.problem(given[one.name]) if one.name in given else None
                if wrong is not None:
                    raise click.UsageError(f"{one.flag} is {wrong}", click.get_current_context())
            state = click.get_current_context().ensure_object(State)
            state.parameters = {one.word: given.get(one.name, _default(one)) for one in known}
            state.outputs = tuple(
                Path(given[one.name]) for one in known if one.option.names == "output" and one.name in given
            )
            guarded(**given)

        own = [argument(one) if one.option.takes else option(one) for one in known]
        return VerbCommand(
            kind,
            page,
            log,
            name=function.__name__,
            callback=checked,
            params=[*own, *reversed(guarded.__click_params__)],  # type: ignore[attr-defined]  # click's own attribute
            help=function.__doc__,
        )

    return decorate


def _default(one: OptionField) -> Any:
    return None if one.default is MISSING else one.default


def argument(one: OptionField) -> click.Argument:
    """The click argument of a field."""
    several = -1 if one.several else 1
    return click.Argument([one.name], metavar=one.option.metavar, nargs=several, required=one.required, type=_type(one))


def option(one: OptionField) -> click.Option:
    """The click option of a field; None stands for what was not given."""
    names = [*(one.option.flags or (one.flag,))]
    if one.kind == "flag":
        return click.Option([one.name, *(f"{n}/{one.option.off}" if one.option.off else n for n in names)],
                            is_flag=True, default=None, help=help_of(one))  # fmt: skip
    return click.Option(
        [one.name, *names],
        type=_type(one),
        multiple=one.several,
        default=None,
        required=one.required,
        metavar=one.option.metavar or None,
        help=help_of(one),
    )


def help_of(one: OptionField) -> str:
    """The help of an option with its default, its choices and its bounds."""
    facts = facts_of(one)
    return one.option.help + (f"  [{'; '.join(facts)}]" if facts else "")


def facts_of(one: OptionField) -> list[str]:
    """Default, choices and bounds of an option, where its help does not say them."""
    facts = []
    value = f"{one.default:g}" if isinstance(one.default, float) else str(one.default)
    default = one.option.default or ("" if one.kind == "flag" or one.default in (MISSING, None, (), "") else value)
    if default and not one.option.python:
        facts.append(f"default: {default}")
    if one.option.choices and not all(choice in one.option.help for choice in one.option.choices):
        facts.append(" or ".join(one.option.choices))
    if one.bounds:
        facts.append(one.bounds)
    return facts


def _type(one: OptionField) -> click.ParamType[Any]:
    if one.kind == "integer" and not one.option.commas:
        return click.INT
    if one.kind == "number" and not one.option.commas:
        return click.FLOAT
    return _Text(one.option.choices)


class _Text(click.types.StringParamType):
    """Text, for which a shell completes the choices."""

    def __init__(self, choices: tuple[str, ...]) -> None:
        self.choices = choices

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(choice) for choice in self.choices if choice.startswith(incomplete)]
