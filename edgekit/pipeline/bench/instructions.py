"""``--instructions``: ARM instructions of an inference, counted in emulation; a count, and no time."""

from __future__ import annotations

import re

from edgekit.devices import WorkerClient
from edgekit.devices.device import transport_for
from edgekit.devices.emulator import EmulatorTransport
from edgekit.errors import DeviceError, UnsupportedError, WorkerCrashError
from edgekit.leftovers import scratch_folder
from edgekit.pipeline.bench.cell import Cell
from edgekit.results.measures import Instructions
from edgekit.types import Evidence

RUNS = 10
_LIMIT_S = 600.0
COUNTS = (
    "aarch64 instructions of the worker's process in one call of the runtime, copies in and out and Python's own "
    "included; how long an instruction takes is not in it"
)


def count_instructions(cell: Cell) -> Instructions:
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
                client.measure("instructions", cell.feed, timeout_s=_LIMIT_S, runs=RUNS)
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
