"""Writes docs/reference.md, the options of every command and Python function; see scripts/reference."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import click

from edgekit.cli.generate import VerbCommand, facts_of
from edgekit.cli.verbs import VERBS
from edgekit.options.base import OptionField, option_fields

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference.md"
HEAD = """# Reference: the options of every command

Made by `scripts/reference` from the dataclasses in `edgekit/options/`. A recipe writes the same names without
the dashes; the Python functions take the name of the last column. `--json PATH`, `-q` and `--debug` belong to every
command.
"""


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(part for name, command in commands() for part in _section(name, command))])


def commands() -> Iterator[tuple[str, VerbCommand]]:
    """Name as it is typed and command, in the order of ``edgekit --help``."""
    for name, (module, _) in VERBS.items():
        command = importlib.import_module(module).command
        parts = command.commands.items() if isinstance(command, click.Group) else [("", command)]
        for part, one in parts:
            assert isinstance(one, VerbCommand), f"{name} {part} is not made from a dataclass of options"
            yield f"{name} {part}".rstrip(), one


def _section(name: str, command: VerbCommand) -> Iterator[str]:
    known = option_fields(command.kind)
    usage = " ".join(one.flag for one in known if one.option.takes)
    yield f"## {name}\n"
    yield f"`edgekit {name}{' ' if usage else ''}{usage}`: {(command.help or '').splitlines()[0]}\n"
    if known:
        yield "| option | meaning | Python |\n| --- | --- | --- |"
        yield "\n".join(map(_row, known)) + "\n"


def _row(one: OptionField) -> str:
    typed = ", ".join(one.option.flags) or one.flag
    typed += f"/{one.option.off}" if one.option.off else ""
    metavar = f" {one.option.metavar}" if one.option.metavar and not one.option.takes else ""
    facts = [*facts_of(one), *(["required"] if one.required else []), *(f"also --{a}" for a in _older(one))]
    meaning = one.option.help + (f" [{'; '.join(facts)}]" if facts else "")
    name = "" if one.option.python else f"`{typed}{metavar}`"
    cells = (name, meaning, f"`{one.name}`")
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _older(one: OptionField) -> tuple[str, ...]:
    return () if one.option.takes else one.option.aliases


if __name__ == "__main__":
    main()
