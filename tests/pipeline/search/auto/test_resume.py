"""Finished trials are on disk as they finish, and an interrupted run goes on: with real signals and a full disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit.errors import InputError, UsageError
from edgekit.options.optimize import OptimizeOptions
from edgekit.pipeline.search.auto.run import TRIALS, study_folder
from edgekit.pipeline.search.space import Space
from edgekit.pipeline.search.study import JOURNAL, SamplerChoice, Study
from edgekit.pipeline.search.subject import Subject


@pytest.fixture(autouse=True)
def _state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def subject(wasteful: Path, answers: str) -> Callable[..., Subject]:
    """Of the wasteful network."""
    return lambda **how: Subject(OptimizeOptions(wasteful, data=answers, epochs=0, out="", **how), Path())


def begun(subject: Subject) -> Path:
    """The folder of a run that was ended in its first trial."""
    with study_folder(subject, None) as folder:
        Study(folder / TRIALS, {}, Space({"onnx": ("int8",)}), SamplerChoice("tpe", 0, 1)).claim(1)
        (folder / "candidate.onnx").write_text("x")
        return folder


def test_what_was_finished_is_gone_on_with(subject: Callable[..., Subject]) -> None:
    folder = begun(subject())
    with study_folder(subject(), None) as again:
        assert again == folder and (again / "candidate.onnx").exists()


def test_another_run_has_another_folder(subject: Callable[..., Subject]) -> None:
    first = begun(subject())
    with study_folder(subject(samples=7), None) as other:
        assert other != first


@pytest.mark.parametrize("what", ["io_file", "metric"])
def test_a_file_beside_it_that_was_changed_makes_another_run(
    subject: Callable[..., Subject], tmp_path: Path, what: str
) -> None:
    place = tmp_path / ("own.py" if what == "metric" else "io.toml")
    asked = {what: f"{place}:right" if what == "metric" else str(place)}
    found = []
    for text in ("# one\n", "# two\n", "# one\n"):
        place.write_text(text)
        with study_folder(subject(**asked), None) as folder:
            found.append(folder)
    assert found[0] == found[2] != found[1]


def test_fresh_begins_again(subject: Callable[..., Subject]) -> None:
    begun(subject())
    with study_folder(subject(), False) as folder:
        assert list(folder.iterdir()) == []


def test_an_old_run_is_gone_on_with_only_when_asked(subject: Callable[..., Subject]) -> None:
    journal = begun(subject()) / TRIALS / JOURNAL
    before = time.time() - 7200
    os.utime(journal, (before, before))
    with study_folder(subject(), True) as asked:
        assert (asked / "candidate.onnx").exists()
    with study_folder(subject(), None) as unasked:
        assert not (unasked / "candidate.onnx").exists()
    with pytest.raises(InputError, match="leave --resume out"), study_folder(subject(), True):
        pass


def test_two_at_the_same_time(subject: Callable[..., Subject]) -> None:
    with (
        study_folder(subject(), None),
        pytest.raises(UsageError, match="at work already"),
        study_folder(subject(), None),
    ):
        pass


def test_runs_that_nobody_went_on_with_are_cleared_away(subject: Callable[..., Subject]) -> None:
    old = begun(subject())
    os.utime(old / TRIALS / JOURNAL, (0, 0))
    with study_folder(subject(samples=7), None):
        assert not old.exists()


def test_a_journal_that_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_text('{"op": "no"}\n')
    with pytest.raises(InputError, match=r"cannot be read as a journal of trials: .*; --fresh begins again"):
        Study(tmp_path, {}, Space({"onnx": ("int8",)}), SamplerChoice("tpe", 0, 1))


def ended_in(state: Path) -> list[int]:
    """Numbers of the trials in a journal that have ended."""
    found = set()
    for file in state.glob(f"edgekit/auto/*/{TRIALS}/{JOURNAL}"):
        for line in file.read_text().splitlines():
            row = json.loads(line) if line.endswith("}") else {}
            told = row.get("user_attr", {}).get("row")
            found |= {told["number"]} if told else set()
    return sorted(found)


def ended(start: Callable[[], subprocess.Popen[str]], state: Path, count: int, number: int) -> list[int]:
    """The trials that a run had finished when it was ended by signal ``number``, after ``count`` more."""
    before = len(ended_in(state))
    running = start()
    deadline = time.monotonic() + 120
    while len(ended_in(state)) < before + count and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(running.pid, number)
    _, said = running.communicate(timeout=60)
    assert running.returncode == (130 if number == signal.SIGINT else -number), said
    assert ("the same command goes on" in said) == (number == signal.SIGINT)
    kept = ended_in(state)
    assert len(kept) >= before + count
    return kept


@pytest.mark.slow
def test_a_run_that_is_ended_goes_on_with_its_finished_trials(
    edgekit_program: str, wasteful: Path, answers: str, tmp_path: Path
) -> None:
    """Killed after the first trial, interrupted after two more, then left to finish."""
    command = ["quantize", str(wasteful), "--scheme", "auto", "--data", answers, "--max-drop", "0.01"]
    command += ["--seconds", "0.3", "-o", "best", "--json", "out.json", "--runtime", "onnxruntime"]

    def start() -> subprocess.Popen[str]:
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([edgekit_program, *command], cwd=tmp_path, text=True, **pipes)

    state = tmp_path / "state"
    ended(start, state, 1, signal.SIGKILL)
    kept = ended(start, state, 2, signal.SIGINT)
    assert not (tmp_path / "best.onnx").exists()
    assert not (tmp_path / "out.json").exists()
    again = start()
    _, said = again.communicate(timeout=120)
    assert again.returncode == 0, said
    assert f"going on with an interrupted run: {len(kept)} trials are there" in said
    begun = {int(line.split("]")[0].split("[")[1]) for line in said.splitlines() if "] onnx " in line}
    assert begun and not begun & {1 + number for number in kept}, "a finished trial was made again"
    document = json.loads((tmp_path / "out.json").read_text())
    schemes = {"float", "int8", "int8-dynamic", "int8-weights", "int4-weights", "fp16"}
    assert {trial["scheme"] for trial in document["trials"]} == schemes
    assert (tmp_path / "best.onnx").exists()
    assert [path.name for path in (state / "edgekit" / "auto").iterdir() if path.is_dir()] == []
