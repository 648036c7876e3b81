"""Conversions in a worker: the program with their commands, and the side that asks it.

Converters of others take seconds to import, print a lot, and their native code can crash: they do so in a worker, which
speaks the protocol of every other (:mod:`edgekit.devices`). Each command is ``(request) -> (content, notes)``; what the
tool itself refuses is an answer, too: ``failed``, one line, and ``detail``, all it said.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

from edgekit.devices.archive import floor_archive
from edgekit.devices.connection import Connection
from edgekit.devices.local import without_this_python
from edgekit.devices.protocol import BODY_LIMIT_BYTES, Message
from edgekit.devices.rules import MOST, record, rows, text
from edgekit.devices.schema import Reply
from edgekit.devices.transport import Start, Transport
from edgekit.errors import EdgekitError, StorageError, UsageError, WorkerTimeoutError
from edgekit.leftovers import process_folder
from edgekit.outputs import writing
from edgekit.types import DeviceSpec

TIMEOUT_S = 1800.0
"""A conversion that takes longer is taken for hung. Unrolled recurrent layers take a minute or two."""
MODULES: Final[Mapping[str, str]] = {
    "litert": "edgekit.converters.litert_worker",
    "tensorflow": "edgekit.converters.tensorflow_worker",
    "onnx2tf": "edgekit.converters.onnx2tf_worker",
    "executorch": "edgekit.converters.executorch_worker",
}
"""Command -> the module with its ``convert(request)`` and ``headline(error)``; importing it imports the tool."""
_TEXT: Final = text(MOST)
_REPLY: Final = Reply(
    record({"notes": rows(_TEXT), "failed": _TEXT, "detail": _TEXT}), raises=(StorageError, UsageError)
)


class ConversionTransport(Transport):
    """A worker of this machine that has the conversions among its commands; ``environment``: what it needs."""

    here: ClassVar[bool] = True
    program: ClassVar[tuple[str, ...]] = ("-m", "edgekit.converters.worker")
    advice: ClassVar[str] = "see its log with --debug"
    killed_for_memory: ClassVar[bool] = True

    def __init__(self, subject: str, **environment: str) -> None:
        super().__init__(DeviceSpec(subject, "cpu"))
        self.subject, self._environment = subject, environment

    def command(self, start: Start) -> list[str]:
        return [sys.executable, "-P", *self.program]

    def environment(self, start: Start) -> dict[str, str]:
        own = {"PYTHONWARNINGS": "ignore", "TF_CPP_MIN_LOG_LEVEL": "2", "TMPDIR": str(process_folder())}
        return {**os.environ, **own, **self._environment}


class OtherPythonTransport(ConversionTransport):
    """As that, in another environment, which has the tool and numpy, and no edgekit. ``tool``: its command."""

    def __init__(self, subject: str, python: str, tool: str, **environment: str) -> None:
        super().__init__(subject, **environment)
        self._python, self._tool = python, tool

    def command(self, start: Start) -> list[str]:
        here = Path(__file__).parent
        sent = ("__init__", "worker", MODULES[self._tool].rpartition(".")[2])
        main = "import sys\nfrom edgekit.converters.worker import program\nsys.exit(program())\n"
        more = tuple((f"edgekit/converters/{name}.py", here / f"{name}.py") for name in sent)
        return [self._python, str(floor_archive(main, more))]

    def environment(self, start: Start) -> dict[str, str]:
        return without_this_python(super().environment(start))


class ConversionWorker:
    """One worker for the conversions of this process: started when first wanted, ends with this process.

    Args:
        command: the conversion that it is for, which it imports while this process does other work.
        late: what to say of a conversion that takes too long.
        transport: makes what starts it.
    """

    def __init__(self, command: str, late: str, transport: Callable[[], Transport]) -> None:
        self._command, self._late, self._transport = command, late, transport
        self._opening: Future[Connection] | None = None
        self._lock = threading.RLock()

    def start(self) -> Future[Connection]:
        """Starts it if it does not run; returns at once, its imports go on in the background."""
        with self._lock:
            ended = self._opening is not None and self._opening.done() and not _alive(self._opening)
            if self._opening is None or ended:
                process_folder()  # made first, it is removed last, when the worker has ended
                if self._opening is None:
                    atexit.register(self.close)
                self._opening = Future()
                # a thread, which knows no stop of this one's: it may outlive what is done now
                threading.Thread(target=self._open, args=(self._opening,), daemon=True).start()
            return self._opening

    def ask(self, request: Mapping[str, Any]) -> Callable[[], Message]:
        """Sends a request; the function that waits for its answer. One request at a time.

        Raises:
            DeviceError: it cannot be started, died or hung; the function raises this as well.
            StorageError, UsageError: the function raises it: the tool has no room for what it writes meanwhile.
        """
        with self._lock:
            pending = self.start().result().post(self._command, None, TIMEOUT_S, _REPLY, BODY_LIMIT_BYTES, **request)

        def answer() -> Message:
            try:
                return pending()
            except WorkerTimeoutError as error:
                raise WorkerTimeoutError(self._late) from error

        return answer

    def close(self) -> None:
        """Ends it, at once."""
        opening, self._opening = self._opening, None
        if opening is not None:
            with suppress(EdgekitError):
                opening.result().kill()

    def _open(self, opening: Future[Connection]) -> None:
        try:
            client = Connection(self._transport())
            client.post("prepare", tool=self._command)
            opening.set_result(client)
        except BaseException as error:
            opening.set_exception(error)


def _alive(opening: Future[Connection]) -> bool:
    return opening.exception() is None and opening.result().alive


def write_file(answer: Message, target: Path) -> tuple[str, ...]:
    """Writes the file that an answer brings; its notes.

    Raises:
        OSError: it cannot be written.
    """
    target.write_bytes(answer.arrays["content"].data)
    return tuple(answer.header["notes"])


def _tool(name: str) -> Any:
    """The module of a command, imported once.

    All that a tool's import makes stays until the worker ends: the garbage collector would look through it again and
    again in vain, for a fifth of the time of the import.
    """
    module = MODULES[name]
    if module in sys.modules:
        return sys.modules[module]
    gc.disable()
    try:
        return importlib.import_module(module)
    finally:
        gc.freeze()
        gc.enable()


def _prepare(message: Message) -> None:
    _tool(message.header["tool"])


def _convert(name: str, message: Message) -> Message:
    tool = _tool(name)
    try:
        with writing(message.header["target"]):
            content, notes = tool.convert(message.header)
    except (StorageError, UsageError):
        raise
    except Exception as error:  # every failure of the tool is an answer; who asked names it
        traceback.print_exc()
        return Message({"failed": tool.headline(error), "detail": f"{type(error).__name__}: {error}"})
    return Message({"notes": list(notes)}, {"content": np.frombuffer(content, np.uint8)})


def program() -> int:
    """The worker program with the conversions; its exit status."""
    from edgekit.devices.worker import main

    return main(commands={"prepare": _prepare, **{name: partial(_convert, name) for name in MODULES}})


if __name__ == "__main__":
    sys.exit(program())
