"""A fleet for real: an ssh server, the ARM emulator and this machine in one matrix, and a line that breaks in it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgekit.devices import open_worker
from edgekit.devices.identity import machine_id


@pytest.fixture
def board(sshd: Any, other_python: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """An ssh server on the loopback as a device, with a cache and a lease of the test's own."""
    monkeypatch.setenv("EDGEKIT_SSH", sshd.client)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return f"ssh://board?python={other_python}"


def test_every_worker_says_on_which_machine_it_is(
    board: str, arm_root: Path, other_python: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them are here: the loopback, the other environment, and the emulator, whose kernel is this one."""
    monkeypatch.setenv("EDGEKIT_EMULATOR_ROOT", str(arm_root))
    for device in ("cpu", f"python:{other_python}", board, "emulator:cortex-a72"):
        with open_worker(device) as client:
            assert client.hello["machine"] == machine_id(), device
    assert re.fullmatch(r"[0-9a-f]{16}", machine_id())


def test_a_board_an_emulator_and_this_machine_are_one_matrix(
    board: str, arm_root: Path, edgekit_cli: Callable[..., Any], files: ModuleType, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """All three are this machine, and so one job: nothing is timed while the emulator runs, one lease is taken."""
    monkeypatch.setenv("EDGEKIT_EMULATOR_ROOT", str(arm_root))
    models = [files.dense_tflite(tmp_path / "a.tflite"), files.recurrent_tflite(tmp_path / "b.tflite")]
    devices = [board, "emulator:cortex-a72", "cpu"]
    on = [word for device in devices for word in ("--on", device)]
    done = edgekit_cli("bench", *models, *on, "--seconds", "0.3", "--workers", "1", "--json", "out.json")
    assert done.code == 0, done.err
    document = json.loads((tmp_path / "out.json").read_text())
    rows = {(Path(row["model"]).name, row["device"]["name"]): row for row in document["results"]}
    assert len(rows) == 6 and not any("error" in row for row in rows.values())
    for (_, device), row in rows.items():
        emulated = device.startswith("emulator")
        assert (row["latency_ms"] is None) == emulated
        assert row["device"]["evidence"] == ("emulated" if emulated else "measured")
        assert row["runtime"] == ("tflite-runtime" if device == board else "litert")
    assert sorted(found["device"] for found in document["comparisons"]) == sorted([board, "cpu"])
    protocol = document["protocol"]
    assert "machines" not in protocol and {cell for round_ in protocol["order"] for cell in round_} == set(range(6))
    (lease,) = protocol["leases"]
    assert lease["device"] == board and lease["kept"]
    assert f"{', '.join(devices)}: timing" in done.err


def test_two_names_of_one_board_take_one_lease(
    board: str, edgekit_cli: Callable[..., Any], files: ModuleType, tmp_path: Path
) -> None:
    """Each would wait for the other for ten minutes."""
    model = files.dense_tflite(tmp_path / "a.tflite")
    other = board.replace("ssh://board", "ssh://board/")
    done = edgekit_cli(
        "bench", model, "--on", board, "--on", other, "--seconds", "0.2", "--workers", "1", "--json", "-"
    )
    assert done.code == 0, done.err
    assert all(row["latency_ms"]["p50"] > 0 for row in done.document["results"])
    assert [lease["device"] for lease in done.document["protocol"]["leases"]] == [f"{board}, {other}"]


def test_a_line_that_breaks_in_the_middle_costs_only_its_cells(
    board: str, sshd: Any, edgekit_program: str, files: ModuleType, tmp_path: Path
) -> None:
    """The server's sessions are killed while the board is timed: its cell is a typed row, that of cpu stands."""
    model = str(files.dense_tflite(tmp_path / "a.tflite"))
    command = [edgekit_program, "bench", model, "--on", board, "--on", "cpu", "--workers", "1"]
    part = tmp_path / "out.json.part"
    with subprocess.Popen(
        [*command, "--seconds", "2", "--json", "out.json"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as running:
        deadline = time.monotonic() + 120
        while not _blocks(part, 0) and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        for session in _children(sshd.process.pid):
            os.kill(session, signal.SIGKILL)
        _, said = running.communicate(timeout=120)
    assert running.returncode == 4 and "1 of 2 cells failed" in said and "Traceback" not in said, said
    lost, kept = json.loads((tmp_path / "out.json").read_text())["results"]
    assert lost["error"]["type"] == "UnreachableError" and lost["latency_ms"] is None and lost["samples"] > 0
    assert kept["latency_ms"]["p50"] > 0 and "error" not in kept
    mark = f"EDGEKIT_CACHE={sshd.cache}".encode()
    deadline = time.monotonic() + 20
    while _with(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _with(mark) == [], "a worker is left on the board"


def _blocks(part: Path, cell: int) -> int:
    lines = part.read_text().split("\n")[:-1] if part.exists() else []
    return sum(row.get("cell") == cell for row in map(json.loads, lines))


def _children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def _with(mark: bytes) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append((entry / "cmdline").read_bytes().decode(errors="replace"))
        except OSError:
            continue
    return found
