"""Finished blocks are on disk as they finish, and an interrupted run goes on: with real signals."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.bench.clock import WarmupRule
from edgekit.bench.schedule import BlockPlan
from edgekit.bench.session import TakenBlock
from edgekit.errors import InputError
from edgekit.pipeline.bench import bench
from edgekit.pipeline.bench.journal import Journal, Part
from edgekit.pipeline.checkpoint_log import FRESH_S

PLAN = BlockPlan(8, 1000, 5000, 2, WarmupRule(1, 50, 50))
WHAT = {"models": ["a"], "seed": 0}


def block(value: int, owner: str = "0.0") -> TakenBlock:
    return TakenBlock(np.full(3, value, np.int64), owner, disturbed=value == 7)


def of(journal: Journal, name: str = "cpu", places: tuple[int, ...] = (0, 1), settings: object = "a cell") -> Part:
    return journal.part(name, places, settings)


@pytest.fixture
def part(tmp_path: Path) -> Path:
    """A journal with the plan and two blocks, of a run that was ended."""
    path = tmp_path / "r.json.part"
    journal = Journal(path, WHAT)
    cpu = of(journal)
    assert cpu.begin(PLAN) == PLAN
    cpu.keep(0, 0, block(5))
    cpu.keep(1, 0, block(7))
    journal.close()
    return path


def test_what_was_kept_comes_back(part: Path) -> None:
    again = Journal(part, WHAT)
    assert (again.found, again.generation) == (2, 1)
    cpu = of(again)
    assert cpu.begin(BlockPlan(20, 1, 1, 1, PLAN.rewarm)) == PLAN  # the plan of the interrupted run
    found = cpu.find(1, 0)
    assert found is not None
    assert (found.samples_ns.tolist(), found.owner, found.disturbed) == ([7, 7, 7], "0.0", True)
    assert cpu.find(1, 1) is None
    cpu.keep(0, 1, block(6, "1.0"))
    again.close()
    third = Journal(part, WHAT)
    assert (third.found, third.generation) == (3, 2)
    third.discard()
    assert not part.exists()


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_line_that_was_cut_off_is_left_out_and_written_over(part: Path, cut: int) -> None:
    part.write_bytes(part.read_bytes()[:-cut])
    again = Journal(part, WHAT)
    assert again.found == 1
    cpu = of(again)
    cpu.begin(PLAN)
    cpu.keep(1, 0, block(9, "1.0"))
    again.close()
    assert [json.loads(line).get("samples_ns") for line in part.read_text().splitlines()][-1] == [9, 9, 9]
    assert Journal(part, WHAT).found == 2


def test_other_models_or_options_begin_again_and_it_is_said(part: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "edgekit")
    other = Journal(part, {**WHAT, "seed": 1})
    assert other.found == 0
    assert "other models or options" in caplog.text
    with pytest.raises(InputError, match="in use by another run"):
        Journal(part, WHAT, resume=True)
    other.close()
    with pytest.raises(InputError, match="holds another run"):
        Journal(part, {**WHAT, "seed": 1}, resume=True)
    with pytest.raises(InputError, match="is not there"):
        Journal(part.with_name("none.part"), WHAT, resume=True)


def test_each_machine_of_a_fleet_has_its_part(part: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Another plan each; what one of them is now does not cost the blocks of the others."""
    caplog.set_level(logging.INFO, "edgekit")
    longer = BlockPlan(20, 1, 1, 1, PLAN.rewarm)
    journal = Journal(part, WHAT)
    board = of(journal, "board", (2, 3), "a board")
    assert board.begin(longer) == longer and board.find(0, 0) is None
    board.keep(0, 0, block(8))
    journal.close()
    again = Journal(part, WHAT)
    assert again.found == 3
    assert of(again).begin(longer) == PLAN and of(again).find(0, 0) is not None
    other = of(again, "board", (2, 3), "another board")
    assert other.begin(PLAN) == PLAN and other.find(0, 0) is None
    assert "board: not as it was when the run was interrupted" in caplog.text
    other.keep(1, 0, block(4))
    again.close()
    third = Journal(part, WHAT)
    assert third.found == 3 and of(third, "board", (2, 3), "another board").find(1, 0) is not None


def test_an_old_one_needs_to_be_asked_for(part: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "edgekit")
    lines = part.read_text().splitlines()
    lines[0] = json.dumps({**json.loads(lines[0]), "time": time.time() - FRESH_S - 60})
    part.write_text("\n".join(lines) + "\n")
    assert Journal(part, WHAT).found == 0
    assert "1.0 hours old" in caplog.text
    assert Journal(part, WHAT, resume=True).found == 2
    assert Journal(part, WHAT, resume=False).found == 0


