"""Forks the children of scripts/fuzz, deals the inputs out, and ends what takes too long or too much memory."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzz_child import MOST_MEMORY, Child, quiet
from fuzz_readers import Reader

TICK_S = 0.02
MAKING_S = 120.0
"""What making an input may take: longer is a mistake of this program."""


@dataclass(frozen=True)
class Job:
    """One input, by reader and number."""

    reader: str
    index: int

    def __str__(self) -> str:
        return f"{self.reader}:{self.index}"


@dataclass
class Outcome:
    """What became of an input: ``accepted``, ``refused``, ``untyped`` or ``killed``; no ``faults`` if all is well."""

    job: Job
    outcome: str
    told: str = ""
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0
    peak: int = 0


@dataclass
class _Slot:
    """A child at work."""

    pid: int
    link: socket.socket
    folder: Path
    job: Job | None = None
    reading: bool = False
    since: float = 0.0
    waited_ns: int = 0
    resident: int = 0
    text: bytes = b""
    done: int = 0

    def seconds(self) -> float:
        """How long it has been reading, without the time in which other programs had the processor."""
        return time.monotonic() - self.since - (_waited_ns(self.pid) - self.waited_ns) / 1e9


class Pool:
    """``jobs`` children over ``readers``, each in a folder of its own below ``folder``."""

    def __init__(
        self, readers: Mapping[str, Reader], seeds: Mapping[str, list[Path]], folder: Path, seed: int, jobs: int
    ) -> None:
        self._readers, self._seeds, self._folder, self._seed, self._jobs = readers, seeds, folder, seed, jobs
        self._slots: list[_Slot] = []
        self._again: list[Job] = []
        self._late: dict[Job, bool] = {}  # inputs that took too long -> whether they have been given out again
        gc.collect()
        gc.freeze()  # what is there now need not be looked at again by every child

    def run(self, deck: Iterator[Job], told: Callable[[Outcome], None], *, trace: bool = False) -> None:
        """All inputs of ``deck``; ``told`` is called with what became of each. ``trace``: with tracebacks, loudly.

        What takes too long is tried once more when all others are done: it may have been the machine.
        """
        selector = selectors.DefaultSelector()
        try:
            for number in range(self._jobs):
                self._start(number, selector, trace)
            while self._deal_all(deck, trace):
                for key, _ in selector.select(TICK_S):
                    slot: _Slot = key.data
                    for outcome in self._heard(slot, selector, trace):
                        self._tell(outcome, told)
                for slot in list(self._slots):
                    if (over := self._over(slot)) is not None:
                        self._replace(slot, selector, trace)
                        self._tell(over, told)
        finally:
            for slot in self._slots:
                _end(slot)

    def _tell(self, outcome: Outcome, told: Callable[[Outcome], None]) -> None:
        late = any(fault == too_long(self._readers[outcome.job.reader]) for fault in outcome.faults)
        if late and outcome.job not in self._late:
            self._late[outcome.job] = False
        else:
            told(outcome)

    def _next(self, deck: Iterator[Job]) -> Job | None:
        if self._again:
            return self._again.pop()
        job = next(deck, None) or next((job for job, given in self._late.items() if not given), None)
        if job in self._late:
            self._late[job] = True
        return job

    def _start(self, number: int, selector: selectors.BaseSelector, trace: bool) -> None:
        ours, theirs = socket.socketpair()
        folder = self._folder / f"child-{number}"
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.setpgid(0, 0)
                ours.close()
                for other in self._slots:
                    other.link.close()
                with contextlib.nullcontext() if trace else quiet():
                    Child(theirs, folder, self._readers, self._seeds).serve()
                status = 0
            finally:
                os._exit(status)
        theirs.close()
        slot = _Slot(pid, ours, folder)
        self._slots.insert(number, slot)
        selector.register(ours, selectors.EVENT_READ, slot)

    def _deal_all(self, deck: Iterator[Job], trace: bool) -> int:
        """Children that have something to do."""
        return sum(self._deal(slot, deck, trace) for slot in self._slots)

    def _deal(self, slot: _Slot, deck: Iterator[Job], trace: bool) -> bool:
        """Gives an idle child the next input; whether it has one."""
        if slot.job is None and (job := self._next(deck)) is not None:
            slot.job, slot.reading, slot.since = job, False, time.monotonic()
            order = {"name": job.reader, "seed": self._seed, "index": job.index, "trace": trace}
            with contextlib.suppress(BrokenPipeError):  # its end is heard in a moment
                slot.link.sendall(json.dumps(order).encode() + b"\n")
        return slot.job is not None

    def _heard(self, slot: _Slot, selector: selectors.BaseSelector, trace: bool) -> Iterator[Outcome]:
        data = b""
        with contextlib.suppress(ConnectionResetError):  # it ended before it read its last order
            data = slot.link.recv(1 << 16)
        if not data:
            job, reading = slot.job, slot.reading
            status = self._replace(slot, selector, trace)
            if job is not None and (reading or status):
                yield Outcome(
                    job, "killed", faults=[f"crash: {_ending(status)}" + ("" if reading else " (while it was made)")]
                )
            elif job is not None:  # it had lived long enough
                self._again.append(job)
            return
        slot.text += data
        while b"\n" in slot.text:
            line, _, slot.text = slot.text.partition(b"\n")
            message: dict[str, Any] = json.loads(line)
            if "reading" in message:
                slot.reading, slot.since, slot.waited_ns = True, time.monotonic(), _waited_ns(slot.pid)
                slot.resident = _resident(slot.pid)
            else:
                assert slot.job is not None
                seconds = slot.seconds()
                job, slot.job, slot.reading = slot.job, None, False
                if seconds > _allowed(self._readers[job.reader]):
                    message["faults"].append(too_long(self._readers[job.reader]))
                yield Outcome(job, message["outcome"], message["told"], message["faults"], seconds, message["peak"])

    def _over(self, slot: _Slot) -> Outcome | None:
        """What is to be said of an input that is over its limits, whose child is to be ended."""
        if slot.job is None:
            return None
        seconds = slot.seconds()
        if not slot.reading:
            if seconds > MAKING_S:
                raise RuntimeError(f"fuzz: making {slot.job} takes too long")
            return None
        reader = self._readers[slot.job.reader]
        if seconds > _allowed(reader):
            return Outcome(slot.job, "killed", faults=[too_long(reader)], seconds=seconds)
        memory = _resident(slot.pid) - slot.resident
        if memory > MOST_MEMORY:
            return Outcome(slot.job, "killed", faults=["over 1 GB"], seconds=seconds, peak=memory)
        return None

    def _replace(self, slot: _Slot, selector: selectors.BaseSelector, trace: bool) -> int:
        """Ends a child and starts another in its place; how the old one ended."""
        selector.unregister(slot.link)
        number = self._slots.index(slot)
        self._slots.remove(slot)
        status = _end(slot)
        self._start(number, selector, trace)
        return status


def crowding() -> float:
    """How many programs share a processor of this machine, 1 or more."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def _allowed(reader: Reader) -> float:
    """Seconds that an input may take; what the programs a reader starts wait for a processor is not known exactly."""
    return reader.seconds * (crowding() if reader.starts else 1.0)


def too_long(reader: Reader) -> str:
    """The fault of an input that took longer than it may."""
    return f"over {reader.seconds:g} s"


def _end(slot: _Slot) -> int:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(slot.pid, signal.SIGKILL)
    slot.link.close()
    _, status = os.waitpid(slot.pid, 0)
    return status


def _ending(status: int) -> str:
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return f"exit status {os.WEXITSTATUS(status)}"


def _waited_ns(pid: int) -> int:
    """Nanoseconds a process was ready to run and another one had the processor; 0 where the kernel does not say."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1])
    return 0


def _resident(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def deck(readers: Mapping[str, Reader], count: int) -> Iterator[Job]:
    """``count`` inputs over the readers in turn, each as often as its weight says."""
    turns: Sequence[str] = [
        name for turn in range(max(reader.weight for reader in readers.values())) for name, reader in readers.items()
        if turn < reader.weight
    ]  # fmt: skip
    next_index = dict.fromkeys(readers, 0)
    for number in range(count):
        name = turns[number % len(turns)]
        yield Job(name, next_index[name])
        next_index[name] += 1
