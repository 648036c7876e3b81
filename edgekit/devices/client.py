"""The parent's side of a worker: starts it, talks to it, and turns what can happen to it into typed errors."""

from __future__ import annotations

import logging
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from edgekit.bench.clock import Block, WarmupRule
from edgekit.cardfile import signature_from_json
from edgekit.devices.lastwords import Lastwords
from edgekit.devices.local import Transport
from edgekit.devices.protocol import VERSION, Message, decode, encode
from edgekit.errors import (
    DeviceError,
    EdgekitError,
    ProtocolError,
    RuntimeMissingError,
    UsageError,
    WorkerCrashError,
    WorkerMemoryError,
    WorkerTimeoutError,
    error_class,
)
from edgekit.runtime.base import Delegation
from edgekit.types import Array, Feed, Signature

log = logging.getLogger("edgekit")
_LEAVE_S: Final = 2.0
"""How long a worker that was told to end may take."""


@dataclass(frozen=True, slots=True)
class LoadedInfo:
    """A model that a worker has loaded. ``peak_memory_bytes``: resident, right after loading; None: not known."""

    signature: Signature
    load_ns: int
    runtime: str
    runtime_version: str
    delegation: Delegation | None
    peak_memory_bytes: int | None


class WorkerClient:
    """One worker process; a context manager. Not for use by several threads at once.

    The worker is a process group of its own, killed as a whole on a time-out, on an interrupt and on anything that is
    not an answer; after that every call raises the error that ended it. What it wrote to standard error goes to the
    DEBUG log, and its last words into the message of the error.

    Args:
        transport: how the program is started.
        timeout_s: longest wait for an answer (a timed block may take its own time on top).
        memory_limit_bytes: limit on the worker's data (RLIMIT_DATA); None sets none.
        padding: characters of an environment variable without meaning: it moves the worker's stack and heap.

    Raises (every method):
        WorkerCrashError, WorkerTimeoutError, WorkerMemoryError, ProtocolError: what became of the worker.
        EdgekitError: what a command raised in the worker, as the same class.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        timeout_s: float = 60.0,
        memory_limit_bytes: int | None = None,
        padding: int = 0,
    ) -> None:
        if timeout_s <= 0:
            raise UsageError(f"the time-out is {timeout_s} s; give more than 0")
        self.name = transport.spec.name
        self._transport = transport
        self._timeout_s = timeout_s
        self._memory_limit_bytes = memory_limit_bytes
        self._padding = padding
        self._count = 0
        self._ended: EdgekitError | None = None
        self._words = Lastwords(self.name)
        self._sending: list[memoryview] = []
        self._start()
        try:
            self.hello: Mapping[str, Any] = self._ask("hello").header
            if self.hello.get("protocol") != VERSION:
                raise self._end(
                    ProtocolError(f"{self.name} speaks protocol {self.hello.get('protocol')}, wanted {VERSION}")
                )
        except BaseException:
            self.close()
            raise

    def load(
        self,
        path: str | Path,
        *,
        runtime: str | None = None,
        threads: int = 1,
        raw: bool = False,
        stateful: bool = False,
    ) -> LoadedInfo:
        """Loads a model file, in place of the one before; see :func:`edgekit.runtime.load`."""
        place = self._transport.file(Path(path))
        value = self._ask("load", path=place, runtime=runtime, threads=threads, raw=raw, stateful=stateful).header
        delegation = value["delegation"]
        return LoadedInfo(
            signature=signature_from_json(value["signature"]),
            load_ns=int(value["load_ns"]),
            runtime=str(value["runtime"]),
            runtime_version=str(value["runtime_version"]),
            delegation=None if delegation is None else Delegation.from_json(delegation),
            peak_memory_bytes=value["peak_memory_bytes"],
        )

    def run(self, feed: Feed, *, timeout_s: float | None = None) -> dict[str, Array]:
        """One inference; see :meth:`edgekit.runtime.Runner.run`."""
        return dict(self._ask("run", feed, timeout_s=timeout_s).arrays)

    def reset(self) -> None:
        """Puts the model's variable state back to its start."""
        self._ask("reset")

    def time_block(
        self, feed: Feed, *, warmup: WarmupRule, min_runs: int, min_ns: int, max_ns: int, repeat: int = 1
    ) -> Block:
        """Times the barest call of the runtime in the worker; see :func:`edgekit.bench.clock.time_calls`.

        ``repeat``: calls that one sample is made of.
        """
        limit = self._timeout_s + (warmup.max_ns + max_ns) / 1e9
        rule = {"warmup": asdict(warmup), "min_runs": min_runs, "min_ns": min_ns, "max_ns": max_ns}
        rule["repeat"] = repeat
        reply = self._ask("time_block", feed, timeout_s=limit, **rule)
        arrays, header = reply.arrays, reply.header
        return Block(arrays["samples_ns"], arrays["warmup_ns"], int(header["suspended_ns"]), int(header["discarded"]))

    def reference_ns(self) -> int:
        """Nanoseconds of the fixed reference work on the device; see :mod:`edgekit.bench.thermometer`."""
        return int(self._ask("reference").header["ns"])

    def measure(self, name: str, feed: Feed | None = None, *, timeout_s: float, **values: Any) -> Message:
        """A measure of :mod:`edgekit.devices.measures` on the loaded model: its value in the header, and arrays.

        ``timeout_s``: what the measure itself may take; the time to answer comes on top.
        """
        return self._ask(name, feed, timeout_s=self._timeout_s + timeout_s, **values)

    def environment(self) -> dict[str, Any]:
        """:func:`edgekit.bench.environment.environment` of the worker."""
        return dict(self._ask("environment").header)

    def peak_memory_bytes(self) -> int | None:
        """Largest resident memory of the worker so far, interpreter and libraries included; None: not known."""
        peak = self._ask("memory").header["peak_memory_bytes"]
        return None if peak is None else int(peak)

    def close(self) -> None:
        """Ends the worker; calling it again does nothing."""
        process = self._process
        if process.returncode is None and self._ended is None:
            with suppress(OSError):  # it may be gone already, which is what is wanted
                os.write(process.stdin.fileno(), b"".join(encode(Message({"command": "shutdown"}))))  # type: ignore[union-attr]
            with suppress(subprocess.TimeoutExpired):  # then it is killed
                process.wait(_LEAVE_S)
        self._kill()
        if self._ended is None:
            self._ended = DeviceError(f"the worker on {self.name} is closed; open another one")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> None:
        arguments = [] if self._memory_limit_bytes is None else ["--memory-limit", str(self._memory_limit_bytes)]
        command = self._transport.command(arguments)
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**self._transport.environment(), "EDGEKIT_PADDING": "x" * self._padding},
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            raise DeviceError(f"{self.name}: {command[0]} cannot be started: {error.strerror}") from error
        streams = (self._process.stdin, self._process.stdout, self._process.stderr)
        self._to, self._from, self._errors = (stream.fileno() for stream in streams if stream is not None)
        for descriptor in (self._to, self._from, self._errors):
            os.set_blocking(descriptor, False)

    def _ask(
        self, command: str, arrays: Mapping[str, Array] | None = None, timeout_s: float | None = None, **values: Any
    ) -> Message:
        """Sends one command, waits for its answer; the header of what it gives back is the command's value."""
        if self._ended is not None:
            raise self._ended
        self._count += 1
        self._sending = encode(Message({"id": self._count, "command": command, **values}, arrays or {}))
        limit = timeout_s or self._timeout_s
        deadline = time.monotonic() + limit
        try:
            reply = decode(lambda count: self._read(count, deadline))
        except EOFError:
            raise self._end(self._died(command)) from None
        except TimeoutError:
            raise self._end(
                WorkerTimeoutError(
                    f"the worker on {self.name} gave no answer to {command!r} within {limit:g} s and was killed; "
                    "allow more time, or see its log with --debug"
                )
            ) from None
        except ProtocolError as error:
            raise self._end(error) from error
        except BaseException:  # an interrupt: nobody would read the answer any more
            self._end(DeviceError(f"the worker on {self.name} was stopped while it answered {command!r}"))
            raise
        self._words.drain(self._errors)
        return self._answer(command, reply)

    def _answer(self, command: str, reply: Message) -> Message:
        if reply.header.get("id") != self._count:
            raise self._end(ProtocolError(f"got an answer to {reply.header.get('id')}, wanted one to {self._count}"))
        if reply.header.get("ok"):
            return Message(reply.header["value"], reply.arrays)
        error = reply.header["error"]
        raise error_class(str(error["class"]))(str(error["message"]))

    def _read(self, count: int, deadline: float) -> bytearray:
        """Exactly ``count`` bytes of the answer; what waits to be sent is sent meanwhile, what is said is kept."""
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

    def _wait(self, deadline: float) -> None:
        """Sleeps in the kernel until there is something to read; raises TimeoutError at the deadline."""
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            readers = [self._from] if self._words.ended else [self._from, self._errors]
            readable, writable, _ = select.select(readers, [self._to] if self._sending else [], [], left)
            if writable:
                self._send_some()
            if self._errors in readable:
                self._words.drain(self._errors)
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

    def _died(self, command: str) -> EdgekitError:
        """What became of a worker whose output ended in the middle of ``command``."""
        with suppress(subprocess.TimeoutExpired):  # it closed its output and lives on: killed below
            self._process.wait(_LEAVE_S)
        self._words.drain(self._errors)
        code = self._process.poll()
        where = f"the worker on {self.name}"
        limited = self._memory_limit_bytes
        if (limited and code == -signal.SIGKILL) or (code and self._words.out_of_memory()):
            limit = f" (limit {limited:,} bytes)" if limited else ""
            return WorkerMemoryError(
                f"{where} ran out of memory during {command!r}{limit}; use a smaller model or batch, or allow it more"
            )
        advice = "try another runtime with --runtime, or see its log with --debug"
        lacking = re.search(r"No module named '(\w+)'", self._words.last())
        if command == "hello" and lacking:
            python = self._transport.command([])[0]
            return RuntimeMissingError(
                f"{where} cannot start: {lacking[1]} is not installed there; run: {python} -m pip install {lacking[1]}"
            )
        if command == "hello":
            advice = "it should be a Python 3.11 or newer with numpy and a runtime"
        if code == -signal.SIGKILL:
            advice = "it was killed from outside, by the system for want of memory or by someone; try it again"
        return WorkerCrashError(f"{where} died during {command!r}: {_exit_words(code)}{self._words.last()}; {advice}")

    def _end(self, error: EdgekitError) -> EdgekitError:
        self._kill()
        self._ended = error
        return error

    def _kill(self) -> None:
        """Kills the worker and whatever it started, and lets go of the pipes."""
        process = self._process
        with suppress(ProcessLookupError, PermissionError):  # nobody is left in the group
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stderr is not None and not process.stderr.closed:
            self._words.drain(self._errors)
        self._words.tell()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def _exit_words(code: int | None) -> str:
    if code is None:
        return "it closed its output without an answer"
    if code >= 0:
        return f"it left with exit status {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
