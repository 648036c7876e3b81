"""The first program on a device: takes the worker in, starts it, watches over it, and says how it ended.

It is sent as text and run by ``python -c`` (:mod:`edgekit.devices.ssh`), so it imports the standard library only. Its
syntax is that of Python 3.6: an old Python must be able to say that it is old.

What comes in on standard input: one line of JSON (``oldest`` Python, ``sha256`` and ``bytes`` of the worker's archive,
its ``arguments`` and ``environment``), then the archive, if the answer ``EKD1 send`` asks for it (``EKD1 have``: it is
here already), then the frames of the worker, which takes over both pipes. The worker has a process group of its own.
It is killed with all it started when the connection is gone, whatever it is doing: a library that hangs and keeps
Python's lock cannot see that itself. What is written here is for its user alone.
"""

import hashlib
import json
import math
import os
import select
import signal
import sys
import time
from contextlib import suppress

MARK = b"EKD1 "
ENDED = "edgekit-bootstrap: ended"
KEPT = 8
"""Worker programs that are kept: each version of edgekit that comes here brings one."""
GRACE_S = 1.0
HANG_UP = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0x2000)


def main() -> None:
    """Reads the order, receives the archive of edgekit where it is missing, and becomes the worker."""
    os.umask(0o077)
    order = json.loads(read_line(0).decode())
    if sys.version_info < tuple(order["oldest"]):
        needed = ".".join(map(str, order["oldest"]))
        sys.exit(f"edgekit's worker needs Python {needed}, this is {sys.version.split()[0]}")
    try:
        program = take_in(order["sha256"], order["bytes"])
    except OSError as error:
        sys.exit(f"edgekit-bootstrap: no room for the worker: {error}")
    os.environ.update(order["environment"])
    waker, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: None)
    worker = os.fork()
    if worker == 0:
        os.setsid()
        end_with_parent()
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.execv(sys.executable, [sys.executable, program] + order["arguments"])
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that the worker's end is the end of the output
    status = watch(worker, waker)
    with suppress(ProcessLookupError):
        os.killpg(worker, signal.SIGKILL)  # what it started
    ended = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    with suppress(OSError):  # nobody may be there to be told
        os.write(2, f"\n{ENDED} {ended}\n".encode())
    os._exit(ended if ended >= 0 else 128 - ended)


def end_with_parent() -> None:
    """The kernel kills this process when the one that made it ends, as edgekit/children.py has it."""
    try:
        import ctypes
    except ImportError:  # a Python without it: the end of the input is all that ends the worker then
        return
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def watch(worker: int, waker: int) -> int:
    """Waits for the worker's end, or makes it once the connection is gone; its wait status."""
    poll = select.poll()
    poll.register(0, HANG_UP)
    poll.register(waker, select.POLLIN)
    deadline = math.inf
    while True:
        found, status = os.waitpid(worker, os.WNOHANG)
        if found:
            return status
        if time.monotonic() >= deadline:
            os.killpg(worker, signal.SIGKILL)
            return os.waitpid(worker, 0)[1]
        left = None if deadline == math.inf else max(deadline - time.monotonic(), 0) * 1000
        told = dict(poll.poll(left))
        stopped = waker in told and not {signal.SIGTERM, signal.SIGHUP}.isdisjoint(os.read(waker, 512))
        if stopped or 0 in told:
            deadline = min(deadline, time.monotonic() + GRACE_S)  # it sees the end of its input itself, if it can
            if 0 in told:
                poll.unregister(0)


def take_in(digest: str, size: int) -> str:
    """The worker's archive in the cache of this device; asks for it when it is not there, or is damaged."""
    chosen = os.environ.get("EDGEKIT_CACHE")
    cache = chosen or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache"), "edgekit"
    )
    folder = os.path.join(cache, "workers")
    os.makedirs(folder, exist_ok=True)
    with suppress(PermissionError):  # it is another user's, who decides
        os.chmod(folder, 0o700)  # an older edgekit left it open
    place = os.path.join(folder, digest + ".pyz")
    if os.path.exists(place):
        with open(place, "rb") as kept:
            if hashlib.sha256(kept.read()).hexdigest() == digest:
                os.utime(place, None)
                os.write(1, MARK + b"have\n")
                return place
    os.write(1, MARK + b"send\n")
    data = read_exactly(0, size)
    if hashlib.sha256(data).hexdigest() != digest:
        raise OSError("it did not arrive as it was sent")
    temporary = os.path.join(folder, digest + "." + str(os.getpid()))
    try:
        with open(temporary, "wb") as out:
            out.write(data)
        os.replace(temporary, place)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
    forget(folder)
    return place


def forget(folder: str) -> None:
    """Removes all but the worker programs used last."""
    places = []
    for name in os.listdir(folder):
        place = os.path.join(folder, name)
        with suppress(FileNotFoundError):  # another worker that comes now has removed it
            places.append((os.path.getmtime(place), place))
    for _, place in sorted(places)[:-KEPT]:
        with suppress(FileNotFoundError):
            os.unlink(place)


def read_line(descriptor: int) -> bytes:
    """One line, byte by byte: what follows belongs to the worker."""
    line = b""
    while not line.endswith(b"\n"):
        line += read_exactly(descriptor, 1)
    return line


def read_exactly(descriptor: int, count: int) -> bytes:
    """``count`` bytes; the process ends if the connection does."""
    data = b""
    while len(data) < count:
        some = os.read(descriptor, count - len(data))
        if not some:
            os._exit(0)  # the connection is gone before anything began
        data += some
    return data


if __name__ == "__main__":
    main()
