"""Several devices in one run: different machines at the same time, the devices of one machine one job at a time.

Names say little of that: ``cpu``, ``python:``, the emulator and an ssh server on the loopback share the cores of this
machine. So every worker says which machine it is on (:mod:`edgekit.devices.identity`), and the cells of one machine are
one job. A machine that fails loses only its own cells; an interrupt ends all of them.

This machine begins when the others have what they need: to send them files costs its cores some time.
"""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from edgekit.bench.plan import CellPlan
from edgekit.devices import WorkerClient, open_worker
from edgekit.devices.device import transport_class, transport_for
from edgekit.devices.identity import machine_id
from edgekit.devices.stop import Stop, stoppable
from edgekit.errors import DeviceError
from edgekit.pipeline.bench.leases import SHARED
from edgekit.pipeline.bench.result import MachineRun
from edgekit.pipeline.bench.timing import Note, Order, failed, time_machine
from edgekit.pipeline.bench.tools import time_with_tools
from edgekit.progress import Task, task, watched
from edgekit.types import DeviceSpec

log = logging.getLogger("edgekit")
Progress = Callable[[str, str, int, int], None]
"""Takes the devices of a machine, what is being done there, and how much of how much of it is done."""


@contextmanager
def shown(devices: Collection[str]) -> Iterator[Progress]:
    """The progress where nobody gives another: a task for each machine; where nobody watches and there are several
    devices, a line of the log whenever a machine begins something else."""
    doing: dict[str, str] = {}
    with ExitStack() as stack:
        tasks: dict[str, Task] = {}

        def report(device: str, what: str, done: int, total: int) -> None:
            if watched():
                if device not in tasks:
                    tasks[device] = stack.enter_context(task(device))
                tasks[device].update(done, total, what)
            elif doing.get(device) != what and len(devices) > 1:
                doing[device] = what
                log.info("%s: %s", device, what)

        yield report


READY = ("timing", "waiting")
"""What a machine does that wants nothing of this one: it times, or waits for somebody else."""


@dataclass
class Machine:
    """The devices of a run that are one machine. ``doors``: a worker on each of them that others may use, too."""

    key: str
    devices: list[str] = field(default_factory=list)
    doors: list[WorkerClient] = field(default_factory=list)
    error: DeviceError | None = None

    @property
    def here(self) -> bool:
        return self.key == machine_id()

    @property
    def name(self) -> str:
        return ", ".join(self.devices)


def run_fleet(plans: Sequence[CellPlan], order: Callable[[bool], Order], progress: Progress) -> list[MachineRun]:
    """Runs the cells of every machine, all machines at the same time.

    Args:
        order: what is asked of each machine; takes whether there is only one.
        progress: called from several threads, one call at a time.

    Raises:
        InputError, UsageError: what was asked cannot be done on one of the machines; the others are stopped.
    """
    devices = list({plan.device.name: plan.device for plan in plans}.values())
    with Stop() as stop, stoppable(stop), _machines(devices, stop, plans[0].timeout_s) as machines:
        asked = order(len(machines) == 1)
        if len(machines) == 1:
            (machine,) = machines
            return [_run(machine, plans, asked, _telling(machine, progress, threading.Lock()))]
        return _at_once(machines, plans, asked, progress, stop)


def _at_once(
    machines: Sequence[Machine], plans: Sequence[CellPlan], order: Order, progress: Progress, stop: Stop
) -> list[MachineRun]:
    """A thread each; the first that raises, or an interrupt, stops them all."""
    lock = threading.Lock()
    ready = {machine.key: threading.Event() for machine in machines if not machine.here}

    def run(machine: Machine) -> MachineRun:
        tell = _telling(machine, progress, lock)
        try:
            if machine.here:
                tell("waiting for the other machines to be ready", 0, 0)
                for event in ready.values():
                    event.wait()
                return _run(machine, plans, order, tell)

            def note(what: str, done: int, total: int) -> None:
                if what in READY:
                    ready[machine.key].set()
                tell(what, done, total)

            return _run(machine, plans, order, note)
        finally:
            if not machine.here:
                ready[machine.key].set()

    with ThreadPoolExecutor(len(machines)) as pool:
        running = [pool.submit(contextvars.copy_context().run, run, machine) for machine in machines]
        try:
            for future in as_completed(running):
                future.result()
        except BaseException:
            stop.set()
            raise
    return [future.result() for future in running]


def _run(machine: Machine, plans: Sequence[CellPlan], order: Order, note: Note) -> MachineRun:
    mine = [plan for plan in plans if plan.device.name in machine.devices]
    try:
        if machine.error is not None:
            raise machine.error
        if transport_class(mine[0].device.kind).timed_by_tools:
            run = time_with_tools(machine.devices, mine, order, note)
        else:
            run = time_machine(machine.devices, mine, machine.doors, order, note, machine.here)
    except DeviceError as error:
        run = failed(machine.devices, mine, error)
    errors = [result.error for result in run.results if result.error is not None]
    note(f"failed: {errors[0]}" if len(errors) == len(mine) else "done", 0, 0)
    return run


def _telling(machine: Machine, progress: Progress, lock: threading.Lock) -> Note:
    def note(what: str, done: int, total: int) -> None:
        with lock:
            progress(machine.name, what, done, total)

    return note


@contextmanager
def _machines(devices: Sequence[DeviceSpec], stop: Stop, timeout_s: float) -> Iterator[list[Machine]]:
    """The machines behind ``devices``, in their order, with a worker on each of those that others may use.

    Where there is one device nobody has to be asked which machine it is. ``timeout_s``: longest wait for an answer.
    """
    with ExitStack() as stack:

        def ask(device: DeviceSpec) -> tuple[str, WorkerClient | DeviceError | None]:
            key, door = _ask(device, len(devices), timeout_s)
            if isinstance(door, WorkerClient):
                stack.callback(door.close)
            return key, door

        with ThreadPoolExecutor(len(devices)) as pool:
            asking = [pool.submit(contextvars.copy_context().run, ask, device) for device in devices]
            try:
                answers = [asked.result() for asked in asking]
            except BaseException:
                stop.set()
                raise
        yield _grouped(devices, answers)


def _grouped(
    devices: Sequence[DeviceSpec], answers: Sequence[tuple[str, WorkerClient | DeviceError | None]]
) -> list[Machine]:
    found: dict[str, Machine] = {}
    for device, (key, door) in zip(devices, answers, strict=True):
        machine = found.setdefault(key, Machine(key))
        machine.devices.append(device.name)
        if isinstance(door, WorkerClient):
            machine.doors.append(door)
        elif door is not None:
            machine.error = door
    return list(found.values())


def _ask(device: DeviceSpec, devices: int, timeout_s: float) -> tuple[str, WorkerClient | DeviceError | None]:
    """Which machine ``device`` is, and a worker on it where it is shared; else a name of its own, and the error."""
    alone = f"{device.kind}:{device.address}"
    if transport_class(device.kind).timed_by_tools:
        return alone, None
    try:
        here = transport_for(device).here
        if here and device.kind not in SHARED:
            return machine_id(), None
        if devices == 1 and device.kind not in SHARED:
            return alone, None
        client = open_worker(device, timeout_s=timeout_s)
    except DeviceError as error:
        return alone, error
    if device.kind in SHARED:
        return str(client.hello.get("machine", alone)), client
    client.close()
    return str(client.hello.get("machine", alone)), None
