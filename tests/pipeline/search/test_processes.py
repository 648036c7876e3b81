"""A search over processes: killed and gone on with, and two at once in one folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from edgekit.errors import InputError
from edgekit.pipeline.search.steps import MakeOrder
from edgekit.pipeline.search.workers import Processes


def started(command: list[str]) -> subprocess.Popen[bytes]:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.slow
def test_killed(command: Any, alone: list[Any], decided: Any, tmp_path: Path) -> None:
    """Killed in its second trial, begun again: the first is not made again, and the end is the same."""
    out, process = tmp_path / "study", started(command(tmp_path / "study"))
    try:
        deadline = time.monotonic() + 200
        while not (out / ".study" / "files" / "0001" / ".recipe").exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (out / "optimize.json").exists()
    second = started(command(out))
    assert second.wait(300) == 0
    assert decided(json.loads((out / "optimize.json").read_text())) == alone
    journal = (out / ".study" / "trials" / "journal.log").read_text()
    assert journal.count('"row"') == len(alone), "a trial was told twice"


@pytest.mark.slow
def test_two_at_once(command: Any, alone: list[Any], decided: Any, tmp_path: Path) -> None:
    """Two processes in one folder, one of them with two makers: the trials of one."""
    both = [started(command(tmp_path)), started(command(tmp_path, "--jobs", "2"))]
    try:
        assert [process.wait(300) for process in both] == [0, 0]
    finally:
        for process in both:
            process.kill()
    assert decided(json.loads((tmp_path / "optimize.json").read_text())) == alone


def test_where_one_process_is_killed_others_take_its_place(tmp_path: Path) -> None:
    pool = Processes(1)
    try:
        killed = pool._pool.submit(os.getpid).result()
        os.kill(killed, signal.SIGKILL)
        order = MakeOrder("not = a recipe", tmp_path / "made", tmp_path / "store")
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                pool.submit(order).result()
            except BrokenProcessPool:  # it is found out in a moment
                continue
            except InputError:  # what a process that lives says of this recipe
                break
        else:
            raise AssertionError("no process took its place")
    finally:
        pool.close(at_once=True)