def test_a_run_that_still_goes_on_is_not_an_interrupted_one(part: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = Journal(part, WHAT)
    assert of(first).begin(PLAN) == PLAN
    second = Journal(part, WHAT)
    assert second.found == 0
    assert "another run keeps its blocks" in caplog.text
    of(second).begin(PLAN)
    of(second).keep(0, 5, block(9))
    second.discard()
    of(first).keep(0, 1, block(6, "1.0"))
    first.close()
    assert Journal(part, WHAT).found == 3


def test_a_run_that_ends_before_it_begins_leaves_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "r.part", WHAT)
    journal.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "x\n", "[]\n", '{"schema": "else"}\n'])
def test_what_is_not_a_journal_is_begun_again(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.json.part"
    path.write_text(text)
    journal = Journal(path, WHAT)
    assert of(journal).begin(PLAN) == PLAN
    of(journal).keep(0, 0, block(5))
    journal.close()
    assert Journal(path, WHAT).found == 1


def test_a_full_disk_costs_the_journal_not_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "full").symlink_to("/dev/full")
    journal = Journal(tmp_path / "full", WHAT, resume=False)
    assert of(journal).begin(PLAN) == PLAN
    of(journal).keep(0, 0, block(5))
    of(journal).keep(0, 1, block(5))
    assert caplog.text.count("cannot be kept") == 1


COMMAND = ["--seconds", "2", "--workers", "2", "--json", "out.json"]


def start(program: str, models: tuple[str, str], folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [program, "bench", *models, *COMMAND], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def blocks_in(part: Path) -> list[dict[str, object]]:
    lines = part.read_text().split("\n")[:-1] if part.exists() else []
    return [row for row in map(json.loads, lines) if "samples_ns" in row]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_ended_loses_nothing_that_finished(
    number: int, edgekit_program: str, models: tuple[str, str], tmp_path: Path
) -> None:
    part = tmp_path / "out.json.part"
    running = start(edgekit_program, models, tmp_path)
    deadline = time.monotonic() + 120
    while len(blocks_in(part)) < 5 and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(running.pid, number)
    _, said = running.communicate(timeout=60)
    assert running.returncode == (130 if number == signal.SIGINT else -number), said
    assert ("the same command goes on" in said) == (number == signal.SIGINT)
    assert not (tmp_path / "out.json").exists()
    kept = blocks_in(part)
    assert len(kept) >= 5
    again = start(edgekit_program, models, tmp_path)
    _, said = again.communicate(timeout=120)
    assert again.returncode == 0, said
    assert "going on with an interrupted run" in said
    document = json.loads((tmp_path / "out.json").read_text())
    assert document["protocol"]["kept_blocks"] == len(kept)
    for index, entry in enumerate(document["results"]):
        mine = [row for row in kept if row["cell"] == index]
        joined = [value for row in sorted(mine, key=lambda row: row["place"]) for value in row["samples_ns"]]
        assert entry["samples_ns"][: len(joined)] == joined
        assert entry["block_workers"][0].startswith("0.")
        assert entry["block_workers"][-1].startswith("1.")
        assert len(entry["blocks"]) == document["protocol"]["rounds"]
    assert document["comparisons"][0]["verdict"] == "slower"
    assert not part.exists()


def test_without_a_document_it_lies_in_the_state_folder_until_delivered(
    models: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))  # a test that killed a run leaves its file in the shared folder
    state = tmp_path / "edgekit" / "interrupted"
    state.mkdir(parents=True, exist_ok=True)
    (state / "old.part").write_text("of last week")
    os.utime(state / "old.part", (0, 0))
    result = bench(models[0], seconds=0.1, workers=1, journal=True)
    assert len(list(state.iterdir())) == 1
    result.delivered()
    assert list(state.iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [{"samples_ns": [10**30]}, {"samples_ns": "many"}, {"cell": 10**30}, {"plan": {"rounds": 1}}, {"generation": "x"}],
)
def test_a_journal_of_other_values_is_begun_again(part: Path, change: dict[str, Any]) -> None:
    """Whole lines of valid JSON that no run wrote."""
    lines = part.read_text().splitlines()
    lines[-1] = json.dumps(json.loads(lines[-1]) | change)
    part.write_text("\n".join(lines) + "\n")
    assert Journal(part, WHAT).found == 0
