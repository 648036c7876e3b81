"""The documents: README's command lines are valid, its tour runs as it stands, its links and names exist."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from edgekit.cli import VERBS
from edgekit.cli.program import group

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/results.md", "docs/security.md")


def _blocks(root: Path, *languages: str) -> list[tuple[str, str]]:
    found = BLOCK.findall((root / "README.md").read_text(encoding="utf-8"))
    return [(language, text) for language, text in found if language in languages]


def _lines(root: Path) -> list[str]:
    texts = [text for _, text in _blocks(root, "sh", "text")]
    lines = [line.partition("  #")[0].strip() for text in texts for line in text.splitlines()]
    return [line for line in lines if line.startswith("edgekit ")]


def _parse(line: str) -> None:
    """Parses a command line as the program would, without running it."""
    command: click.Command = group
    words = shlex.split(line)[1:]
    while isinstance(command, click.Group):
        with click.Context(command) as context:
            found = command.get_command(context, words[0])
        assert found is not None, line
        command, words = found, words[1:]
    command.make_context("edgekit", words)


def test_command_lines_are_valid(root: Path) -> None:
    lines = _lines(root)
    assert len(lines) >= 10
    for line in lines:
        _parse(line)


def test_parser_can_fail() -> None:
    with pytest.raises(click.UsageError):
        _parse("edgekit export cnn --two onnx -o build")


def test_tour_shows_most_verbs(root: Path) -> None:
    shown = {line.split()[1] for line in _lines(root)}
    assert set(VERBS) - shown <= {"models", "compare", "device", "doctor"}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links(document: str, root: Path) -> None:
    path = root / document
    missing = [link for link in LINK.findall(path.read_text(encoding="utf-8")) if not (path.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS[:2])
def test_files_that_are_named_exist(document: str, root: Path) -> None:
    text = (root / document).read_text(encoding="utf-8")
    named = set(re.findall(r"\b(?:edgekit|models|converters|scripts|tests|docs)/[\w/.-]*\w", text))
    missing = {name for name in named if "<" not in name and not (root / name).exists()}
    assert missing == set()


def test_ci_runs_the_test_command_of_the_readme(root: Path) -> None:
    commands = [text.split() for language, text in _blocks(root, "text") if "./scripts/quickstart" in text]
    assert commands == [["./scripts/quickstart", "./scripts/test"]]
    program = (root / ".ci/run").read_text(encoding="utf-8")
    assert "README.md" in program and "scripts/check" in program


@pytest.mark.slow
def test_tour_runs(root: Path, tmp_path: Path) -> None:
    """Every ``sh`` and ``python`` block of the README, in order, in one folder."""
    programs = Path(sys.executable).parent
    env = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    for language, text in _blocks(root, "sh", "python"):
        command = ["sh", "-e", "-c", text] if language == "sh" else [sys.executable, "-c", text]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    assert {"digits.onnx", "digits.tflite", "digits-int8.tflite"} <= {p.name for p in (tmp_path / "build").iterdir()}
