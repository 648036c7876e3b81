"""``--instructions``: ARM instructions of an inference, counted in emulation; a count, and no time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from edgekit.bench.result import CellResult
from edgekit.devices import WorkerClient
from edgekit.devices.device import transport_for
from edgekit.devices.emulator import EmulatorTransport
from edgekit.devices.functions import on_device
from edgekit.devices.instructions import emulator_with_plugins, mark, plugin
from edgekit.devices.measures import WARM_CALLS
from edgekit.devices.protocol import Message
from edgekit.devices.schema import OF_A_FEED, Reply
from edgekit.errors import DeviceError, UnsupportedError, WorkerCrashError
from edgekit.extras.base import BenchExtra, TimedCell, short
from edgekit.leftovers import scratch_folder
from edgekit.results.bench import Entry
from edgekit.runtime import Runner
from edgekit.types import DeviceSpec, Evidence

if TYPE_CHECKING:
    from edgekit.options.bench import BenchOptions

RUNS = 10
_LIMIT_S = 600.0
COUNTS = (
    "aarch64 instructions of the worker's process in one call of the runtime, copies in and out and Python's own "
    "included; how long an instruction takes is not in it"
)


@dataclass(frozen=True, kw_only=True)
class Instructions:
    """ARM instructions of an inference, counted in emulation. ``counts``: what is in the count."""

    per_run: int
    runs: tuple[int, ...]
    counted: tuple[int, ...]
    counts: str
    evidence: Evidence


@on_device(Reply(raises=OF_A_FEED))
def marked_runs(runner: Runner, message: Message) -> None:
    """``runs``; the feed as arrays. Marks before so many runs, after them, and after twice as many more."""
    call, runs = runner.bare(message.arrays), int(message.header["runs"])
    for _ in range(WARM_CALLS):
        call()
    mark()
    for count in (runs, 2 * runs):
        for _ in range(count):
            call()
        mark()


def count_instructions(cell: TimedCell) -> Instructions:
    """``per_run``: the count of 2N runs less that of N runs, over N, so that what both have in common falls out.

    Raises:
        RuntimeMissingError: no qemu that loads plugins, or no C compiler.
        DeviceError: what became of the worker.
    """
    plan = cell.plan
    transport = transport_for(plan.device)
    if not isinstance(transport, EmulatorTransport):
        raise UnsupportedError(f"--instructions counts on an emulated device; {plan.device.name} is not emulated")
    with scratch_folder() as folder:
        file = folder / "counts"
        transport.count_into(file)
        try:
            with WorkerClient(transport, timeout_s=plan.timeout_s) as client:
                client.load(plan.artifact.path, runtime=plan.runtime, threads=plan.threads)
                client.measure(marked_runs, cell.feed, timeout_s=_LIMIT_S, runs=RUNS)
        except WorkerCrashError as error:
            raise WorkerCrashError(
                f"{error}; qemu 7.2, which loads plugins, crashes in onnxruntime and litert: count with "
                "tflite-runtime, --on emulator:cortex-a72,tflite-runtime"
            ) from error
        told = file.read_text(errors="replace").split()
    marks = [int(line) for line in told if re.fullmatch(r"[0-9]{1,18}", line)]
    return per_run(marks, RUNS)


def per_run(marks: list[int], runs: int) -> Instructions:
    """From the counts before N runs, after them, and after 2N more.

    Raises:
        DeviceError: they are not three, or do not grow.
    """
    if len(marks) != 3 or not marks[0] < marks[1] < marks[2]:
        raise DeviceError(f"the plugin of qemu wrote {marks}, wanted three counts that grow")
    once, twice = marks[1] - marks[0], marks[2] - marks[1]
    return Instructions(
        per_run=round((twice - once) / runs),
        runs=(runs, 2 * runs),
        counted=(once, twice),
        counts=COUNTS,
        evidence=Evidence.EMULATED,
    )


class InstructionsExtra(BenchExtra):
    """The count and what it is."""

    name: ClassVar[str] = "instructions"
    result: ClassVar[Any] = Instructions
    emulated: ClassVar[bool] = True

    def check_device(self, device: DeviceSpec) -> None:
        if device.kind != "emulator":
            raise UnsupportedError(
                f"--instructions counts on emulated devices (emulator:CORE); {device.name} is not emulated"
            )
        emulator_with_plugins()
        plugin()

    def measure(self, cell: TimedCell, result: CellResult, options: BenchOptions) -> Instructions:
        return count_instructions(cell)

    def report(self, entry: Entry, found: Instructions) -> list[Any]:
        return [
            f"{short(entry.model)}: {found.per_run:,} ARM instructions an inference ({found.evidence}; {found.counts})"
        ]


EXTRA = InstructionsExtra()
