"""Progress: lines where there is no terminal, bars in one, nothing with -q; colours only where they are wanted."""

from __future__ import annotations

import fcntl
import io
import logging
import os
import pty
import re
import struct
import sys
import termios
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from rich.cells import cell_len

from edgekit.cli.options import emit, output_options
from edgekit.pipeline.bench.fleet import shown
from edgekit.progress import task, track
from edgekit.report.epochs import epochs_shown
from edgekit.report.text import show, table
from edgekit.report.wrap import fitted
from edgekit.results.base import Result

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@click.command()
@output_options
def work() -> None:
    with epochs_shown(2) as report:
        for epoch in (1, 2):
            report(epoch, 2, 0.5, 0.875, "validation accuracy")
    logging.getLogger("edgekit").info("%s", "a line of the log that is longer than the terminal is wide " * 2)
    assert list(track([1, 2, 3], "calibrating", 3)) == [1, 2, 3]
    with shown({"pi", "cpu"}) as fleet:
        fleet("cpu", "timing", 3, 40)
        fleet("pi", "loading", 0, 2)
        fleet("cpu", "timing", 4, 40)
    emit("work", Result(), lambda _: table(("verdict", "n"), [("faster", 1)]))


def in_terminal(command: list[str], columns: int, **environment: str) -> str:
    """What the terminal gets of a command that has it for all its streams."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR", "FORCE_COLOR")}
    streams = [(os.POSIX_SPAWN_DUP2, follower, stream) for stream in (0, 1, 2)]
    child = os.posix_spawn(command[0], command, kept | {"TERM": "xterm"} | environment, file_actions=streams)
    os.close(follower)
    found = b""
    while True:
        try:
            part = os.read(leader, 1 << 16)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        found += part
    os.close(leader)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, found.decode()
    return found.decode()


@pytest.fixture
def script(tmp_path: Path) -> list[str]:
    """The command line of ``work`` in a process of its own."""
    file = tmp_path / "work.py"
    file.write_text(
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\nimport test_progress as t\nt.work()"
    )
    return [sys.executable, str(file)]


def test_lines_where_there_is_no_terminal() -> None:
    result = CliRunner().invoke(work)
    assert result.stderr.splitlines() == [
        "epoch 1 of 2: loss 0.5000, validation accuracy 87.50%",
        "epoch 2 of 2: loss 0.5000, validation accuracy 87.50%",
        "a line of the log that is longer than the terminal is wide " * 2,
        "cpu: timing",
        "pi: loading",
    ]
    assert result.stdout.split() == ["verdict", "n", "─" * 10, "faster", "1"]


def test_quiet() -> None:
    result = CliRunner().invoke(work, ["-q"])
    assert (result.exit_code, result.output) == (0, "")


@pytest.mark.parametrize("columns", [60, 80])
def test_a_terminal(script: list[str], columns: int) -> None:
    found = in_terminal(script, columns)
    assert "2/2" in found and "training: loss" in found
    assert "3/3" in found and "cpu: timing" in found and "4/40" in found
    assert "\x1b[32mfaster" in found, "a verdict has its colour"
    lines = ESCAPES.sub("", found).replace("\r", "\n").splitlines()
    assert max(map(cell_len, lines)) <= columns, lines
    words = {word for line in lines for word in line.split()}
    assert {"longer", "terminal", "wide"} <= words, "no word is broken"
    assert list(filter(None, lines))[-1].split() == ["faster", "1"], "the bars are gone"


def test_quiet_in_a_terminal(script: list[str]) -> None:
    assert in_terminal([*script, "-q"], 80) == ""


def test_no_color(script: list[str]) -> None:
    found = in_terminal(script, 80, NO_COLOR="1")
    assert "2/2" in found and not re.search(r"\x1b\[[0-9;]*m", found)
    assert not re.search(r"\x1b\[[0-9;]*m", in_terminal(script, 80, NO_COLOR="1", FORCE_COLOR="1"))


def test_a_dumb_terminal(script: list[str]) -> None:
    found = in_terminal(script, 80, TERM="dumb")
    assert "\x1b" not in found and "epoch 2 of 2" in found


def test_columns_go_before_the_window(script: list[str]) -> None:
    found = ESCAPES.sub("", in_terminal(script, 200, COLUMNS="50")).replace("\r", "\n")
    assert max(map(cell_len, found.splitlines())) <= 50


@pytest.mark.parametrize(("forced", "coloured"), [("1", True), ("0", False), ("", False)])
def test_force_color_in_a_pipe(forced: str, coloured: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", forced)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = io.StringIO()
    show(table(("verdict",), [("slower",)]), stream)
    assert ("\x1b[31mslower" in stream.getvalue()) == coloured
    result = CliRunner().invoke(work)
    assert "epoch 2 of 2" in result.stderr and "\x1b" not in result.stderr, "no bars where there is no terminal"


def test_messages_are_cut_for_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    text = "edgekit: this is more than twenty columns"
    stream = io.StringIO()
    assert fitted(text, stream) == text
    monkeypatch.setattr(stream, "isatty", lambda: True)
    assert fitted(text, stream) == "edgekit: this is\n  more than twenty\n  columns"


def test_tasks_for_nobody(capfd: pytest.CaptureFixture[str]) -> None:
    with task("calibrating", 3) as going:
        going.update(1)
    assert capfd.readouterr() == ("", "")


def test_logging_is_as_it_was_afterwards() -> None:
    logger = logging.getLogger("edgekit")
    before = logger.level, logger.propagate, list(logger.handlers)
    CliRunner().invoke(work)
    assert (logger.level, logger.propagate, list(logger.handlers)) == before
