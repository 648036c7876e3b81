"""Every command and option has help, the lazy table repeats it, and every command stands in the README."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import click
import pytest

from edgekit.cli import VERBS
from edgekit.cli.program import group, run
from edgekit.cli.verbs import EXAMPLES, GROUPS


def _command(verb: str) -> click.Command:
    found = importlib.import_module(VERBS[verb][0]).command
    assert isinstance(found, click.Command)
    return found


def _all(verb: str) -> list[click.Command]:
    command = _command(verb)
    return [command, *command.commands.values()] if isinstance(command, click.Group) else [command]


def test_every_module_of_the_room_is_a_verb_or_a_helper(root: Path) -> None:
    modules = {f"edgekit.cli.{file.stem}" for file in (root / "edgekit/cli").glob("*.py")}
    helpers = {f"edgekit.cli.{name}" for name in ("__init__", "generate", "options", "program", "progress", "verbs")}
    assert modules - helpers == {module for module, _ in VERBS.values()}


@pytest.mark.parametrize("verb", VERBS)
def test_table_repeats_the_help(verb: str) -> None:
    text = " ".join((_command(verb).help or "").split("\n\n")[0].split())
    assert text == VERBS[verb][1]


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_and_option_has_help(verb: str) -> None:
    for command in _all(verb):
        assert command.help, command.name
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{verb} {parameter.opts}"


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_takes_the_output_options(verb: str) -> None:
    for command in _all(verb):
        if isinstance(command, click.Group):
            continue
        names = {name for parameter in command.params for name in parameter.opts}
        assert {"--json", "-q", "--quiet", "--debug"} <= names, f"{verb} {command.name}"


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_stands_in_the_readme(verb: str, root: Path) -> None:
    assert f"`edgekit {verb}" in (root / "README.md").read_text(encoding="utf-8")


def test_group_help_lists_every_verb() -> None:
    with click.Context(group, info_name="edgekit") as context:
        text = " ".join(group.get_help(context).split())
    for verb, (_, line) in VERBS.items():
        assert f"{verb} {line}" in text


def test_every_verb_stands_in_one_group() -> None:
    assert sorted(verb for verbs in GROUPS.values() for verb in verbs) == sorted(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_the_example_of_a_verb_is_a_command_line_that_it_takes(verb: str, tmp_path: Path, monkeypatch: Any) -> None:
    """Its help ends with it, on one line where there is room."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    program, name, *words = EXAMPLES[verb].split()
    assert (program, name) == ("edgekit", verb)
    with click.Context(group, info_name="edgekit", terminal_width=120) as context:
        command = group.get_command(context, verb)
        assert command is not None
        assert EXAMPLES[verb] in command.get_help(click.Context(command, info_name=verb, terminal_width=140))
        if isinstance(command, click.Group):
            verb, *words = words
            command = command.commands[verb]
        command.make_context(verb, words, parent=context)
        with pytest.raises(click.UsageError):
            command.make_context(verb, [*words, "--no-such-option"], parent=context)


@pytest.mark.parametrize("words", [["-q", "models"], ["models", "-q"], ["--quiet", "models", "--debug"]])
def test_quiet_and_debug_stand_before_the_verb_or_after_it(words: list[str], capsys: Any) -> None:
    assert run(words) == 0
    assert capsys.readouterr().out == ""


def test_debug_before_the_verb_shows_the_traceback(capsys: Any) -> None:
    assert run(["--debug", "inspect", "there-is-none.onnx"]) == 3
    assert "Traceback" in capsys.readouterr().err


def test_lazy_group_gives_the_same_commands() -> None:
    with click.Context(group) as context:
        assert group.list_commands(context) == list(VERBS)
        assert group.get_command(context, "nonsense") is None
        found = group.get_command(context, "inspect")
    assert found is not None and found.name == "inspect"
