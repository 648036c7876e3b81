"""What can become of a worker beside what every transport is put through (``conformance/``)."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edgekit.devices import WorkerClient, open_runner, open_worker
from edgekit.errors import (
    DeviceError,
    UsageError,
    WorkerCrashError,
    WorkerMemoryError,
)

Broken = Callable[..., WorkerClient]


def gone(pid: int, within_s: float = 20) -> bool:
    """Whether the process ends (a zombie has ended)."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state in "ZX":
            return True
        time.sleep(0.02)
    return False


def test_the_stack_of_a_crash_is_in_the_log(broken: Broken, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "edgekit")
    with broken("ctypes.string_at(0)") as client, pytest.raises(WorkerCrashError):
        client.reset()
    assert "Fatal Python error: Segmentation fault" in caplog.text and "misbehave.py" in caplog.text


def test_a_time_out_must_be_some_time() -> None:
    with pytest.raises(UsageError, match="give more than 0"):
        open_worker("cpu", timeout_s=0)


def test_native_code_out_of_memory(files: ModuleType, tmp_path: Path) -> None:
    """A model whose result does not fit: 30,000 x 30,000 floats, 3.6 GB."""
    path = files.huge_onnx(tmp_path / "m.onnx", 30_000)
    with open_runner(path, memory_limit_bytes=1 << 30) as runner, pytest.raises(WorkerMemoryError):
        runner.run({"x": np.ones((30_000, 1), np.float32)})


def test_rubbish_in_is_refused_by_the_worker() -> None:
    """What is not a frame ends the worker, with a word on standard error and a status of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "edgekit.devices.worker"],
        input=b"GET / HTTP/1.1\r\n\r\n",
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (3, b"")
    assert b"not a frame" in done.stderr


PARENT = """\
import os, signal, sys, time
from edgekit.devices.client import WorkerClient
sys.path.insert(0, {folder!r})
import transport
client = WorkerClient(transport.Broken())
print(client.hello["pid"], flush=True)
client.reset()
"""


@pytest.fixture
def parent(tmp_path: Path) -> subprocess.Popen[str]:
    """A process of its own whose worker hangs; its first line of output is the worker's pid."""
    (tmp_path / "misbehave.py").write_text(
        "import sys, time\nfrom edgekit.devices import worker\n"
        "worker.Worker.reset = lambda self, message: time.sleep(600)\nsys.exit(worker.main())\n"
    )
    (tmp_path / "transport.py").write_text(
        "import sys\nfrom edgekit.devices.local import LocalTransport\nfrom edgekit.types import DeviceSpec\n"
        "class Broken(LocalTransport):\n"
        "    def __init__(self): super().__init__(DeviceSpec('cpu', 'cpu'))\n"
        f"    def command(self, start): return [sys.executable, {str(tmp_path / 'misbehave.py')!r}, *start.arguments]\n"
    )
    program = PARENT.format(folder=str(tmp_path))
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    yield process
    process.kill()
    process.communicate()


def worker_of(parent: subprocess.Popen[str]) -> int:
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    time.sleep(0.3)  # until it waits for an answer; earlier is another path to the same end
    return pid


def test_an_interrupt_kills_the_worker(parent: subprocess.Popen[str]) -> None:
    pid = worker_of(parent)
    parent.send_signal(signal.SIGINT)
    _, errors = parent.communicate(timeout=30)
    assert "KeyboardInterrupt" in errors  # it reaches the caller as itself
    assert gone(pid)


def test_no_worker_outlives_a_parent_that_is_killed(parent: subprocess.Popen[str]) -> None:
    pid = worker_of(parent)
    parent.kill()
    assert gone(pid)


def test_a_model_error_ends_the_worker_of_a_runner(files: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(DeviceError) as caught:
        open_runner(files.dense_onnx(tmp_path / "m.onnx"), device="python:/bin/false")
    assert "exit status 1" in str(caught.value)


def test_a_worker_that_nobody_asks_ends() -> None:
    """Its input stays open, as after a network that died without a word."""
    command = [sys.executable, "-m", "edgekit.devices.worker", "--idle-limit", "0.2"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.wait(60) == 0
