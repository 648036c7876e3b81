"""Which cells a bench has: model x runtime x device x threads, and how many workers each."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from edgekit.artifact import open_artifact, size_bytes
from edgekit.bench.environment import environment, usable_cores
from edgekit.bench.plan import CellPlan
from edgekit.bench.shapes import parse_shapes
from edgekit.devices import parse_device, with_runtime
from edgekit.devices.mcu import parse_budget, parse_size
from edgekit.errors import UnsupportedError, UsageError
from edgekit.extras.base import asked_for, load_of
from edgekit.options.base import flag_of
from edgekit.options.bench import BenchOptions
from edgekit.pipeline.bench.checks import STREAMS
from edgekit.results.loaded import Budget
from edgekit.runtime import runner_class
from edgekit.types import Artifact, DeviceSpec, Format

log = logging.getLogger("edgekit")


def make_plans(models: Sequence[str], options: BenchOptions) -> list[CellPlan]:
    """The cells, in the order model, runtime, device, threads.

    Raises:
        ModelError: a file is missing or not valid.
        UsageError, UnsupportedError: no model, nothing to compare with, no such device or runtime.
    """
    if not models:
        raise UsageError("no model was given; name at least one .onnx, .tflite, .pt2 or .pte file")
    if options.fail_slower is not None and options.baseline is None and len(models) < 2 and len(options.runtime) < 2:
        raise UsageError("--fail-slower has nothing to compare with; give --baseline FILE or a second model")
    shapes, sample = parse_shapes(options.shape), None if options.input is None else str(options.input)
    devices = [parse_device(text) for text in dict.fromkeys(options.devices)]
    if options.arena is not None and not any(device.kind == "mcu" for device in devices):
        raise UsageError(f"--arena {options.arena} is about microcontrollers; give --on mcu")
    _check_time(devices, options)
    plans: list[CellPlan] = []
    for model in models:
        artifact = open_artifact(model)
        for runtime in _runtimes(artifact, options.runtime):
            for device in devices:
                _require_time(device, runtime)
                place = with_runtime(device, runtime, artifact.path)
                place, budget = _budget(place, options.arena)
                for threads in dict.fromkeys(options.thread_counts):
                    rest = (options.batch, shapes, sample, options.seed, options.workers or 1, len(plans))
                    streams = (options.streams or STREAMS) if options.scenario == "multi-stream" else 1
                    cell = CellPlan(model, artifact, place, runtime, threads, options.scenario, *rest)
                    plans.append(replace(cell, timeout_s=options.timeout, streams=streams, budget=budget))
    cores = usable_cores()
    if max(options.thread_counts) > cores:
        log.info("%d threads on %d usable cores (affinity, cgroup quota)", max(options.thread_counts), cores)
    if options.workers is not None:
        return plans
    workers = _default_workers(plans)
    return [replace(plan, workers=workers) for plan in plans]


def _budget(device: DeviceSpec, arena: str | None) -> tuple[DeviceSpec, Budget | None]:
    """A microcontroller without its limits, and these: a file that exceeds them is measured all the same.

    Raises:
        UsageError: its arena is limited twice.
    """
    if device.kind != "mcu":
        return device, None
    budget = parse_budget(device.address)
    if arena is not None and budget.arena_bytes is not None:
        raise UsageError(f"--arena {arena} and {device.name} both limit the arena; give one of them")
    if arena is not None:
        budget = replace(budget, arena_bytes=parse_size(arena))
    return replace(device, address=""), None if budget == Budget() else budget


def _require_time(device: DeviceSpec, runtime: str | None) -> None:
    """Raises UsageError where the device has a time, and the runtime's time there says nothing of where it runs."""
    if runtime is not None and device.evidence.has_time and not runner_class(runtime).timed:
        raise UsageError(
            f"{runtime} stands for another device, whose time {device.name} cannot tell; take --on mcu, which says "
            "what a file needs and computes there"
        )


def _check_time(devices: Sequence[DeviceSpec], options: BenchOptions) -> None:
    """Refuses to measure time on a device whose latency cannot be measured.

    Raises:
        UnsupportedError: an option whose answer is a time, on an emulated device.
    """
    without = [device.name for device in devices if not device.evidence.has_time]
    asked = [f"--scenario {options.scenario}"] if load_of(options) is not None else []
    asked += [flag_of(BenchOptions, extra.name) for extra in asked_for(options) if not extra.emulated]
    asked += ["--fail-slower"] if options.fail_slower is not None else []
    asked += ["--baseline"] if options.baseline is not None else []
    for extra in asked_for(options):
        for device in devices:
            extra.check_device(device)
    if without and asked:
        raise UnsupportedError(
            f"{without[0]} is emulated and has no time to measure: leave out {', '.join(asked)}. It shows that a file "
            "loads and what it computes there; see also edgekit verify and eval with --on"
        )


def _default_workers(plans: Sequence[CellPlan]) -> int:
    """Workers for each cell: 4, but at most 18 in all and a quarter of the memory; 2 where a start takes seconds."""
    if any(plan.artifact.format in (Format.PT2, Format.PTE, Format.SAVED_MODEL) for plan in plans):
        return 2
    bytes_each = sum(3 * size_bytes(plan.artifact.path) for plan in plans)  # the file, its weights packed, its arena
    memory = environment()["memory_bytes"]
    room = memory // 4 // max(bytes_each, 1) if isinstance(memory, int) else 4
    return int(max(1, min(4, max(2, 18 // len(plans)), room)))


def _runtimes(artifact: Artifact, wanted: Sequence[str]) -> list[str | None]:
    """Those of ``wanted`` that read this file; ``[None]`` when none is wanted.

    Raises:
        UsageError: none of them does, or a name is not a runtime.
    """
    if not wanted:
        return [None]
    fitting: list[str | None] = [
        name for name in dict.fromkeys(wanted) if artifact.format in runner_class(name).formats
    ]
    if not fitting:
        raise UsageError(
            f"{artifact.path} is {artifact.format.value}, which {', '.join(wanted)} cannot run; leave --runtime out to "
            "take the first runtime for the format"
        )
    return fitting
