"""What can become of a worker, for real: each ends in its own error, and leaves no process behind."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edgekit.bench.clock import WarmupRule
from edgekit.devices import WorkerClient, open_runner, open_worker
from edgekit.errors import (
    DeviceError,
    ProtocolError,
    UsageError,
    WorkerCrashError,
    WorkerMemoryError,
    WorkerTimeoutError,
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


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("ctypes.string_at(0)", "signal SIGSEGV"),
        ("os.abort()", "signal SIGABRT"),
        ("os._exit(0)", "exit status 0"),
        ("os._exit(7)", "exit status 7"),
        ("os.kill(os.getpid(), signal.SIGILL)", "signal SIGILL"),
        ("os.write(2, b'assertion failed: x > 0\\n'); os.abort()", "signal SIGABRT: assertion failed: x > 0"),
    ],
)
def test_a_worker_that_dies(broken: Broken, body: str, said: str) -> None:
    with broken(body) as client:
        with pytest.raises(WorkerCrashError) as caught:
            client.reset()
        assert said in str(caught.value) and "'reset'" in str(caught.value) and "\n" not in str(caught.value)
        assert gone(client.hello["pid"])
        with pytest.raises(WorkerCrashError, match="died during 'reset'"):  # what ended it is what is told from then on
            client.environment()


def test_the_stack_of_a_crash_is_in_the_log(broken: Broken, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "edgekit")
    with broken("ctypes.string_at(0)") as client, pytest.raises(WorkerCrashError):
        client.reset()
    assert "Fatal Python error: Segmentation fault" in caplog.text and "misbehave.py" in caplog.text


def test_killed_from_outside_while_timing(files: ModuleType, tmp_path: Path) -> None:
    with open_worker("cpu") as client:
        client.load(files.dense_onnx(tmp_path / "m.onnx"))
        threading.Timer(0.5, os.kill, (client.hello["pid"], signal.SIGKILL)).start()
        with pytest.raises(WorkerCrashError, match=r"SIGKILL.*killed from outside"):
            client.time_block(
                {"x": np.ones((1, 4), np.float32)},
                warmup=WarmupRule(0, 0, 0),
                min_runs=1,
                min_ns=30 * 10**9,
                max_ns=30 * 10**9,
            )


@pytest.mark.parametrize("body", ["time.sleep(600)", "while True: pass", "signal.pause()"])
def test_a_worker_that_hangs_is_killed(broken: Broken, body: str) -> None:
    with broken(body) as client:
        client._timeout_s = 1.0
        with pytest.raises(WorkerTimeoutError, match="no answer to 'reset' within 1 s and was killed"):
            client.reset()
        assert gone(client.hello["pid"])


def test_what_a_worker_started_dies_with_it(broken: Broken, tmp_path: Path) -> None:
    note = tmp_path / "child"
    body = (
        "import subprocess\nchild = subprocess.Popen(['sleep', '600'])\n"
        f"open({str(note)!r}, 'w').write(str(child.pid))\ntime.sleep(600)"
    )
    with broken(body) as client:
        client._timeout_s = 3.0
        with pytest.raises(WorkerTimeoutError):
            client.reset()
    assert gone(int(note.read_text()))


def test_a_time_out_must_be_some_time() -> None:
    with pytest.raises(UsageError, match="give more than 0"):
        open_worker("cpu", timeout_s=0)


def test_python_out_of_memory(broken: Broken) -> None:
    with broken("np.ones(1 << 28)", memory_limit_bytes=1 << 29) as client:
        with pytest.raises(WorkerMemoryError):
            client.reset()
        assert client.environment()  # Python survives that


def test_native_code_out_of_memory(files: ModuleType, tmp_path: Path) -> None:
    """A model whose result does not fit: 30,000 x 30,000 floats, 3.6 GB."""
    path = files.huge_onnx(tmp_path / "m.onnx", 30_000)
    with open_runner(path, memory_limit_bytes=1 << 30) as runner, pytest.raises(WorkerMemoryError):
        runner.run({"x": np.ones((30_000, 1), np.float32)})


@pytest.mark.parametrize(
    "body",
    [
        "os.write(2, b\"terminate called after throwing an instance of 'std::bad_alloc'\\n\"); os.abort()",
        "os.kill(os.getpid(), signal.SIGKILL)",
    ],
)
def test_a_death_for_want_of_memory_is_known(broken: Broken, body: str) -> None:
    with (
        broken(body, memory_limit_bytes=1 << 30) as client,
        pytest.raises(WorkerMemoryError, match="limit 1,073,741,824 bytes"),
    ):
        client.reset()


@pytest.mark.parametrize("junk", ["b'hello, I am a library'", "b'EKW1' + bytes(range(200))", "os.urandom(5000)"])
def test_rubbish_on_the_pipe_is_a_protocol_error(broken: Broken, junk: str) -> None:
    """Written where frames go, which no library can reach by its standard output."""
    body = (
        f"junk = {junk}\nfor fd in range(3, 10):\n    try:\n        os.write(fd, junk)\n"
        "    except OSError:\n        pass\ntime.sleep(600)"
    )
    with broken(body) as client:
        with pytest.raises(ProtocolError):
            client.reset()
        assert gone(client.hello["pid"])


def test_rubbish_in_is_refused_by_the_worker() -> None:
    """What is no frame ends the worker, with a word on standard error and a status of its own."""
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
        f"    def command(self, arguments): return [sys.executable, {str(tmp_path / 'misbehave.py')!r}, *arguments]\n"
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
