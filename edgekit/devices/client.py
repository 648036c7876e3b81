"""The parent's side of a worker: starts it, talks to it, and turns what can happen to it into typed errors."""

from __future__ import annotations

import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from edgekit.artifact import onnx_parts, sha256_file
from edgekit.bench.clock import TimedBlock, WarmupRule
from edgekit.devices.channel import Channel
from edgekit.devices.classify_exit import classify_exit
from edgekit.devices.functions import COMMAND, DeviceFunction
from edgekit.devices.progress import sending
from edgekit.devices.protocol import Message, decode, encode
from edgekit.devices.schema import ENVELOPE, REPLIES, Reply, check_outputs, check_signature, output_bytes
from edgekit.devices.transport import Start, Transport
from edgekit.documents import typed
from edgekit.errors import DeviceError, EdgekitError, ModelError, ProtocolError, UsageError, WorkerTimeoutError
from edgekit.inputs import require_regular
from edgekit.limits import PREFIX, limit
from edgekit.results.bench import Delegation
from edgekit.runtime import candidates
from edgekit.types import Array, Card, Closing, Feed, Format, Signature

_LEAVE_S: Final = 2.0
"""How long a worker that was told to end may take."""
CHUNK_BYTES: Final = 1 << 20
"""Bytes of a file in one message: one answer each, so that the time-out holds for a chunk and not for the file."""
_FASTEST_NS: Final = 50
"""No call through Python takes less: so many samples a block can have at most."""
_SHOWN: Final = 2000
"""Characters of a device's message that are passed on."""


def _plain_suffix(file: Path) -> str:
    """The suffix, where it is one that a device takes; the runtimes there go by it."""
    suffix = file.suffix.lower()
    return suffix if re.fullmatch(r"\.\w{1,10}", suffix) else ""


@dataclass(frozen=True, slots=True)
class LoadedInfo:
    """A model that a worker has loaded. ``peak_memory_bytes``: resident, right after loading; None: not known.

    ``resident``: timed runs hold no copies to and from the accelerator, whose name is ``chip``.
    """

    signature: Signature
    load_ns: int
    runtime: str
    runtime_version: str
    delegation: Delegation | None
    peak_memory_bytes: int | None
    resident: bool = False
    chip: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """A command that was sent. ``array_bytes``: what its arrays may take, where the caller looks at them."""

    number: int
    command: str
    reply: Reply
    limit_s: float
    array_bytes: int | None


