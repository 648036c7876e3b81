"""Several devices in one matrix: machines at the same time, one machine one job at a time, nobody's cells lost.

There is one machine here: where a test needs two, the worker of one says that it is on another (``elsewhere``), which
is all that tells them apart.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit.devices.identity import machine_id
from edgekit.devices.local import PythonTransport
from edgekit.devices.stop import Stop, Stopped, pause, stoppable
from edgekit.errors import UsageError, WorkerCrashError
from edgekit.pipeline.bench import bench

ELSEWHERE = """\
#!{python}
import os, signal, sys, time
archive, *arguments = sys.argv[1:]
sys.path.insert(0, archive)
from edgekit.devices import identity, worker
worker.machine_id = lambda: {name!r}
plain, count = worker.Worker.time_block, 0
def time_block(self, message):
    global count
    count += 1
    {body}
    return plain(self, message)
worker.Worker.time_block = time_block
sys.exit(worker.main(arguments))
"""
KILL_AT_THE_FIFTH = "os.kill(os.getpid(), signal.SIGKILL) if count == 5 else None"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """``elsewhere(name, body)``: a device that says it is the machine ``name``; ``body`` runs before each timing."""
    monkeypatch.setattr(PythonTransport, "here", False)

    def make(name: str, body: str = "pass") -> str:
        program = tmp_path / f"python-{name}"
        program.write_text(ELSEWHERE.format(python=sys.executable, name=name, body=body))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        return f"python:{program}"

    return make


def told() -> tuple[list[tuple[str, str]], Callable[[str, str, int, int], None]]:
    """What the progress says, each thing once in a row, and the function that is told."""
    seen: list[tuple[str, str]] = []

    def note(device: str, what: str, done: int, total: int) -> None:
        if (device, what) not in seen:
            seen.append((device, what))

    return seen, note


def test_two_machines_are_one_matrix(models: tuple[str, str], elsewhere: Callable[..., str]) -> None:
    board = elsewhere("board")
    seen, note = told()
    result = bench(models, on=["cpu", board], seconds=0.3, workers=1, progress=note)
    document = result.document()
    assert [(Path(e["model"]).name, e["device"]["name"]) for e in document["results"]] == [
        ("light.onnx", "cpu"),
        ("light.onnx", board),
        ("heavy.onnx", "cpu"),
        ("heavy.onnx", board),
    ]
    assert all(entry["latency_ms"]["p50"] > 0 for entry in document["results"])
    # a comparison is of two models on one device, never of two devices
    assert sorted(c["device"] for c in document["comparisons"]) == sorted(["cpu", board])
    assert all(c["a"].endswith("heavy.onnx") for c in document["comparisons"])
    here, there = document["protocol"]["machines"]
    assert (here["devices"], here["cells"], there["devices"], there["cells"]) == (["cpu"], [0, 2], [board], [1, 3])
    assert {cell for round_ in there["order"] for cell in round_} == {1, 3}
    assert here["others"] and there["others"] == {}  # who else is on a board is not to be seen from here
    assert "plan" not in document["protocol"] and here["plan"]["rounds"] >= 8
    # this machine begins when the other one has its files
    assert seen.index((board, "timing")) < seen.index(("cpu", "loading"))
    assert {("cpu", "done"), (board, "done")} <= set(seen)
    assert json.dumps(document)


def test_machines_run_at_the_same_time(models: tuple[str, str], elsewhere: Callable[..., str], tmp_path: Path) -> None:
    """Each waits in its first block until the other is in one, too: one after the other they would wait for ever."""
    meet = (
        "open({own!r}, 'w').close(); "
        "end = time.monotonic() + 50; "
        "all(time.sleep(0.01) is None for _ in iter(lambda: os.path.exists({other!r}) or time.monotonic() > end, True))"
    )
    marks = [str(tmp_path / "a.mark"), str(tmp_path / "b.mark")]
    one = elsewhere("one", meet.format(own=marks[0], other=marks[1]))
    two = elsewhere("two", meet.format(own=marks[1], other=marks[0]))
    started = time.monotonic()
    document = bench(models[0], on=[one, two], seconds=0.2, workers=1).document()
    assert all(entry["latency_ms"]["p50"] > 0 for entry in document["results"])
    assert time.monotonic() - started < 50  # the time-out of the meeting, not a bound on speed


def test_one_machine_under_two_names_is_one_job(models: tuple[str, str], elsewhere: Callable[..., str]) -> None:
    """Their cells are interleaved in one order, so that no two of them ever run at the same time."""
    first = elsewhere("board")
    again = f"python:{Path(first.removeprefix('python:')).parent}/./python-board"
    protocol = bench(models[0], on=[first, again], seconds=0.2, workers=1).document()["protocol"]
    assert "machines" not in protocol
    assert all(sorted(round_) == [0, 1] for round_ in protocol["order"])


def test_what_shares_this_machine_is_one_job(models: tuple[str, str], elsewhere: Callable[..., str]) -> None:
    loopback = elsewhere(machine_id())
    protocol = bench(models[0], on=["cpu", loopback], seconds=0.2, workers=1).document()["protocol"]
    assert "machines" not in protocol and all(sorted(round_) == [0, 1] for round_ in protocol["order"])


@pytest.mark.parametrize("dies", [KILL_AT_THE_FIFTH, "os.kill(os.getpid(), signal.SIGKILL)"])
def test_a_machine_that_dies_loses_only_its_cells(
    models: tuple[str, str], elsewhere: Callable[..., str], dies: str
) -> None:
    board = elsewhere("board", dies)
    seen, note = told()
    result = bench(models[1], on=[board, "cpu"], seconds=0.3, workers=1, progress=note)
    dead, alive = result.document()["results"]
    assert dead["error"]["type"] == "WorkerCrashError" and "SIGKILL" in dead["error"]["message"]
    assert alive["latency_ms"]["p50"] > 0 and "error" not in alive
    failure = result.failure()
    assert isinstance(failure, WorkerCrashError) and failure.exit_code == 4 and "1 of 2 cells failed" in str(failure)
    assert any(device == board and what.startswith("failed: ") for device, what in seen)


def test_a_device_that_cannot_be_reached_loses_only_its_cells(
    models: tuple[str, str], edgekit_cli: Callable[..., Any]
) -> None:
    ended = edgekit_cli(
        "bench", models[0], "--on", "ssh://nobody@127.0.0.1:1", "--on", "cpu", "--seconds", "0.2", "--json", "-"
    )
    away, here = ended.document["results"]
    assert ended.code == 4 and "1 of 2 cells failed" in ended.err
    assert away["error"]["type"] == "UnreachableError" and "Connection refused" in away["error"]["message"]
    assert here["latency_ms"]["p50"] > 0
    assert "ssh://nobody@127.0.0.1:1: failed: " in ended.err and "cpu: timing" in ended.err
    assert [row["rounds"] > 0 for row in ended.document["protocol"]["machines"]] == [False, True]


def test_where_nothing_can_be_reached_it_says_so_of_each(edgekit_cli: Callable[..., Any], models: Any) -> None:
    ended = edgekit_cli("bench", models[0], "--on", "ssh://a@127.0.0.1:1", "--on", "ssh://b@127.0.0.1:1")
    assert ended.code == 4 and ended.err.count("cannot be reached") >= 2 and "Traceback" not in ended.err


def test_what_makes_no_sense_ends_all_of_it(models: tuple[str, str], elsewhere: Callable[..., str]) -> None:
    with pytest.raises(UsageError, match="is not a program"):
        bench(models[0], on=["python:/nowhere", elsewhere("board")], seconds=0.2)


def test_an_interrupted_fleet_goes_on(models: tuple[str, str], elsewhere: Callable[..., str], tmp_path: Path) -> None:
    """A real interrupt of the whole program: every worker ends, finished blocks of both machines are used again."""
    board = elsewhere("board")
    script = tmp_path / "run.py"
    script.write_text(
        "import sys\nfrom edgekit.devices.local import PythonTransport\nPythonTransport.here = False\n"
        "from edgekit.cli import main\nmain()\n"
    )
    command = [sys.executable, str(script), "bench", models[1], "--on", "cpu", "--on", board]
    command += ["--seconds", "2", "--workers", "1", "--json", "out.json"]
    part = tmp_path / "out.json.part"
    mark = f"EDGEKIT_FLEET_TEST={tmp_path}"
    environment = {**os.environ, "EDGEKIT_FLEET_TEST": str(tmp_path)}

    def run() -> subprocess.Popen[str]:
        return subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=environment)

    running = run()
    deadline = time.monotonic() + 120
    while not _parts(part) >= {"cpu", board} and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(running.pid, signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130 and "the same command goes on" in said, said
    assert not (tmp_path / "out.json").exists() and _with(mark) == []
    kept = _parts(part)
    again = run()
    _, said = again.communicate(timeout=120)
    assert again.returncode == 0 and "going on with an interrupted run" in said, said
    document = json.loads((tmp_path / "out.json").read_text())
    assert kept == {"cpu", board} and all(row["kept_blocks"] > 0 for row in document["protocol"]["machines"])
    workers = {(entry["device"]["name"], owner) for entry in document["results"] for owner in entry["block_workers"]}
    assert workers >= {("cpu", "0.0"), (board, "0.0")}
    assert {owner for _, owner in workers} == {
        "0.0",
        "1.0",
    }  # one of the machines may have been through at the interrupt
    assert not part.exists() and _with(mark) == []


def _parts(part: Path) -> set[str]:
    """The machines whose blocks are in a journal."""
    lines = part.read_text().split("\n")[:-1] if part.exists() else []
    return {row["part"] for row in map(json.loads, lines) if "samples_ns" in row}


def _with(mark: str) -> list[str]:
    """Command lines of living processes with ``mark`` in their environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append((entry / "cmdline").read_bytes().decode(errors="replace"))
        except OSError:
            continue
    return found


def test_a_stop_ends_the_waits_of_other_threads() -> None:
    ended: list[type[BaseException]] = []

    def wait(stop: Stop) -> None:
        with stoppable(stop):
            try:
                pause(600)
            except Stopped as error:
                ended.append(type(error))

    with Stop() as stop:
        threads = [threading.Thread(target=wait, args=(stop,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        stop.set()
        stop.set()
        for thread in threads:
            thread.join(60)
    assert ended == [Stopped] * 3
    pause(0)  # without a stop it is a sleep
