"""Children end with their parent, whatever they are doing; what cannot be started says so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edgekit import children

BUSY = "import sys; print('ready', flush=True); 9 ** 9 ** 9 ** 9"
IGNORES = "import signal, sys; print(signal.getsignal(signal.SIGPIPE).name)"
PARENT = """
import os, subprocess, sys, threading
from edgekit import children

def begin():
    process = children.start([sys.executable, "-c", {busy!r}], stdout=-1, start_new_session=True)
    process.stdout.readline()
    print(process.pid, flush=True)
    kept.append(process)

kept = []
begin()
threads = [threading.Thread(target=begin)]
for thread in threads:
    thread.start()
    thread.join()
print("threads have ended", flush=True)
sys.stdin.read()
"""


def _gone(pid: int, within_s: float = 20) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False


def test_busy_children_end_with_a_killed_parent_and_outlive_the_thread_that_wanted_them() -> None:
    program = [sys.executable, "-c", PARENT.format(busy=BUSY)]
    parent = subprocess.Popen(program, stdin=-1, stdout=-1, text=True)
    assert parent.stdout is not None
    pids = [int(parent.stdout.readline()) for _ in range(2)]
    assert parent.stdout.readline() == "threads have ended\n"
    time.sleep(0.2)
    assert not any(_gone(pid, 0.1) for pid in pids)
    parent.kill()
    parent.communicate()
    assert all(_gone(pid) for pid in pids)


def test_a_child_is_the_program_itself() -> None:
    """Its id, its exit status, its signals, its input and output."""
    with children.start([sys.executable, "-c", "import os; print(os.getpid())"], stdout=-1, text=True) as process:
        assert process.stdout is not None
        assert int(process.stdout.read()) == process.pid
    assert children.run(["sh", "-c", "exit 7"]).returncode == 7
    assert children.run(["sh", "-c", "kill -KILL $$"]).returncode == -signal.SIGKILL
    assert children.run(["cat"], input="hello").stdout == "hello"
    assert children.run(["cat"]).stdout == "", "its input is empty, not the user's"
    assert children.run(["sh", "-c", "yes | head -1; echo e >&2"]).stderr == "e\n", "SIGPIPE ends 'yes' quietly"
    assert children.run(["pwd"], cwd="/").stdout == "/\n"
    assert children.run(["sh", "-c", "echo $A"], env={"A": "b", "PATH": os.environ["PATH"]}).stdout == "b\n"


def test_what_cannot_be_started_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        children.run(["no-such-program"])
    (tmp_path / "file").write_text("#!/bin/sh\n")
    with pytest.raises(PermissionError):
        children.run([tmp_path / "file"])
    (tmp_path / "rubbish").write_bytes(b"\x7fELFrubbish")
    (tmp_path / "rubbish").chmod(0o755)
    done = children.run([tmp_path / "rubbish"])
    assert done.returncode == 1 and "Exec format error" in done.stderr


def test_a_child_that_takes_too_long_is_killed() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        children.run([sys.executable, "-c", BUSY], timeout=0.5)


def test_a_forked_process_starts_its_own() -> None:
    children.run(["true"])
    pid = os.fork()
    if pid == 0:
        os._exit(children.run(["sh", "-c", "exit 5"]).returncode)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5


def test_many_threads_start_children_at_once() -> None:
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda n=n: found.append(children.run(["echo", str(n)]).stdout)) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [f"{n}\n" for n in range(8)]
