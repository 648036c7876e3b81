"""The worker program: loads one model and runs it on behalf of another process.

Frames (:mod:`edgekit.devices.protocol`) come in on standard input and go out on what was standard output when the
program started; everything a library prints goes to standard error. The program ends when its input ends, also in
the middle of an inference, so that no worker outlives the process that started it.

    python -m edgekit.devices.worker [--memory-limit BYTES] [--idle-limit SECONDS]
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import platform
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from edgekit.bench.memory import process_memory
from edgekit.devices.functions import COMMAND, Value, find
from edgekit.devices.identity import machine_id
from edgekit.devices.lease import Lease, holder
from edgekit.devices.protocol import VERSION, Message, decode, encode
from edgekit.devices.store import Store
from edgekit.errors import DeviceError, EdgekitError, WorkerMemoryError
from edgekit.libraries import keep_in_the_cache
from edgekit.model_metadata import signature_to_json
from edgekit.registry import TABLES
from edgekit.results.base import to_json
from edgekit.runtime import Runner, load, runner_class
from edgekit.runtime.base import is_out_of_memory
from edgekit.version import __version__

if TYPE_CHECKING:
    from edgekit.bench.reference_workload import ReferenceWorkload

Command = Callable[[Message], Value]


class Worker:
    """The commands, each ``(message) -> value``: a message where arrays come with it, None where nothing is said."""

    def __init__(self) -> None:
        self._runner: Runner | None = None
        self._store: Store | None = None
        self._lease = Lease()
        self._reference: ReferenceWorkload | None = None
        self.commands: dict[str, Command] = {
            "hello": self.hello,
            "find": self.find,
            "put": self.put,
            "together": self.together,
            "forget": lambda message: self._files().forget(message.header["sha256"], message.header["suffix"]),
            "storage": lambda message: self._files().document(),
            "wait": lambda message: time.sleep(float(message.header["seconds"])),
            "lease": self.lease,
            "lease_is_mine": lambda message: {"mine": self._lease.mine()},
            "holder": lambda message: {"holder": holder()},
            "load": self.load,
            "run": lambda message: Message({}, self._loaded().run(message.arrays)),
            "reset": self.reset,
            "time_block": self.time_block,
            "environment": self.environment,
            "memory": lambda message: {"peak_memory_bytes": peak_memory_bytes()},
            "reference": self.reference,
            COMMAND: self.call,
        }

    def answer(self, message: Message) -> list[memoryview]:
        """The frame that replies to one command; an error becomes a reply, too."""
        number = message.header.get("id")
        try:
            command = self.commands.get(str(message.header.get("command")))
            if command is None:
                raise DeviceError(f"the worker has no command {message.header.get('command')!r}")
            reply = command(message)
            value, arrays = (reply.header, reply.arrays) if isinstance(reply, Message) else (reply or {}, {})
            return encode(Message({"id": number, "ok": True, "value": value}, arrays))
        except Exception as error:
            kind, text = type(error).__name__, str(error)
            if is_out_of_memory(error):
                kind, text = WorkerMemoryError.__name__, text or "out of memory"
            elif not isinstance(error, EdgekitError):
                traceback.print_exc()  # to standard error, which the parent keeps
                text = f"{kind}: {text}"
            return encode(Message({"id": number, "ok": False, "error": {"class": kind, "message": text}}))

    def hello(self, message: Message) -> Mapping[str, Any]:
        return {
            "protocol": VERSION,
            "edgekit": __version__,
            "python": platform.python_version(),
            "executable": sys.executable,
            "pid": os.getpid(),
            "machine": machine_id(),
            "runtimes": runtimes(),
        }

    def find(self, message: Message) -> Mapping[str, Any]:
        """Where a file lies whose content was sent before: ``{"path"}``, None where it does not."""
        asked = message.header
        place = self._files().find(str(asked["sha256"]), str(asked["suffix"]), int(asked["bytes"]))
        return {"path": None if place is None else str(place)}

    def put(self, message: Message) -> Mapping[str, Any]:
        """The next piece of a file; ``{"path"}`` after the last one."""
        asked = message.header
        chunk = message.arrays["chunk"].reshape(-1).view("u1").data
        place = self._files().put(
            str(asked["sha256"]),
            str(asked["suffix"]),
            int(asked["bytes"]),
            int(asked["offset"]),
            chunk,
            bool(asked["last"]),
        )
        return {"path": None if place is None else str(place)}

    def together(self, message: Message) -> Mapping[str, Any]:
        """Files that were sent, in one folder under the names they have for each other; ``{"path"}`` of the first."""
        files = [(str(f["sha256"]), str(f["suffix"]), str(f["name"])) for f in message.header["files"]]
        return {"path": str(self._files().together(files))}

    def lease(self, message: Message) -> Mapping[str, Any]:
        return {"holder": self._lease.take(str(message.header["owner"]), float(message.header["seconds"]))}

    def load(self, message: Message) -> Mapping[str, Any]:
        if self._runner is not None:
            self._runner.close()
            self._runner = None
        options = message.header
        runner = load(
            options["path"],
            runtime=options.get("runtime"),
            threads=int(options.get("threads", 1)),
            raw=bool(options.get("raw", False)),
            stateful=bool(options.get("stateful", False)),
            device=str(options.get("device", "cpu")),
            carded=bool(options.get("carded", True)),
            compiled=str(options.get("compiled", "")),
        )
        self._runner = runner
        return {
            "signature": signature_to_json(runner.signature),
            "load_ns": runner.load_ns,
            "runtime": runner.name,
            "runtime_version": runner.version,
            "delegation": to_json(runner.delegation()),
            "peak_memory_bytes": peak_memory_bytes(),
            "resident": runner.resident,
            "chip": runner.chip,
        }

    def reset(self, message: Message) -> None:
        self._loaded().reset()

    def time_block(self, message: Message) -> Message:
        from edgekit.bench.clock import WarmupRule, repeated, time_calls

        rule = message.header
        call = repeated(self._loaded().bare(message.arrays), int(rule.get("repeat", 1)))
        block = time_calls(
            call,
            warmup=WarmupRule(**rule["warmup"]),
            min_runs=rule["min_runs"],
            min_ns=rule["min_ns"],
            max_ns=rule["max_ns"],
        )
        arrays = {"samples_ns": block.samples_ns, "warmup_ns": block.warmup_ns}
        return Message({"suspended_ns": block.suspended_ns, "discarded": block.discarded}, arrays)

    def reference(self, message: Message) -> Mapping[str, Any]:
        from edgekit.bench.reference_workload import ReferenceWorkload

        if self._reference is None:
            self._reference = ReferenceWorkload()
        return {"ns": self._reference.read_ns()}

    def environment(self, message: Message) -> Mapping[str, Any]:
        from edgekit.bench.environment import environment

        return environment()

    def _files(self) -> Store:
        if self._store is None:
            self._store = Store()
        return self._store

    def call(self, message: Message) -> Value:
        """What another module brings; see :mod:`edgekit.devices.functions`."""
        return find(str(message.header["function"]))(self._loaded, message)

    def _loaded(self) -> Runner:
        if self._runner is None:
            raise DeviceError("the worker has no model yet; call load first")
        return self._runner


def runtimes() -> dict[str, str | None]:
    """Versions of edgekit's own runtimes that are installed here, None for those that are not."""
    return {name: runner_class(name).installed() for name in TABLES["runtimes"]}


