"""A program at the other end of three pipes: bytes in, bytes out, standard error, and its end. It knows no frames."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from edgekit import children
from edgekit.devices.stderr_tail import StderrTail
from edgekit.devices.stop import Stopped, current
from edgekit.errors import DeviceError

NOISE_LIMIT_BYTES: Final = 64 << 10
"""What may come before a marker: the greeting of a login shell, not a program that talks for ever."""


class Channel:
    """Starts ``command`` as a process group of its own; see the module. ``name`` is how messages call it.

    Raises:
        DeviceError: it cannot be started.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], name: str) -> None:
        self.stderr_tail = StderrTail(name)
        self._sending: list[memoryview] = []
        self._stop = current()
        try:
            self._process = children.start(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            raise DeviceError(f"{name}: {command[0]} cannot be started: {error.strerror}") from error
        streams = (self._process.stdin, self._process.stdout, self._process.stderr)
        self._to, self._from, self._errors = (stream.fileno() for stream in streams if stream is not None)
        for descriptor in (self._to, self._from, self._errors):
            os.set_blocking(descriptor, False)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Exit status, negative for a signal; None while it lives."""
        return self._process.poll()

    def send(self, parts: Sequence[memoryview]) -> None:
        """Sends what the pipe takes now; the rest leaves while :meth:`read` waits, so that neither side is blocked."""
        self._sending += parts
        self._send_some()

    def read(self, count: int, deadline: float) -> bytearray:
        """Exactly ``count`` bytes.

        Raises:
            EOFError: its output ended.
            Stopped: the stop of the thread that made it was set.
            TimeoutError: they were not there at ``deadline`` (time.monotonic).
        """
        data = bytearray(count)
        view, got = memoryview(data), 0
        while got < count:
            self._wait(deadline)
            try:
                some = os.readv(self._from, [view[got:]])
            except BlockingIOError:
                continue
            if some == 0:
                raise EOFError
            got += some
        return data

    def read_to_end(self, most: int, deadline: float) -> bytes:
        """All it says until its output ends.

        Raises:
            TimeoutError, Stopped: as :meth:`read`.
            ValueError: more than ``most`` bytes.
        """
        data = bytearray()
        while len(data) <= most:
            self._wait(deadline)
            try:
                some = os.read(self._from, 1 << 16)
            except BlockingIOError:
                continue
            if not some:
                return bytes(data)
            data += some
        raise ValueError(f"more than {most:,} bytes")

    def read_after(self, marker: bytes, count: int, deadline: float) -> bytearray:
        """``count`` bytes after the first ``marker``; what comes before it is dropped, up to the noise limit.

        Raises:
            EOFError, TimeoutError: as :meth:`read`.
            ValueError: no marker within the limit.
        """
        seen = self.read(len(marker), deadline)
        while not seen.endswith(marker):
            if len(seen) > NOISE_LIMIT_BYTES:
                raise ValueError(bytes(seen[:40]))
            seen += self.read(1, deadline)
        return self.read(count, deadline)

    def drain(self) -> None:
        """Takes what it has said on standard error."""
        if self._process.stderr is not None and not self._process.stderr.closed:
            self.stderr_tail.drain(self._errors)

    def leave(self, last: bytes, within_s: float) -> None:
        """Sends a last word and waits for the program's end, at most ``within_s``."""
        if self._process.returncode is None:
            with suppress(OSError):  # it may be gone already, which is what is wanted
                os.write(self._to, last)
            self.wait(within_s)

    def wait(self, within_s: float) -> int | None:
        """Its status once it has ended, None when it lives on."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(within_s)
        self.drain()
        return self._process.poll()

    def kill(self) -> None:
        """Kills the program and whatever it started here, and lets go of the pipes; twice does no harm."""
        process = self._process
        with suppress(ProcessLookupError, PermissionError):  # nobody is left in the group
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self.drain()
        self.stderr_tail.tell()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()

    def _wait(self, deadline: float) -> None:
        """Sleeps in the kernel until there is something to read; raises TimeoutError at the deadline, or Stopped."""
        stop = [] if self._stop is None else [self._stop.descriptor]
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            readers = [self._from] if self.stderr_tail.ended else [self._from, self._errors]
            readable, writable, _ = select.select(readers + stop, [self._to] if self._sending else [], [], left)
            if self._stop is not None and self._stop.descriptor in readable:
                raise Stopped
            if writable:
                self._send_some()
            if self._errors in readable:
                self.stderr_tail.drain(self._errors)
            if self._from in readable:
                return

    def _send_some(self) -> None:
        try:
            while self._sending:
                sent = os.write(self._to, self._sending[0])
                self._sending[0] = self._sending[0][sent:]
                if not self._sending[0].nbytes:
                    self._sending.pop(0)
        except BlockingIOError:
            return
        except BrokenPipeError:  # it is gone; reading finds out how
            self._sending = []
