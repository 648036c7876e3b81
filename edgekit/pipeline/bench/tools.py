"""Devices without workers: models timed by a program of the user (``--tool``), its invocations taking turns.

The order is that of the interleaved blocks (ABBA, from the seed), one invocation in the place of a block.
"""

from __future__ import annotations

import getpass
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Final

from edgekit.artifact import onnx_parts, sha256_file, sha256_model, size_bytes
from edgekit.bench.clock import WarmupRule
from edgekit.bench.plan import CellPlan
from edgekit.bench.result import Setting
from edgekit.bench.schedule import BlockPlan, orders
from edgekit.bench.session import Session, Taken
from edgekit.bench.toolresult import ToolResult
from edgekit.bench.tools import Tool, last_words, tool_of
from edgekit.devices.adb import Adb
from edgekit.devices.device import transport_class
from edgekit.devices.lease import PLACE, Lease
from edgekit.devices.stop import pause
from edgekit.errors import DeviceError, EdgekitError, UnsupportedError, UsageError
from edgekit.extras.base import asked_for
from edgekit.options.base import flag_of
from edgekit.options.bench import BenchOptions
from edgekit.pipeline.bench.journal import Part
from edgekit.pipeline.bench.result import MachineRun
from edgekit.pipeline.bench.timing import Note, Order
from edgekit.results.base import to_json
from edgekit.results.compressed import Device
from edgekit.results.loaded import Delegation, Operator
from edgekit.results.measures import ToolRun
from edgekit.types import DeviceSpec, Format

log = logging.getLogger("edgekit")
FEWEST: Final = 4
"""Invocations of a cell: two pairs of rounds, so that what differs between processes is seen."""
START_S: Final = 60.0
"""What an invocation may take on top of its time: starting, and loading a large model."""
WAIT_S: Final = 600.0
GET: Final = (
    "benchmark_model of TFLite (https://ai.google.dev/edge/litert/models/measurement, the binary for android_aarch64)"
)


@dataclass
class ToolCell:
    """One model on one device: what was found of it so far."""

    plan: CellPlan
    tool: Tool
    file: str
    runs: list[ToolRun] = field(default_factory=list)
    memory_bytes: int | None = None
    error: EdgekitError | None = None

    def result(self, properties: Mapping[str, str]) -> ToolResult:
        """What stands in the bench document."""
        plan, path = self.plan, self.plan.artifact.path
        spec = plan.device
        cpu = properties.get("soc", "unknown")
        cpu = properties.get("hardware", "unknown") if cpu == "unknown" else cpu
        device = Device(
            name=spec.name, kind=spec.kind, evidence=spec.evidence, cpu=cpu, cpu_id="unknown", properties=properties
        )
        setting = Setting(
            plan.model, sha256_model(path), plan.artifact.format.value, size_bytes(path), self.tool.name,
            device, plan.threads, 1, plan.scenario,
        )  # fmt: skip
        last = self.runs[-1] if self.runs else None
        delegation = None
        if last is not None and last.nodes is not None and last.delegated is not None:
            left = (Operator(type="unknown", by="the runtime's own kernels"),) * (last.nodes - last.delegated)
            delegation = Delegation(last.nodes, last.delegated, last.by, left)
        return ToolResult(
            setting=setting,
            runs=tuple(self.runs),
            tool=(self.tool.name, self.file, sha256_file(self.file)),
            peak_memory_bytes=self.memory_bytes,
            delegation=delegation,
            error=self.error,
            seed=plan.seed,
        )


def check_tools(plans: Sequence[CellPlan], options: BenchOptions) -> None:
    """Refuses, before anything is timed, what a tool cannot be asked.

    Raises:
        UsageError: no tool for a file, one that is not there, or one for nobody.
        UnsupportedError: an option that it does not know.
    """
    timed = [plan for plan in plans if transport_class(plan.device.kind).timed_by_tools]
    if options.tool and not timed:
        raise UsageError(f"--tool {options.tool[0]} is for adb: devices; no such device is named")
    for file in options.tool:
        if not Path(file).is_file():
            raise UsageError(f"--tool {file}: there is no such file; get {GET}")
    if not timed:
        return
    asked = [flag_of(BenchOptions, extra.name) for extra in asked_for(options)]
    asked += [f"--{name}" for name in ("shape", "input", "runtime") if getattr(options, name)]
    asked += [f"--scenario {options.scenario}"] if options.scenario != "single-stream" else []
    asked += [f"--{name.replace('_', '-')}" for name in ("baseline", "replay") if getattr(options, name) is not None]
    if asked:
        raise UnsupportedError(
            f"{timed[0].device.name}: a tool that times by itself cannot be asked for {', '.join(asked)}; leave it "
            "out, or reach the device over ssh (Termux)"
        )
    for plan in timed:
        _tool_for(plan, options)
        if plan.artifact.format is Format.ONNX and onnx_parts(plan.artifact.path):
            raise UnsupportedError(
                f"{plan.device.name}: {plan.model} keeps its weights in other files, and one file a model is brought "
                "there; export it again as one self-contained file"
            )


def _tool_for(plan: CellPlan, options: BenchOptions) -> tuple[Tool, str]:
    format_ = plan.artifact.format
    for file in options.tool:
        tool = tool_of(Path(file).name)
        if tool.format is format_:
            return tool, file
    wanted = "onnxruntime_perf_test of onnxruntime, built for Android" if format_ is Format.ONNX else GET
    if format_ not in (Format.ONNX, Format.TFLITE):
        raise UnsupportedError(
            f"{plan.device.name}: there is no tool that times {format_.value} there; export to TFLite"
        )
    raise UsageError(f"{plan.device.name} needs a program that times {plan.model} there: --tool PATH; get {wanted}")


