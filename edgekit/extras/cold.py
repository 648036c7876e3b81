"""``--cold``: what the first answer costs: with the file out of the page cache, with it there, and compiled before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edgekit.artifact import onnx_external_data
from edgekit.bench.clock import WarmupRule, now_ns
from edgekit.bench.result import CellResult
from edgekit.devices import open_worker
from edgekit.devices.functions import Value, on_device
from edgekit.devices.protocol import Message
from edgekit.devices.rules import flag, maybe, number, record
from edgekit.devices.schema import Reply
from edgekit.errors import UnsupportedError
from edgekit.escapes import ms
from edgekit.extras.base import BenchExtra, TimedCell, short
from edgekit.extras.pagecache import drop
from edgekit.leftovers import scratch_folder
from edgekit.results.base import named, optional
from edgekit.results.bench import Entry
from edgekit.results.measures import Absent
from edgekit.runtime import Runner
from edgekit.types import Format

if TYPE_CHECKING:
    from edgekit.options.bench import BenchOptions

STARTS = 5
"""Processes for each way; figures are medians over them."""
_ONCE = WarmupRule(0, 0, 0)
_LIMIT_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Start:
    """A start in its parts: medians in milliseconds. ``resident_share``: of the file, left in the page cache."""

    process: float
    imports: float = named("import")
    load: float
    first: float
    total: float
    starts: int
    resident_share: float | None = optional()


@dataclass(frozen=True, kw_only=True)
class Cold:
    """The three ways of starting: file out of the page cache, in it, and compiled before."""

    first_process: Start
    warm_disk: Start
    compiled_cache: Start | Absent


@on_device(Reply(record(apart=flag), raises=(UnsupportedError,)))
def optimize(runner: Runner, message: Message) -> Value:
    """Writes what the runtime made of the model to ``target``, for a start that need not make it again; ``apart``: it
    is opened beside the file, not in its place."""
    runner.save_compiled(str(message.header["target"]))
    return {"apart": runner.compiled_apart}


_SHARE = maybe(number(0, 1))


@on_device(Reply(record(before=_SHARE, after=_SHARE)), alone=True)
def drop_cache(message: Message) -> Value:
    """``path``: a file whose pages are to leave the page cache. See :func:`edgekit.extras.pagecache.drop`."""
    return drop(str(message.header["path"]))


def cold_starts(cell: TimedCell) -> Cold:
    """Medians in milliseconds of the parts of a start, each way in processes of its own, and ``total`` of them.

    ``process``: until the worker answers (the interpreter, numpy); ``import``: the runtime's package and what the
    worker does beside; ``load``: opening the file; ``first``: the first inference. ``first_process`` drops the file's
    pages from the page cache before (``resident_share`` of them was left, at the most); those of the runtime's own
    libraries stay, since others use them.

    Raises:
        DeviceError: what became of a worker.
    """
    path = cell.plan.artifact.path
    with scratch_folder() as folder:
        target, absent, apart = folder / path.name, "", False
        try:
            with cell.worker() as client:
                if not client.shares_files:
                    raise UnsupportedError(f"{cell.plan.device.name} does not share the files of this machine")
                apart = bool(client.measure(optimize, timeout_s=_LIMIT_S, target=str(target)).header["apart"])
        except UnsupportedError as error:
            absent = str(error)
        ways = {"first_process": (path, True, ""), "warm_disk": (path, False, "")}
        if not absent:
            ways["compiled_cache"] = (path, False, str(target)) if apart else (target, False, "")
        starts: dict[str, list[Start]] = {way: [] for way in ways}
        for _ in range(STARTS):  # taking turns, so that a busy machine weighs on all of them
            for way, (file, drop, before) in ways.items():
                starts[way].append(_start(cell, file, drop, before))
    found = {way: _medians(rows) for way, rows in starts.items()}
    compiled = found.get("compiled_cache", Absent(absent))
    return Cold(first_process=found["first_process"], warm_disk=found["warm_disk"], compiled_cache=compiled)


def _medians(starts: Sequence[Start]) -> Start:
    def median(of: Callable[[Start], float]) -> float:
        return float(np.median([of(start) for start in starts]))

    return Start(
        process=median(lambda start: start.process),
        imports=median(lambda start: start.imports),
        load=median(lambda start: start.load),
        first=median(lambda start: start.first),
        total=median(lambda start: start.total),
        starts=len(starts),
        resident_share=max((s.resident_share for s in starts if s.resident_share is not None), default=None),
    )


def _start(cell: TimedCell, path: Path, drop: bool, compiled: str) -> Start:
    plan = cell.plan
    started = now_ns()
    with open_worker(plan.device, timeout_s=plan.timeout_s) as client:
        ready = now_ns()
        place = client.place(path)
        resident = None
        if drop:
            files = [place, *(str(Path(place).parent / name) for name in _beside(plan.artifact.format, path))]
            dropped = [client.measure(drop_cache, timeout_s=_LIMIT_S, path=name).header for name in files]
            resident = dropped[0]["after"]
        asked = now_ns()
        loaded = client.load(path, runtime=plan.runtime, threads=plan.threads, compiled=compiled)
        answered = now_ns()
        block = client.time_block(cell.feed, warmup=_ONCE, min_runs=1, min_ns=0, max_ns=1)
    parts = (
        (ready - started) / 1e6,
        max(answered - asked - loaded.load_ns, 0) / 1e6,
        loaded.load_ns / 1e6,
        int(block.samples_ns[0]) / 1e6,
    )
    process, imports, load, first = parts
    return Start(
        process=process,
        imports=imports,
        load=load,
        first=first,
        total=sum(parts),
        starts=1,
        resident_share=resident,
    )


def _beside(format_: Format, path: Path) -> list[str]:
    """Files that hold the weights of this one."""
    return list(onnx_external_data(path)) if format_ is Format.ONNX else []


class ColdExtra(BenchExtra):
    """The three ways of starting, each in its parts."""

    name: ClassVar[str] = "cold"
    result: ClassVar[Any] = Cold

    def measure(self, cell: TimedCell, result: CellResult, options: BenchOptions) -> Cold:
        return cold_starts(cell)

    def report(self, entry: Entry, found: Cold) -> list[Any]:
        ways = {
            "file out of the page cache": found.first_process,
            "file in the page cache": found.warm_disk,
            "compiled before": found.compiled_cache,
        }
        return [f"{short(entry.model)}: start, {words}: {_told(row)}" for words, row in ways.items()]


def _told(row: Start | Absent) -> str:
    if isinstance(row, Absent):
        return f"none: {row.absent}"
    parts = {"process": row.process, "import": row.imports, "load": row.load, "first": row.first}
    return f"{ms(row.total)} ms ({', '.join(f'{part} {ms(value)}' for part, value in parts.items())})"


EXTRA = ColdExtra()
