"""The wire to a worker: starts it, sends commands, waits for answers, and turns its end into typed errors."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edgekit.devices.channel import Channel
from edgekit.devices.classify_exit import classify_exit
from edgekit.devices.protocol import Message, decode, encode
from edgekit.devices.schema import ENVELOPE, REPLIES, Reply
from edgekit.devices.transport import Start, Transport
from edgekit.errors import DeviceError, EdgekitError, ProtocolError, UsageError, WorkerTimeoutError
from edgekit.limits import PREFIX, limit
from edgekit.types import Array, Closing

_LEAVE_S: Final = 2.0
"""How long a worker that was told to end may take."""
_SHOWN: Final = 2000
"""Characters of a device's message that are passed on."""


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """A command that was sent. ``array_bytes``: what its arrays may take, where the caller looks at them."""

    number: int
    command: str
    reply: Reply
    limit_s: float
    array_bytes: int | None


class Connection(Closing):
    """One worker process, asked one command after the other; a context manager. Not for use by several threads at once.

    The worker is a process group of its own, killed as a whole on a time-out, on an interrupt and on anything that is
    not an answer; after that every call raises the error that ended it. What it wrote to standard error goes to the
    DEBUG log, and its last line into the message of the error.

    Args:
        transport: how the program is started.
        timeout_s: longest wait for an answer (a timed block may take its own time on top); None: the limit
            ``ANSWER_SECONDS`` (:mod:`edgekit.limits`).
        memory_limit_bytes: limit on the worker's data (RLIMIT_DATA); None sets none.
        padding: characters of an environment variable without meaning: it moves the worker's stack and heap.

    The device is not trusted: an answer that does not fit the request (:mod:`edgekit.devices.schema`) ends the worker,
    too, and how long is waited is decided here alone.

    Raises (every method):
        WorkerCrashError, WorkerTimeoutError, WorkerMemoryError, ProtocolError: what became of the worker.
        EdgekitError: what a command raised in the worker, as the same class where that command may raise it.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        timeout_s: float | None = None,
        memory_limit_bytes: int | None = None,
        padding: int = 0,
    ) -> None:
        self._timeout_s = limit("ANSWER_SECONDS") if timeout_s is None else timeout_s
        self._longer = "allow more time with --timeout (in Python timeout_s)"
        if timeout_s is None:
            self._longer = f"if you trust it, set {PREFIX}ANSWER_SECONDS to a larger number"
        if self._timeout_s <= 0:
            raise UsageError(f"the time-out is {self._timeout_s} s; give more than 0")
        self.name = transport.spec.name
        self._transport = transport
        self._count = 0
        self._unanswered: deque[_Asked] = deque()
        self._ended: EdgekitError | None = None
        self._sent: dict[str, Path] = {}
        if memory_limit_bytes is None:
            memory_limit_bytes = transport.memory_limit_bytes
        self._memory_limit_bytes = memory_limit_bytes
        start = Start(() if memory_limit_bytes is None else ("--memory-limit", str(memory_limit_bytes)), padding)
        self._channel = Channel(transport.command(start), transport.environment(start), self.name)
        try:
            self._greet(start)
            self.hello: Mapping[str, Any] = self._ask("hello", timeout_s=self._timeout_s + transport.start_s).header
        except BaseException:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        """Whether it can still be asked: it was not closed, and nothing ended it."""
        return self._ended is None and self._channel.status is None

    def close(self) -> None:
        """Ends the worker; calling it again does nothing."""
        if self._ended is None:
            self._channel.leave(b"".join(encode(Message({"command": "shutdown"}))), _LEAVE_S)
        self.kill()

    def kill(self) -> None:
        """Ends the worker at once, whatever it is doing; calling it again does nothing."""
        self._channel.kill()
        if self._ended is None:
            self._ended = DeviceError(f"{self._transport.subject} is closed; open another one")

    def _greet(self, start: Start) -> None:
        limit_s = self._timeout_s + self._transport.start_s
        with self._answering("hello", limit_s):
            self._transport.greet(self._channel, start, time.monotonic() + limit_s)

    def _ask(self, command: str, arrays: Mapping[str, Array] | None = None, **keywords: Any) -> Message:
        """Sends one command and waits for its answer; see :meth:`post`."""
        return self.post(command, arrays, **keywords)()

    def post(
        self,
        command: str,
        arrays: Mapping[str, Array] | None = None,
        timeout_s: float | None = None,
        reply: Reply | None = None,
        array_bytes: int | None = None,
        name: str = "",
        **values: Any,
    ) -> Callable[[], Message]:
        """Sends one command; the function that waits for its answer, whose header is the command's value.

        Answers to commands before it for which nobody waited are passed over.

        Args:
            timeout_s: longest wait for the answer, from when it is waited for; None: that of the client.
            reply: what may answer, in place of the table's.
            array_bytes: what the arrays may take, whatever they are: the caller looks at them.
            name: what messages call it.
        """
        if self._ended is not None:
            raise self._ended
        self._count += 1
        wanted = reply or REPLIES.get(command, Reply())
        asked = _Asked(self._count, name or command, wanted, timeout_s or self._timeout_s, array_bytes)
        self._channel.send(encode(Message({"id": asked.number, "command": command, **values}, arrays or {})))
        self._unanswered.append(asked)
        return lambda: self._answer_to(asked)

    def _answer_to(self, asked: _Asked) -> Message:
        while True:
            if self._ended is not None:
                raise self._ended
            first = self._unanswered.popleft()
            if first is asked:
                return self._next_answer(asked)
            with suppress(EdgekitError):  # what ended the worker is raised above
                self._next_answer(first)

    def _next_answer(self, asked: _Asked) -> Message:
        wanted, command = asked.reply, asked.command
        deadline = time.monotonic() + asked.limit_s
        most = asked.array_bytes
        if most is None:
            most = min(wanted.array_bytes, limit("REPLY_ARRAY_BYTES"))
        with self._answering(command, asked.limit_s):
            try:
                told = decode(lambda count: self._channel.read(count, deadline), limit("REPLY_BYTES"), most)
            except ProtocolError as error:
                raise self._no_answer(command, error) from error.__cause__
        self._channel.drain()
        with self._checking(command):
            answer = ENVELOPE(told.header, "the answer")
            if answer["id"] != asked.number:
                raise ValueError(f"it is one to {answer['id']}, wanted one to {asked.number}")
            if answer["ok"] and "value" in answer:
                value = wanted.value(answer["value"], "value")
                if asked.array_bytes is None:
                    wanted.check_times(told.arrays, int(asked.limit_s * 1e9))
                return Message(value, told.arrays)
            if answer["ok"] or "error" not in answer:
                raise ValueError("it has neither a value nor an error")
        raised = answer["error"]
        raise wanted.error(raised["class"])(self._in_words_of_the_user(raised["message"]))

    @contextmanager
    def _checking(self, command: str) -> Iterator[None]:
        """An answer that is not what was asked for ends the worker."""
        try:
            yield
        except ValueError as error:
            raise self._end(self._no_answer(command, error)) from None

    def _no_answer(self, command: str, why: Exception) -> ProtocolError:
        return ProtocolError(f"the answer of {self.name} to {command!r} is not valid: {why}")

    @contextmanager
    def _answering(self, command: str, limit_s: float) -> Iterator[None]:
        """Whatever ends the wait for an answer ends the worker, too, under the name it has in the tree."""
        try:
            yield
        except EOFError:
            self._channel.wait(_LEAVE_S)  # it may have closed its output and live on: killed with what follows
            raise self._end(classify_exit(self._channel, self._transport, command, self._memory_limit_bytes)) from None
        except TimeoutError:
            raise self._end(
                WorkerTimeoutError(
                    f"{self._transport.subject} gave no answer to {command!r} within {limit_s:g} s and was killed; "
                    f"{self._longer}, or see its log with --debug"
                )
            ) from None
        except EdgekitError as error:
            raise self._end(error) from error.__cause__
        except BaseException:  # an interrupt: nobody would read the answer any more
            self._end(DeviceError(f"{self._transport.subject} was stopped while it answered {command!r}"))
            raise

    def _in_words_of_the_user(self, message: str) -> str:
        """A message of the worker, one line, with the user's files under the names they have here."""
        message = " ".join(message.split())[:_SHOWN]
        for place, file in self._sent.items():
            message = message.replace(place, str(file)).replace(Path(place).name, file.name)
        return message

    def _end(self, error: EdgekitError) -> EdgekitError:
        self._channel.kill()
        self._ended = error
        return error
