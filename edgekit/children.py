"""Child processes that end with this one, however it ends: the kernel kills them, whatever they are doing.

A child that reads the end of its input cannot be relied on: one that is busy in native code, or in one long operation
of Python, reads nothing. Linux sends a child the signal it has asked for when its parent ends; but "parent" is the
thread that started it, so all are started by one thread, which lives as long as this process. The asking is done by a
small program, which then becomes the child: code between fork and exec of a process with threads could hang.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, Final

Process = subprocess.Popen
_PR_SET_PDEATHSIG: Final = 1
_BEGIN: Final = f"""\
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, {int(signal.SIGKILL)})
if os.getppid() != int(sys.argv[1]):
    sys.exit("the process that started this one has ended")
for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
    signal.signal(ignored, signal.SIG_DFL)
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit(f"{{sys.argv[2]}} cannot be started: {{error.strerror}}")
"""


def start(command: Sequence[str | os.PathLike[str]], **options: Any) -> Process[Any]:
    """A process that runs ``command`` and is killed when this one ends. ``options``: of :class:`subprocess.Popen`.

    Raises:
        OSError: there is no such program, or no process can be made.
    """
    words = [os.fspath(word) for word in command]
    path = (options.get("env") or os.environ).get("PATH")
    if shutil.which(words[0], path=path) is None:
        missing = errno.EACCES if os.path.exists(words[0]) else errno.ENOENT
        raise OSError(missing, os.strerror(missing), words[0])
    words = [sys.executable, "-I", "-S", "-c", _BEGIN, str(os.getpid()), *words]
    done: Future[Process[Any]] = Future()
    _starter(os.getpid()).put((done, words, options))
    return done.result()


def run(
    command: Sequence[str | os.PathLike[str]], *, input: str | None = None, timeout: float | None = None, **options: Any
) -> subprocess.CompletedProcess[Any]:
    """Like :func:`subprocess.run`, through :func:`start`: what the program writes comes back as text, its input is
    empty unless given, an exit status is not an error.

    Raises:
        OSError: as :func:`start`.
        subprocess.TimeoutExpired: it was killed after ``timeout`` seconds.
    """
    given = subprocess.DEVNULL if input is None else subprocess.PIPE
    usual: dict[str, Any] = {"stdin": given, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    usual |= {"encoding": "utf-8", "errors": "replace"}
    with start(command, **{**usual, **options}) as process:
        try:
            out, err = process.communicate(input, timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(list(command), process.returncode, out, err)


def end_with_parent() -> None:
    """For a process of :mod:`multiprocessing`: it is killed when its parent ends, or has ended."""
    import multiprocessing

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid != os.getppid():
        os._exit(1)


@functools.cache
def _starter(_pid: int) -> queue.SimpleQueue[tuple[Future[Process[Any]], list[str], dict[str, Any]]]:
    """What the thread that starts all children is asked through; a forked process has one of its own."""
    asked: queue.SimpleQueue[tuple[Future[Process[Any]], list[str], dict[str, Any]]] = queue.SimpleQueue()

    def serve() -> None:
        while True:
            done, words, options = asked.get()
            try:
                done.set_result(subprocess.Popen(words, **options))
            except Exception as error:
                done.set_exception(error)
            del done, words, options  # a child that nobody holds any more loses its pipes

    threading.Thread(target=serve, name="starts-children", daemon=True).start()
    return asked
