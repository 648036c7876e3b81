"""What can go wrong while a matrix is timed, injected into real workers: one bad cell never loses the others."""

from __future__ import annotations

import os
import resource
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit.pipeline.bench import BenchResult, bench

Ended = object
FAULTY = """\
#!{python}
import ctypes, os, resource, signal, subprocess, sys, time
archive, *arguments = sys.argv[1:]
sys.path.insert(0, archive)
import numpy as np
from edgekit.devices import worker
plain, count = worker.Worker.time_block, 0
def time_block(self, message):
    global count
    count += 1
    if count == {block}:
        {body}
    return plain(self, message)
worker.Worker.time_block = time_block
sys.exit(worker.main(arguments))
"""
FIRST_INFERENCE, WARM_UP, THIRD_BLOCK = 1, 2, 5


@pytest.fixture
def faulty(tmp_path: Path) -> Callable[..., str]:
    """``faulty(body, block)``: a device whose worker does what ``body`` says before its ``block``-th timing."""

    def make(body: str, block: int = THIRD_BLOCK) -> str:
        program = tmp_path / "python-with-a-fault"
        program.write_text(FAULTY.format(python=sys.executable, body=body, block=block))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        return f"python:{program}"

    return make


def run(model: str, device: str, **options: object) -> BenchResult:
    """Three cells, the one in the middle on the faulty device."""
    return bench(model, on=["cpu", device, f"python:{sys.executable}"], seconds=0.3, workers=1, **options)


KILL = "os.kill(os.getpid(), signal.SIGKILL)"
LIMIT = "resource.setrlimit(resource.RLIMIT_DATA, (1 << 28, 1 << 28)); np.ones(1 << 27)"


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (KILL, "WorkerCrashError", "SIGKILL"),
        ("ctypes.string_at(0)", "WorkerCrashError", "SIGSEGV"),
        ("os._exit(0)", "WorkerCrashError", "exit status 0"),
        ("time.sleep(600)", "WorkerTimeoutError", "allow more time with --timeout"),
        (LIMIT, "WorkerMemoryError", "allocate"),
    ],
)
def test_a_cell_that_fails_loses_only_itself(
    faulty: Callable[..., str], models: tuple[str, str], body: str, kind: str, said: str
) -> None:
    # 5 s: a worker that starts on a loaded machine answers in less; only the one that sleeps runs into it
    found = run(models[1], faulty(body), timeout=5.0 if "sleep" in body else 60.0)
    entries = found.document()["results"]
    assert ["error" in entry for entry in entries] == [False, True, False]
    for entry in entries:
        if "error" in entry:
            assert entry["error"]["type"] == kind
            assert said in entry["error"]["message"]
            assert entry["latency_ms"] is None
            # what it had finished is in the document; on a loaded machine a block may have been taken twice
            assert 1 <= len(entry["blocks"]) <= THIRD_BLOCK - WARM_UP - 1
            assert entry["samples"] == sum(entry["blocks"]) > 0
        else:
            assert entry["latency_ms"]["p50"] > 0
            assert len(entry["blocks"]) == len(found.session.order)
    failure = found.failure()
    assert failure is not None
    assert failure.exit_code == 4
    assert "1 of 3 cells failed" in str(failure)


@pytest.mark.parametrize("block", [FIRST_INFERENCE, WARM_UP])
def test_a_cell_that_dies_before_its_first_block(
    faulty: Callable[..., str], models: tuple[str, str], block: int
) -> None:
    entries = run(models[1], faulty(KILL, block)).document()["results"]
    assert [entry["samples"] > 0 for entry in entries] == [True, False, True]
    assert entries[1]["error"]["type"] == "WorkerCrashError"


CHATTY = "print('hello from a library ' * 50, flush=True); os.write(1, b'C++ says hello' * 99); sys.stdout.write('x')"


def test_a_library_that_prints_to_standard_output(
    faulty: Callable[..., str], models: tuple[str, str], edgekit_cli: Callable[..., Ended]
) -> None:
    devices = ["--on", "cpu", "--on", faulty(CHATTY)]
    ended = edgekit_cli("bench", models[1], *devices, "--seconds", "0.3", "--workers", "1", "--json", "-")
    assert ended.code == 0
    assert [entry["latency_ms"]["p50"] > 0 for entry in ended.document["results"]] == [True, True]


STOPPED = "subprocess.Popen(['sh', '-c', f'sleep 0.05; kill -STOP {os.getpid()}; sleep 0.9; kill -CONT {os.getpid()}'])"


def test_a_process_that_stood_still(faulty: Callable[..., str], models: tuple[str, str]) -> None:
    """Stopped for 0.9 s in the middle of a block of 0.1 s, as a paused virtual machine is: taken again, or marked."""
    found = bench([models[1]], on=["cpu", faulty(STOPPED)], seconds=2.0, workers=1)
    entry = found.document()["results"][1]
    assert "error" not in entry
    marked, start = set(entry["disturbed_blocks"]), 0
    stalled = []
    for place, size in enumerate(entry["blocks"]):
        if max(entry["samples_ns"][start : start + size]) > 500_000_000:
            stalled.append(place)
        start += size
    assert set(stalled) <= marked
    if not stalled:
        assert found.session.reference.repeated_blocks >= 1


def test_a_full_disk_loses_neither_the_table_nor_the_finished_blocks(
    models: tuple[str, str], edgekit_cli: Callable[..., Ended], tmp_path: Path
) -> None:
    """Files of this process may have 16 KiB: the journal fits its first blocks, the document does not fit."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (16384, 16384))

    ended = edgekit_cli(
        "bench", models[1], "--seconds", "0.3", "--workers", "1", "--json", "out.json", preexec_fn=limit
    )
    assert ended.code == 3
    assert "cannot be kept" in ended.err  # the journal, while it ran
    assert "Free some space" in ended.err
    assert "heavy.onnx" in ended.out  # the table
    assert not (tmp_path / "out.json").exists()
    kept = (tmp_path / "out.json.part").read_text().split("\n")
    assert sum("samples_ns" in line for line in kept[:-1]) >= 1
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".out")] == []


def test_an_interrupt_leaves_no_worker_behind(models: tuple[str, str], edgekit_program: str, tmp_path: Path) -> None:
    import subprocess
    import time

    command = [edgekit_program, "bench", models[1], "--seconds", "30", "--workers", "1", "--json", "r.json", "--debug"]
    with subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as parent:
        deadline = time.monotonic() + 60
        part = tmp_path / "r.json.part"  # its first line is written when the blocks begin
        while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.05)
        threads = Path(f"/proc/{parent.pid}/task").iterdir()  # a child belongs to the thread that started it
        children = [child for thread in threads for child in (thread / "children").read_text().split()]
        os.kill(parent.pid, signal.SIGINT)
        parent.communicate(timeout=60)
    assert parent.returncode == 130
    assert len(children) >= 2  # the worker and the reference workload
    for child in children:
        assert not Path(f"/proc/{child}/cmdline").exists() or not Path(f"/proc/{child}/cmdline").read_text()
