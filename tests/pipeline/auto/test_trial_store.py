"""Finished trials are on disk as they finish, and an interrupted run goes on: with real signals and a full disk."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit.errors import InputError, StorageError, UsageError
from edgekit.pipeline.auto.trial_store import TrialStore

WHAT = {"models": ["a"], "max": 1}


@pytest.fixture(autouse=True)
def _state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def begun() -> TrialStore:
    """The trial store of a run that was ended after two trials."""
    store = TrialStore(WHAT)
    assert store.once("a", lambda: {"ms": 1.5}) == {"ms": 1.5}
    assert store.once("b", lambda: {"error": "no"}) == {"error": "no"}
    store.close()
    return store


def never() -> dict[str, Any]:
    raise AssertionError("a finished trial was done again")


def test_what_was_finished_is_not_done_again() -> None:
    first = begun()
    again = TrialStore(WHAT)
    assert (again.found, again.folder) == (2, first.folder)
    assert again.once("a", never) == {"ms": 1.5}
    again.forget("b")
    assert again.once("b", lambda: {"ms": 2.0}) == {"ms": 2.0}
    again.close()
    third = TrialStore(WHAT)
    assert third.once("b", never) == {"ms": 2.0}
    third.discard()
    assert not third.folder.exists()


def test_a_trial_that_raises_is_not_kept() -> None:
    store = TrialStore(WHAT)
    with pytest.raises(ZeroDivisionError):
        store.once("a", lambda: {"ms": 1 / 0})
    assert store.once("a", lambda: {"ms": 1.0}) == {"ms": 1.0}
    store.discard()


def test_another_run_has_another_folder() -> None:
    first, other = begun(), TrialStore({**WHAT, "max": 2})
    assert other.folder != first.folder
    assert other.found == 0
    other.discard()


@pytest.mark.parametrize("cut", [1, 9])
def test_a_line_that_was_cut_off_is_left_out_and_written_over(cut: int) -> None:
    path = begun().folder / "trials.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    store = TrialStore(WHAT)
    assert store.found == 1
    store.once("b", lambda: {"error": "no"})
    store.close()
    assert path.read_bytes() == whole


def test_fresh_begins_again_and_clears_the_files() -> None:
    first = begun()
    (first.folder / "candidate.onnx").write_text("x")
    store = TrialStore(WHAT, resume=False)
    assert store.found == 0
    assert [file.name for file in store.folder.iterdir()] == ["trials.jsonl"]
    store.discard()


def test_an_old_run_is_gone_on_with_only_when_asked() -> None:
    path = begun().folder / "trials.jsonl"
    rows = path.read_text().splitlines()
    rows[0] = json.dumps({**json.loads(rows[0]), "time": time.time() - 7200})
    path.write_text("\n".join(rows) + "\n")
    asked = TrialStore(WHAT, resume=True)
    assert asked.found == 2
    asked.close()
    unasked = TrialStore(WHAT)
    assert unasked.found == 0
    unasked.discard()
    with pytest.raises(InputError, match="leave --resume out"):
        TrialStore(WHAT, resume=True)


def test_two_at_the_same_time() -> None:
    store = TrialStore(WHAT)
    with pytest.raises(UsageError, match="at work already"):
        TrialStore(WHAT)
    store.discard()


def test_runs_that_nobody_went_on_with_are_cleared_away() -> None:
    old = begun().folder
    os.utime(old / "trials.jsonl", (0, 0))
    other = TrialStore({**WHAT, "max": 3})
    assert not old.exists()
    other.discard()


def test_a_full_disk_is_said() -> None:
    store = TrialStore(WHAT)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (store.folder.joinpath("trials.jsonl").stat().st_size, hard))
        with pytest.raises(StorageError, match="no space left"):
            store.once("a", lambda: {"ms": 1.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    store.discard()


def trials_in(state: Path) -> list[str]:
    """The finished trials on disk."""
    files = list(state.glob("edgekit/auto/*/trials.jsonl"))
    lines = files[0].read_text().split("\n")[:-1] if files else []
    return [row["key"] for row in map(json.loads, lines) if "key" in row]


def ended(start: Callable[[], subprocess.Popen[str]], state: Path, count: int, number: int) -> list[str]:
    """The trials that a run had finished when it was ended by signal ``number``, after ``count`` more."""
    before = len(trials_in(state))
    running = start()
    deadline = time.monotonic() + 120
    while len(trials_in(state)) < before + count and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(running.pid, number)
    _, said = running.communicate(timeout=60)
    assert running.returncode == (130 if number == signal.SIGINT else -number), said
    assert ("the same command goes on" in said) == (number == signal.SIGINT)
    kept = trials_in(state)
    assert len(kept) >= before + count
    return kept


@pytest.mark.slow
def test_a_run_that_is_ended_goes_on_with_its_finished_trials(
    edgekit_program: str, wasteful: Path, answers: str, tmp_path: Path
) -> None:
    """Killed after the first candidates were made, interrupted after the first calls, then left to finish."""
    command = ["quantize", str(wasteful), "--scheme", "auto", "--data", answers, "--max-drop", "0.01"]
    command += ["--seconds", "0.3", "-o", "best", "--json", "out.json", "--runtime", "onnxruntime"]

    def start() -> subprocess.Popen[str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([edgekit_program, *command], cwd=tmp_path, text=True, **pipes)

    state = tmp_path / "state"
    kept = ended(start, state, 2, signal.SIGKILL)
    kept = ended(start, state, 3, signal.SIGINT)
    assert not (tmp_path / "best.onnx").exists()
    assert not (tmp_path / "out.json").exists()
    again = start()
    _, said = again.communicate(timeout=120)
    assert again.returncode == 0, said
    assert f"going on with an interrupted run: {len(kept)} trials are there" in said
    for key in kept:
        verb, _, name = key.partition(" ")
        said_of = {"make": "making ", "calls": "calls: "}
        assert verb == "quality" or said_of[verb] + name not in said.splitlines()
    document = json.loads((tmp_path / "out.json").read_text())
    schemes = {"float", "int8", "int8-dynamic", "int8-weights", "int4-weights", "fp16"}
    assert {trial["scheme"] for trial in document["trials"]} == schemes and len(document["trials"]) == len(schemes)
    assert (tmp_path / "best.onnx").exists()
    assert list((state / "edgekit" / "auto").iterdir()) == []
