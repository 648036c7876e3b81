"""What the machine is known for: recovered from synthetic records, kept in a file, never in the way of a run."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from edgekit.bench.noisefloor import (
    APART_S,
    BUILT_IN,
    LEAST_OCCASION_WEIGHT,
    MOST_OCCASIONS,
    MOST_RECORDS,
    OCCASION_SPREAD,
    PROCESS_SPREAD,
    Ledger,
    NoiseFloor,
    Record,
    fit,
    floor_of,
    occasion_record,
    process_record,
    state_folder,
    wider,
)
from edgekit.bench.replicas import turns
from edgekit.documents import typed
from edgekit.results.bench import BenchRecord


def records(spread: float, count: int, seed: int = 0, within: float = 0.002, weight: float = 4.0) -> list[Record]:
    """Variances of ``count`` files scattered around ``spread`` squared, as the model has it."""
    generator = np.random.default_rng(seed)
    true = spread**2 * weight / generator.chisquare(weight, count)
    return [Record((v + within**2) * generator.chisquare(3) / 3, within**2, 3) for v in true]


def test_without_records_the_prior_stays() -> None:
    found, weight = fit([], PROCESS_SPREAD)
    assert found == pytest.approx(PROCESS_SPREAD, rel=0.06)  # the grid's step is 10%
    assert weight == 2.0


@pytest.mark.parametrize("spread", [0.002, 0.008, 0.03])
def test_many_records_outweigh_the_prior(spread: float) -> None:
    found = [fit(records(spread, 60, seed), PROCESS_SPREAD)[0] for seed in range(10)]
    assert np.median(found) == pytest.approx(spread, rel=0.25)  # 180 degrees of freedom of scattered variances


def test_few_records_move_it_a_little() -> None:
    found = [fit(records(0.03, 1, seed), PROCESS_SPREAD)[0] for seed in range(20)]
    assert PROCESS_SPREAD < np.median(found) < 0.02


def test_files_that_differ_little_give_the_expectation_more_weight() -> None:
    alike = [fit(records(0.008, 80, seed, weight=200.0), PROCESS_SPREAD)[1] for seed in range(5)]
    apart = [fit(records(0.008, 80, seed, weight=1.5), PROCESS_SPREAD)[1] for seed in range(5)]
    assert np.median(alike) > 2 * np.median(apart)


def run(spread: float, seed: int, cells: int = 3, replicas: int = 4, rounds: int = 32) -> Record:
    """One interleaved run of cells of different speed, on a machine with slow phases that weigh on all cells."""
    generator = np.random.default_rng(seed)
    owners = turns(rounds, replicas)
    phases = 0.2 * (generator.random(rounds) < 0.3)
    logs = [
        np.log(1e6 * (cell + 1)) + phases + generator.normal(0, spread, replicas)[owners]
        + generator.normal(0, 0.005, rounds)
        for cell in range(cells)
    ]  # fmt: skip
    found = process_record(logs, [owners] * cells)
    assert found is not None
    return found


def test_the_spread_between_processes_is_seen_through_the_phases_of_the_machine() -> None:
    found = [run(0.01, seed) for seed in range(200)]
    between = np.mean([record.seen - record.within for record in found])
    assert np.sqrt(between) == pytest.approx(0.01, rel=0.1)  # 1200 degrees of freedom: 4% of it, and the median's
    assert found[0].degrees == pytest.approx(6)  # (3 - 1) * (4 - 1), the interaction


def test_two_cells_by_hand() -> None:
    one = np.array([0.1, 0.1, 0.3, 0.3])  # workers 0, 0, 1, 1
    found = process_record([one, np.zeros(4)], [[0, 0, 1, 1]] * 2)
    assert found is not None
    # the ratio of the two cells varies by var(0.1, 0.3) = 0.02 between workers, each cell by half of that
    assert (found.seen, found.within, found.degrees) == pytest.approx((0.01, 0.0, 1.0))


def test_one_cell_or_one_worker_says_nothing() -> None:
    assert process_record([np.zeros(8)], [turns(8, 2)]) is None
    assert process_record([np.zeros(8)] * 2, [[0] * 8] * 2) is None
    assert occasion_record([(0.0, 1.0, 0.1)]) is None


def test_occasions_by_hand() -> None:
    found = occasion_record([(0, 1.00, 1e-4), (1, 1.02, 3e-4)])
    assert found == Record(pytest.approx(2e-4), pytest.approx(2e-4), 1)


MACHINE = {"cpu": "Z80", "versions": {"onnxruntime": "1"}}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "edgekit"


def test_a_ledger_learns_and_keeps_machines_apart(folder: Path) -> None:
    ledger = Ledger(MACHINE)
    assert ledger.floor() == BUILT_IN
    for record in records(0.03, 40):
        ledger.add(record, {})
    again = Ledger(MACHINE).floor()
    assert again.process == pytest.approx(0.03, rel=0.4)
    assert (again.runs, again.document()["source"]) == (40, "learned")
    assert Ledger({**MACHINE, "cpu": "6502"}).floor() == BUILT_IN
    assert ledger.path.is_relative_to(folder)


def test_occasions_are_learned_from_files_that_come_again() -> None:
    ledger = Ledger(MACHINE)
    generator = np.random.default_rng(0)
    for occasion in range(4):
        ledger.add(None, {f"file{k}": (occasion * APART_S, 14 + generator.normal(0, 0.03), 1e-6) for k in range(10)})
    found = ledger.floor()
    assert found.occasion == pytest.approx(0.03, rel=0.4)
    assert (found.process, found.revisits) == (PROCESS_SPREAD, 10)


def test_noisy_occasions_are_learned_from_apart() -> None:
    ledger = Ledger(MACHINE)
    generator = np.random.default_rng(0)
    for occasion in range(4):
        visit = {f"file{k} noisy": (occasion * APART_S, 14 + generator.normal(0, 0.2), 1e-6) for k in range(10)}
        ledger.add(None, visit)
    found = ledger.floor()
    assert found.occasion == OCCASION_SPREAD
    assert found.occasion_noisy == pytest.approx(0.2, rel=0.4)
    noisy = found.when(noisy=True)
    assert (noisy.occasion, noisy.occasion_weight) == (found.occasion_noisy, found.occasion_noisy_weight)
    assert found.when(noisy=False) == found


def test_runs_that_follow_each_other_are_one_occasion() -> None:
    """A calm quarter of an hour is not evidence of what the machine does tomorrow."""
    ledger = Ledger(MACHINE)
    for run in range(9):
        ledger.add(None, {f"file{k}": (run * APART_S / 10, 14 + 1e-5 * run, 1e-8) for k in range(10)})
    assert (ledger.floor().occasion, ledger.floor().revisits) == (OCCASION_SPREAD, 0)
    ledger.add(None, {f"file{k}": (APART_S, 14.0, 1e-8) for k in range(10)})
    assert ledger.floor().revisits == 10
    assert ledger.floor().occasion < OCCASION_SPREAD


def test_a_few_files_that_moved_leave_an_interval_of_use() -> None:
    """Nine files stayed within 0.1%, one doubled: the fit by itself would take the tails of Cauchy, t = 12.7."""
    records = [Record(1e-6, 1e-8, 2.0)] * 9 + [Record(0.5, 1e-8, 2.0)]
    assert fit(records, OCCASION_SPREAD, 4.0)[1] < LEAST_OCCASION_WEIGHT
    ledger = Ledger(MACHINE)
    for occasion in range(3):
        moved = {f"file{k}": (occasion * APART_S, 14 + 0.001 * (occasion - 1), 1e-8) for k in range(9)}
        ledger.add(None, {**moved, "odd": (occasion * APART_S, 14 + 0.7 * (occasion - 1), 1e-8)})
    assert ledger.floor().occasion_weight == LEAST_OCCASION_WEIGHT


def _learn(number: int) -> None:
    for turn in range(10):
        Ledger({"cpu": "one"}).add(Record(1e-4, 0.0, 3), {f"{number}-{turn}": (0.0, 1.0, 1e-6)})


def test_runs_that_end_together_lose_nothing_of_each_other(folder: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_learn, args=(number,)) for number in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert Ledger({"cpu": "one"}).floor().runs == 40


def test_it_does_not_grow_without_end() -> None:
    ledger = Ledger(MACHINE)
    ledger._process = [[1e-4, 1e-5, 3.0]] * MOST_RECORDS
    ledger._occasions = {f"k{k}": [[0.0, 1.0, 1e-6]] * MOST_OCCASIONS for k in range(MOST_RECORDS)}
    ledger.path.parent.mkdir(parents=True)
    ledger.path.write_text(
        json.dumps({"schema": "edgekit.noise-floor/1", "process": ledger._process, "occasions": ledger._occasions})
    )
    ledger.add(Record(1e-4, 0, 3), {"new": (1.0, 1.0, 1e-6)})
    kept = json.loads(ledger.path.read_text())
    assert (len(kept["process"]), len(kept["occasions"])) == (MOST_RECORDS, MOST_RECORDS)
    assert "new" in kept["occasions"]


_HEAD = '{"schema": "edgekit.noise-floor/1", "occasions": {}, "process": '
BROKEN = (
    "", "{", "[]", '{"schema": "x"}', f"{_HEAD}[[1]]}}", "[" * 9000, f"{_HEAD}[[1, 1, 0]]}}", f"{_HEAD}[[1, -1, 3]]}}",
    f"{_HEAD}[[1, 1, 1e300]]}}", f"{_HEAD}[[1, 1, {'9' * 400}]]}}",
)  # fmt: skip


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_file_is_learned_anew_and_said(text: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "edgekit")
    path = Ledger(MACHINE).path
    path.parent.mkdir(parents=True)
    path.write_text(text)
    ledger = Ledger(MACHINE)
    assert ledger.floor() == BUILT_IN
    assert "learned anew" in caplog.text
    ledger.add(Record(1e-4, 0, 3), {})
    assert Ledger(MACHINE).floor().runs == 1


def test_a_folder_that_cannot_be_written_costs_only_the_learning(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "edgekit")
    folder.parent.mkdir(exist_ok=True)
    folder.write_text("a file where the folder should be")
    Ledger(MACHINE).add(Record(1e-4, 0, 3), {})
    assert "is not kept" in caplog.text


def test_the_state_folder_of_a_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert state_folder() == tmp_path / ".local" / "state" / "edgekit"
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert state_folder().name == f"edgekit-{os.getuid()}"
    monkeypatch.undo()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", "relative")  # the XDG specification: relative paths are to be ignored
    assert state_folder() == tmp_path / ".local" / "state" / "edgekit"


def record(document: dict[str, object]) -> BenchRecord:
    return typed(BenchRecord, {"results": [], **document}, "it")


def test_a_document_says_what_it_was_made_with() -> None:
    floor = NoiseFloor(0.02, 3.0, 0.01, 7, 2, 0.2, 8.0, 3.0)
    said = floor.document()
    assert floor_of(record({"protocol": {"noise_floor": said}})) == floor
    older = {key: said[key] for key in ("process_spread", "process_weight", "occasion_spread")}
    assert floor_of(record({"protocol": {"noise_floor": older}})) == NoiseFloor(0.02, 3.0, 0.01)
    assert floor_of(record({})) == BUILT_IN
    assert floor_of(record({"protocol": {"noise_floor": {**older, "runs": [1]}}})) == NoiseFloor(0.02, 3.0, 0.01)
    assert floor_of(record({"protocol": {"noise_floor": {"process_spread": "x"}}})) == BUILT_IN
    assert wider(floor, BUILT_IN) == NoiseFloor(0.02, 2.0, 0.01, 0, 0, 0.2, 4.0, 3.0)
    assert BUILT_IN.occasion == OCCASION_SPREAD
