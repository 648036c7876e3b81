"""``--end-to-end``: from a raw sample to an answer, beside the bare run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edgekit.bench.result import CellResult
from edgekit.bench.stages import STAGES, time_stages
from edgekit.devices.functions import Value, on_device
from edgekit.devices.protocol import Message
from edgekit.devices.schema import OF_A_FEED, Reply
from edgekit.errors import DataError, LimitError, UsageError
from edgekit.escapes import ms
from edgekit.extras.base import BenchExtra, TimedCell, short
from edgekit.results.bench import Entry
from edgekit.runtime import Runner
from edgekit.types import Latency

if TYPE_CHECKING:
    from edgekit.options.bench import BenchOptions

SECONDS = 1.0
_LIMIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage from a raw sample to an answer."""

    stage: str
    p50_ms: float


@dataclass(frozen=True, kw_only=True)
class Percentiles:
    """Milliseconds."""

    p50: float | None
    p90: float | None
    p99: float | None


@dataclass(frozen=True, kw_only=True)
class EndToEnd:
    """From a raw sample to an answer."""

    runs: int
    stages: tuple[Stage, ...]
    total_ms: Percentiles


@on_device(Reply(times=STAGES, raises=(DataError, LimitError, *OF_A_FEED)))
def stages(runner: Runner, message: Message) -> Value:
    """``input``: a raw sample as the worker finds it; ``seconds``. See :func:`edgekit.bench.stages.time_stages`."""
    return Message({}, time_stages(runner, str(message.header["input"]), float(message.header["seconds"])))


class EndToEndExtra(BenchExtra):
    """Medians of each stage in milliseconds, and of all of them together, beside the bare run."""

    name: ClassVar[str] = "end_to_end"
    result: ClassVar[Any] = EndToEnd

    def check(self, options: BenchOptions) -> None:
        if options.input is None:
            raise UsageError("--end-to-end times the way from a raw sample to an answer: give one with --input FILE")

    def measure(self, cell: TimedCell, result: CellResult, options: BenchOptions) -> EndToEnd:
        given = str(cell.plan.input)
        with cell.worker() as client:
            place = client.place(given) if Path(given).is_file() else given
            found = client.measure(stages, timeout_s=_LIMIT_S, input=place, seconds=SECONDS).arrays
        whole = np.sum(list(found.values()), axis=0)
        latency = Latency(whole)
        return EndToEnd(
            runs=int(whole.size),
            stages=tuple(Stage(name, float(np.median(ns)) / 1e6) for name, ns in found.items()),
            total_ms=Percentiles(p50=latency.p50_ms, p90=latency.p90_ms, p99=latency.p99_ms),
        )

    def report(self, entry: Entry, found: EndToEnd) -> list[Any]:
        parts = ", ".join(f"{row.stage} {ms(row.p50_ms)}" for row in found.stages)
        said = f"{short(entry.model)}: from raw sample to answer {ms(found.total_ms.p50)} ms ({parts})"
        return [f"{said}; the bare run {ms(entry.p50_ms)} ms"]


EXTRA = EndToEndExtra()