def time_with_tools(devices: Sequence[str], plans: Sequence[CellPlan], asked: Order, note: Note) -> MachineRun:
    """All cells of one device, whose names are ``devices``; what was brought there is removed again.

    Raises:
        DeviceError: the device cannot be used, or somebody else uses it. Failures of cells stand in the result.
    """
    spec, options, places = plans[0].device, asked.options, tuple(plan.number for plan in plans)
    cells = [ToolCell(plan, *_tool_for(plan, options)) for plan in plans]
    order = orders(len(cells), max(options.workers or FEWEST, 2), options.seed)
    block_ns = int(options.seconds / len(order) * 1e9)
    chosen = BlockPlan(len(order), block_ns, 0, 1, WarmupRule(0, 0, 0))
    note("loading", 0, len(cells))
    lease = _lease(spec, 2 * options.seconds * len(plans) + START_S, note)
    try:
        with Adb(spec, options.timeout) as device:
            properties = device.properties()
            for index, cell in enumerate(cells):
                note("loading", index, len(cells))
                _try(cell, partial(_bring, device))
            settings = [to_json(cell.result(properties).setting) for cell in cells]
            part = asked.journal.part("+".join(devices), places, settings) if asked.journal else None
            if part is not None:
                part.begin(chosen)
            kept = _take_turns(device, cells, order, (options.seconds / len(order), part, note))
            for cell in cells:
                _memory(device, cell)
    finally:
        lease.release()
    session = Session(tuple(Taken() for _ in cells), chosen, tuple(map(tuple, order)), kept=kept)
    ran = any(cell.runs for cell in cells)
    results = tuple(cell.result(properties) for cell in cells)
    return MachineRun(tuple(devices), places, results, session if ran else None)


def _take_turns(
    device: Adb, cells: Sequence[ToolCell], order: Sequence[Sequence[int]], how: tuple[float, Part | None, Note]
) -> int:
    """The invocations of all rounds; how many of them an interrupted run had finished.

    ``how``: seconds of one, where it is kept, and who is told.
    """
    (seconds, part, note), kept = how, 0
    for place, round_ in enumerate(order):
        for index in round_:
            cell = cells[index]
            found = None if part is None else part.find_run(index, place)
            if found is not None:
                cell.runs.append(found)
                kept += 1
                continue
            before = len(cell.runs)
            _try(cell, partial(_time, device, seconds))
            if part is not None and len(cell.runs) > before:
                part.keep_run(index, place, cell.runs[-1])
        note("timing", place + 1, len(order))
    return kept


def _bring(device: Adb, cell: ToolCell) -> None:
    device.bring(cell.file, program=True)
    device.bring(cell.plan.artifact.path)


def _time(device: Adb, seconds: float, cell: ToolCell) -> None:
    cell.runs.append(_invoke(device, cell, seconds))


def _try(cell: ToolCell, what: Callable[[ToolCell], None]) -> None:
    """Does something for a cell that has not failed; what goes wrong is its error."""
    if cell.error is None:
        try:
            what(cell)
        except EdgekitError as error:
            cell.error = error


def _invoke(device: Adb, cell: ToolCell, seconds: float, *, memory: bool = False) -> ToolRun:
    model = device.bring(cell.plan.artifact.path)
    words = [device.bring(cell.file, program=True)]
    words += cell.tool.arguments(model, cell.plan.threads, 0.8 * seconds, memory=memory)
    status, said = device.run(words, 6 * seconds + START_S)
    log.debug("%s: %s", device.name, said)
    if status != 0:
        raise DeviceError(
            f"{cell.tool.name} on {device.name} left with exit status {status}: {last_words(said)}; "
            f"is it built for {device.properties()['abi']}?"
        )
    return cell.tool.read(said)


def _memory(device: Adb, cell: ToolCell) -> None:
    """In an invocation of its own where the tool watches it beside the runs; one that fails costs only this figure."""
    if cell.error is not None or not cell.runs:
        return
    cell.memory_bytes = cell.runs[-1].memory_bytes
    if cell.memory_bytes is None:
        try:
            cell.memory_bytes = _invoke(device, cell, 0.1, memory=True).memory_bytes
        except DeviceError as error:
            log.warning("%s: no figure of its memory: %s", cell.plan.model, error)


def lease_of(spec: DeviceSpec) -> Path:
    """Where the lock of a device lies that hangs on this machine."""
    return PLACE.with_name(f"edgekit-{sha256(spec.address.encode()).hexdigest()[:16]}.lease")


def _lease(spec: DeviceSpec, seconds: float, note: Note) -> Lease:
    """The lease of a device that hangs on this machine: a lock here, for whoever uses it from here.

    Raises:
        DeviceError: somebody holds it all the time.
    """
    lease, waited = Lease(lease_of(spec)), 0.0
    while (holder := lease.take(f"{getpass.getuser()}@{socket.gethostname()}", seconds)) is not None:
        if waited >= WAIT_S:
            raise DeviceError(f"{spec.name} is used by {holder['owner']}; it was waited for {waited:.0f} s")
        note("waiting", 0, 0)
        pause(2.0)
        waited += 2.0
    return lease
