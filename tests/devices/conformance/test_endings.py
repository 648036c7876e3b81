"""What can become of a worker while it works, for real: each ends in its own error, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edgekit.devices.client import WorkerClient
from edgekit.errors import (
    DeviceError,
    ProtocolError,
    UnreachableError,
    WorkerCrashError,
    WorkerMemoryError,
    WorkerTimeoutError,
)

Start = Callable[..., WorkerClient]
Ends = Callable[..., AbstractContextManager[None]]
Do = Callable[..., None]
HOLDS_THE_LOCK = "ctypes.PyDLL(None).sleep(600)"
"""Native code that never comes back and keeps Python's lock: no thread of the worker runs any more."""


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("ctypes.string_at(0)", "signal SIGSEGV"),
        ("os.abort()", "signal SIGABRT"),
        ("os.kill(os.getpid(), signal.SIGILL)", "signal SIGILL"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "signal SIGKILL"),
        ("os._exit(0)", "exit status 0"),
        ("os._exit(7)", "exit status 7"),
        ("os._exit(255)", "exit status 255"),
        ("os.write(2, b'assertion failed: x > 0\\n'); os.abort()", "signal SIGABRT: assertion failed: x > 0"),
    ],
)
def test_it_dies(start: Start, do: Do, ends_in: Ends, body: str, said: str) -> None:
    with start() as client:
        with ends_in(WorkerCrashError, "died during 'do'", said):
            do(client, body)
        with ends_in(WorkerCrashError, said):  # what ended it is what is told from then on
            client.environment()


def test_killed_by_somebody(start: Start, do: Do, ends_in: Ends) -> None:
    with start() as client:
        threading.Timer(0.3, os.kill, (client.hello["pid"], signal.SIGKILL)).start()
        with ends_in(WorkerCrashError, "signal SIGKILL", "killed from outside"):
            do(client, "time.sleep(600)")


@pytest.mark.parametrize("body", ["time.sleep(600)", "while True: pass", HOLDS_THE_LOCK])
def test_it_hangs(start: Start, do: Do, ends_in: Ends, body: str) -> None:
    with start() as client, ends_in(WorkerTimeoutError, "no answer to 'do' within 1 s and was killed"):
        do(client, body, timeout_s=1.0)


def test_what_it_started_dies_with_it(start: Start, do: Do, ends_in: Ends) -> None:
    """The process is found by its environment when nothing may be left (``_nothing_is_left``)."""
    with start() as client, ends_in(WorkerTimeoutError):
        do(client, "import subprocess; subprocess.Popen(['sleep', '600']); time.sleep(600)", timeout_s=2.0)


def test_the_connection_is_cut_in_the_middle_of_a_run(start: Start, do: Do, place: Any) -> None:
    client = start()
    timer = threading.Timer(0.3, place.cut, (client,))
    timer.start()
    with pytest.raises((WorkerCrashError, UnreachableError)) as caught:
        do(client, HOLDS_THE_LOCK)
    assert caught.value.exit_code == 4
    timer.join()


def test_an_interrupt_reaches_the_caller_and_ends_the_worker(start: Start, do: Do) -> None:
    client = start()
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        do(client, HOLDS_THE_LOCK)
    with pytest.raises(DeviceError, match="was stopped while it answered 'do'"):
        client.environment()


@pytest.mark.parametrize("body", ["time.sleep(600)", HOLDS_THE_LOCK, "9 ** 9 ** 9 ** 9"])
def test_no_worker_outlives_a_parent_that_is_killed(start: Start, do: Do, body: str) -> None:
    """The parent has no chance to clean up, and a busy worker sees no end of its input: the kernel ends it."""
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            client = start()
            os.write(tell, b"x")
            do(client, body)
        finally:
            os._exit(1)
    assert os.read(ready, 1) == b"x"
    time.sleep(0.2)  # until it waits for an answer; earlier is another path to the same end
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(ready)
    os.close(tell)


def test_python_is_out_of_memory(start: Start, do: Do, ends_in: Ends) -> None:
    with start(memory_limit_bytes=1 << 29) as client:
        with ends_in(WorkerMemoryError):
            do(client, "np.ones(1 << 28)")
        assert client.environment()  # Python survives that


def test_native_code_is_out_of_memory(start: Start, do: Do, ends_in: Ends, files: ModuleType, tmp_path: Path) -> None:
    """A model whose tensor does not fit: 40,000 x 40,000 floats, 6.4 GB."""
    path = files.huge_tflite(tmp_path / "m.tflite", 40_000)
    with start(memory_limit_bytes=1 << 30) as client, ends_in(WorkerMemoryError):
        client.load(path)
        client.run({"x": np.ones((40_000, 1), np.float32), "z": np.ones((1, 40_000), np.float32)})


def test_a_death_for_want_of_memory(start: Start, do: Do, ends_in: Ends) -> None:
    body = "os.write(2, b\"terminate called after throwing an instance of 'std::bad_alloc'\\n\"); os.abort()"
    with start(memory_limit_bytes=1 << 30) as client, ends_in(WorkerMemoryError, "limit 1,073,741,824 bytes"):
        do(client, body)


OUT = "for fd in range(3, 10):\n    try: os.write(fd, {junk})\n    except OSError: pass\n"
"""Written where frames go, which no library can reach by its standard output."""


@pytest.mark.parametrize(
    "junk", ["b'hello, I am a library, and talk'", "b'EKW1' + bytes(range(200))", "os.urandom(5000)"]
)
def test_rubbish_where_frames_go(start: Start, do: Do, ends_in: Ends, junk: str) -> None:
    with start() as client, ends_in(ProtocolError):
        do(client, OUT.format(junk=junk) + "time.sleep(600)")


def test_a_frame_that_is_cut_short(start: Start, do: Do, ends_in: Ends) -> None:
    frame = "protocol.PREFIX.pack(protocol.MAGIC, 1000, 0) + b'{'"
    with start() as client, ends_in(WorkerCrashError, "exit status 3"):
        do(client, OUT.format(junk=frame) + "os._exit(3)")
    with start() as client, ends_in(WorkerTimeoutError, "within 1 s"):
        do(client, OUT.format(junk=frame) + "time.sleep(600)", timeout_s=1.0)


def test_what_is_left_behind_would_be_seen(start: Start, do: Do, left: Callable[[], list[str]]) -> None:
    with start() as client:
        do(client, "import subprocess; subprocess.Popen(['sleep', '600'])")
        # Popen returns while exec still sets the new process up: for a moment it has neither arguments nor environment.
        deadline = time.monotonic() + 10.0
        while not any("sleep 600" in command for command in left()):
            assert time.monotonic() < deadline, "the process that is left behind was not seen"


def test_what_libraries_print_breaks_nothing(start: Start, do: Do) -> None:
    with start() as client:
        do(client, "print('python prints')\nos.write(1, b'native code writes\\n' * 5000)\nassert not sys.stdin.read()")
        do(client, "for k in range(20000): sys.stderr.write('x' * 100 + '\\n')")
        assert client.environment()