class WorkerClient(Closing):
    """One worker process; a context manager. Not for use by several threads at once.

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
        self._signature, self._carded = Signature((), ()), False
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

    def load(
        self,
        path: str | Path,
        *,
        runtime: str | None = None,
        threads: int = 1,
        raw: bool = False,
        stateful: bool = False,
        card: Card | None = None,
        carded: bool = True,
    ) -> LoadedInfo:
        """Loads a model file, in place of the one before; see :func:`edgekit.runtime.load`.

        ``card``: of the file; the signature that the device gives has to be the card's then, and outputs have the sizes
        that the card names.
        """
        asked: dict[str, Any] = {"runtime": runtime, "threads": threads, "raw": raw, "stateful": stateful}
        asked["carded"] = carded
        if self._transport.runs_on != "cpu":
            asked["device"] = self._transport.runs_on
        try:
            value = self._ask("load", path=self.place(path), **asked).header
        except DeviceError as error:  # only now: the device may know a runtime that is not known here
            raise _mistake(Path(path), runtime, self._transport.runs_on, threads) or error from None
        with self._checking("load"):
            loaded = typed(LoadedInfo, value, "value")
            check_signature(loaded.signature, card)
        self._signature, self._carded = loaded.signature, card is not None
        return loaded

    @property
    def alive(self) -> bool:
        """Whether it can still be asked: it was not closed, and nothing ended it."""
        return self._ended is None and self._channel.status is None

    @property
    def shares_files(self) -> bool:
        """Whether the worker finds the files of this machine under the same names."""
        return self._transport.shares_files

    def place(self, path: str | Path) -> str:
        """What the worker calls a file of this machine; brings it to the device where that is needed."""
        return os.path.abspath(path) if self._transport.shares_files else self.send(path)

    def send(self, path: str | Path) -> str:
        """Brings a file to the device, by its content: what is there already is not sent again.

        An ONNX file takes the files along in which its weights lie.

        Returns:
            What the worker calls it.

        Raises:
            ModelError: it cannot be read.
            TransferError: it did not arrive as it was sent, or there is no room for it.
        """
        file = require_regular(path, ModelError, "a file to send")
        try:
            parts = onnx_parts(file) if file.suffix.lower() == ".onnx" else {}
            place, named = self._send_one(file)
            if parts:
                files = [{**named, "name": f"{named['sha256']}.onnx"}]
                files += [{**self._send_one(part)[1], "name": location} for location, part in parts.items()]
                place = self._ask("together", files=files).header["path"]
        except OSError as error:
            raise ModelError(f"{file} cannot be read: {error.strerror}") from error
        self._sent[place] = file
        return place

    def _send_one(self, file: Path) -> tuple[str, dict[str, Any]]:
        """Where the file lies there, and how it is named on the way."""
        named: dict[str, Any] = {
            "sha256": sha256_file(file),
            "suffix": _plain_suffix(file),
            "bytes": file.stat().st_size,
        }
        place = self._ask("find", **named).header["path"]
        return place or self._send(file, named), named

    def forget(self, path: str | Path) -> None:
        """Removes a file that was sent, unless another worker uses it."""
        file = Path(path)
        parts = onnx_parts(file).values() if file.suffix.lower() == ".onnx" else ()
        for one in (file, *parts):
            self._ask("forget", sha256=sha256_file(one), suffix=_plain_suffix(one))

    def put_piece(self, chunk: Array, *, sha256: str, suffix: str, size: int) -> None:
        """Sends one whole file in one piece under the name it is said to have; the device decides whether it has."""
        self._ask("put", {"chunk": chunk}, sha256=sha256, suffix=suffix, bytes=size, offset=0, last=True)

    def storage(self) -> dict[str, Any]:
        """``folder`` where files are kept there, ``free_bytes`` of its disk, ``kept_bytes`` in it."""
        return dict(self._ask("storage").header)

    def lease(self, owner: str, seconds: float) -> Mapping[str, Any] | None:
        """Takes the lease of the device for this worker's life; who holds it, where somebody does (``lease.py``)."""
        found: Mapping[str, Any] | None = self._ask("lease", owner=owner, seconds=seconds).header["holder"]
        return found

    def lease_is_mine(self) -> bool:
        """Whether nobody has taken the lease over."""
        return bool(self._ask("lease_is_mine").header["mine"])

    def holder(self) -> Mapping[str, Any] | None:
        """Who holds the lease of the device, None when nobody does."""
        found: Mapping[str, Any] | None = self._ask("holder").header["holder"]
        return found

    def wait(self, seconds: float, *, timeout_s: float) -> None:
        """Has the worker do nothing for ``seconds``; shows what becomes of one that takes longer than it may."""
        self._ask("wait", timeout_s=timeout_s, seconds=seconds)

    def _send(self, file: Path, named: Mapping[str, Any]) -> str:
        with open(file, "rb") as source, sending(file.name, int(named["bytes"]), self.name) as note:
            offset = 0
            while True:
                chunk = np.frombuffer(source.read(CHUNK_BYTES), np.uint8)
                last = chunk.size < CHUNK_BYTES
                place = self._ask("put", {"chunk": chunk}, offset=offset, last=last, **named).header["path"]
                offset += chunk.size
                note(offset)
                if last and place is None:
                    raise self._end(ProtocolError(f"{self.name} does not say where it keeps {file.name}"))
                if last:
                    return str(place)

    def run(self, feed: Feed, *, timeout_s: float | None = None) -> dict[str, Array]:
        """One inference; see :meth:`edgekit.runtime.Runner.run`."""
        arrays = self._ask("run", feed, timeout_s=timeout_s, array_bytes=output_bytes(self._signature, feed)).arrays
        with self._checking("run"):
            check_outputs(arrays, self._signature, feed, named=self._carded)
        return dict(arrays)

    def reset(self) -> None:
        """Puts the model's variable state back to its start."""
        self._ask("reset")

    def time_block(
        self, feed: Feed, *, warmup: WarmupRule, min_runs: int, min_ns: int, max_ns: int, repeat: int = 1
    ) -> TimedBlock:
        """Times the barest call of the runtime in the worker; see :func:`edgekit.bench.clock.time_calls`.

        ``repeat``: calls that one sample is made of.
        """
        limit_s = self._timeout_s + (warmup.max_ns + max_ns) / 1e9
        rule: dict[str, Any] = {"warmup": asdict(warmup), "min_runs": min_runs, "min_ns": min_ns, "max_ns": max_ns}
        rule["repeat"] = repeat
        most = max(min_runs, warmup.min_runs, max(max_ns, warmup.max_ns) // _FASTEST_NS) + 1
        wanted = replace(REPLIES["time_block"], most=most)
        reply = self._ask("time_block", feed, timeout_s=limit_s, reply=wanted, **rule)
        arrays, header = reply.arrays, reply.header
        return TimedBlock(arrays["samples_ns"], arrays["warmup_ns"], header["suspended_ns"], header["discarded"])

    def reference_ns(self) -> int:
        """Nanoseconds of the fixed reference work on the device; see :mod:`edgekit.bench.reference_workload`."""
        return int(self._ask("reference").header["ns"])

    def measure(self, what: DeviceFunction, feed: Feed | None = None, *, timeout_s: float, **values: Any) -> Message:
        """Runs ``what`` where the model is, on ``feed`` and ``values``: its value in the header, and arrays.

        ``timeout_s``: what the function itself may take; the time to answer comes on top.
        """
        how: dict[str, Any] = {"timeout_s": self._timeout_s + timeout_s, "reply": what.reply, "name": what.name}
        return self._ask(COMMAND, feed, function=what.place, **how, **values)

    def environment(self) -> dict[str, Any]:
        """:func:`edgekit.bench.environment.environment` of the worker."""
        return dict(self._ask("environment").header)

    def peak_memory_bytes(self) -> int | None:
        """Largest resident memory of the worker so far, interpreter and libraries included; None: not known."""
        peak: int | None = self._ask("memory").header["peak_memory_bytes"]
        return peak

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


def _mistake(path: Path, runtime: str | None, device: str, threads: int) -> UsageError | None:
    """What is wrong with asking for this, as far as it is known here; None where nothing is.

    A device does not say what the user did wrong: that error has an exit code of its own.
    """
    suffix = path.suffix.lower().removeprefix(".")
    if not path.is_dir() and suffix not in list(Format):
        return None
    try:
        candidates(path, Format.SAVED_MODEL if path.is_dir() else Format(suffix), runtime, device, threads)
    except UsageError as error:
        return error
    return None
