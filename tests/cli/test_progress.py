"""Progress of training: lines where there is no terminal, a bar in one, nothing with -q."""

from __future__ import annotations

import logging
import sys

import click
import pytest
from click.testing import CliRunner

from edgekit.cli.options import output_options
from edgekit.cli.progress import epoch_bar


@click.command()
@output_options
def work() -> None:
    with epoch_bar() as report:
        for epoch in (1, 2):
            report(epoch, 2, 0.5, 0.875, "validation accuracy")


def test_lines_where_there_is_no_terminal() -> None:
    result = CliRunner().invoke(work)
    assert result.stderr.splitlines() == [
        "epoch 1 of 2: loss 0.5000, validation accuracy 87.50%",
        "epoch 2 of 2: loss 0.5000, validation accuracy 87.50%",
    ]
    assert result.stdout == ""


def test_quiet() -> None:
    result = CliRunner().invoke(work, ["-q"])
    assert (result.exit_code, result.output) == (0, "")


def test_bar_in_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda self: True, raising=False)
    work.main([], standalone_mode=False)
    out, err = capsys.readouterr()
    assert out == ""
    assert "2/2" in err and "validation accuracy 87.50%" in err


def test_logging_is_as_it_was_afterwards() -> None:
    logger = logging.getLogger("edgekit")
    before = logger.level, logger.propagate, list(logger.handlers)
    CliRunner().invoke(work)
    assert (logger.level, logger.propagate, list(logger.handlers)) == before