def peak_memory_bytes() -> int | None:
    """Largest resident memory of this process so far (Linux ``VmHWM``), None where the system does not tell."""
    return process_memory().get("peak_bytes")


def take_pipes() -> tuple[int, int]:
    """The protocol's own descriptors. Standard input becomes empty, standard output goes to standard error."""
    incoming, outgoing = os.dup(0), os.dup(1)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.dup2(2, 1)
    os.close(empty)
    sys.stdout = sys.stderr
    return incoming, outgoing


def read_exactly(descriptor: int, count: int) -> bytearray:
    """``count`` bytes; EOFError at the end of the input."""
    data = bytearray(count)
    view, got = memoryview(data), 0
    while got < count:
        some = os.readv(descriptor, [view[got:]])
        if some == 0:
            raise EOFError
        got += some
    return data


def write_all(descriptor: int, parts: list[memoryview]) -> None:
    """Writes all of ``parts``, however few bytes the system takes at once."""
    for part in parts:
        done = 0
        while done < part.nbytes:
            done += os.write(descriptor, part[done:])


def listen(descriptor: int, inbox: queue.SimpleQueue[Message | Exception]) -> NoReturn:
    """Puts every frame into ``inbox``; ends the whole program when the input ends, whatever else it is doing."""
    while True:
        try:
            inbox.put(decode(lambda count: read_exactly(descriptor, count)))
        except EOFError:
            os._exit(0)
        except Exception as error:  # the stream cannot be trusted any more: the main thread says so and leaves
            inbox.put(error)
            threading.Event().wait()


def main(arguments: list[str] | None = None, commands: Mapping[str, Command] | None = None) -> int:
    """The program. Exit status 0 when the input ends, 3 when what comes in is not a frame.

    ``commands``: that it has beside those of every worker, by name.
    """
    parser = argparse.ArgumentParser(prog="edgekit worker")
    parser.add_argument("--memory-limit", type=int, default=0, metavar="BYTES")
    parser.add_argument("--idle-limit", type=float, metavar="SECONDS", help="end when nothing was asked for so long")
    options = parser.parse_args(arguments)
    keep_in_the_cache()
    os.umask(0o077)  # whatever is written here is for its user alone
    incoming, outgoing = take_pipes()
    faulthandler.enable(file=sys.stderr, all_threads=False)
    import resource  # not on Windows, which has no workers

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if options.memory_limit:
        resource.setrlimit(resource.RLIMIT_DATA, (options.memory_limit, options.memory_limit))
    inbox: queue.SimpleQueue[Message | Exception] = queue.SimpleQueue()
    threading.Thread(target=listen, args=(incoming, inbox), name="listen", daemon=True).start()
    worker = Worker()
    worker.commands.update(commands or {})
    while True:
        try:
            message = inbox.get(timeout=options.idle_limit)
        except queue.Empty:  # the line is dead and nobody could say so
            os._exit(0)
        if isinstance(message, Exception):
            sys.stderr.write(f"not a frame: {message}\n")
            sys.stderr.flush()
            os._exit(3)
        if message.header.get("command") == "shutdown":
            sys.stderr.flush()
            os._exit(0)  # native libraries that hang or crash in their destructors have no say any more
        try:
            write_all(outgoing, worker.answer(message))
        except BrokenPipeError:
            os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
