"""``bench --page-faults``: pages that the system has to bring into memory during an inference."""

from __future__ import annotations

import resource
from dataclasses import dataclass, field
from typing import Any

from edgekit.bench.result import CellResult
from edgekit.devices.functions import Value, on_device
from edgekit.devices.protocol import Message
from edgekit.devices.rules import record, whole
from edgekit.devices.schema import OF_A_FEED, Reply
from edgekit.documents import typed
from edgekit.extras.base import BenchExtra, TimedCell, short
from edgekit.options.base import Options, option
from edgekit.results.bench import Entry
from edgekit.runtime import Runner


@dataclass(frozen=True, slots=True, kw_only=True)
class PageFaultOptions(Options):
    """What it adds to the options of ``bench``: one that is called like it, and others if it needs them."""

    page_faults: int | None = field(
        default=None, metadata=option("Also count page faults over so many runs.", metavar="N", at_least=1)
    )


@dataclass(frozen=True)
class PageFaults:
    """What stands under ``page_faults`` in the document."""

    runs: int
    faults: int


@on_device(Reply(record(faults=whole()), raises=OF_A_FEED))
def count_faults(runner: Runner, message: Message) -> Value:
    """Runs in the worker, where the model is: numpy and one runtime are there, and this package."""
    call = runner.bare(message.arrays)
    call()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(int(message.header["runs"])):
        call()
    return {"faults": resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before}


class PageFaultExtra(BenchExtra):
    name = "page_faults"
    result = PageFaults
    options = PageFaultOptions

    def measure(self, cell: TimedCell, result: CellResult, options: Any) -> PageFaults:
        runs = options.page_faults
        with cell.worker() as client:
            found = client.measure(count_faults, cell.feed, timeout_s=60, runs=runs)
        return typed(PageFaults, {"runs": runs, **found.header}, "the page faults")

    def report(self, entry: Entry, found: PageFaults) -> list[Any]:
        return [f"{short(entry.model)}: {found.faults} page faults in {found.runs} runs"]

    def columns(self, found: PageFaults | None) -> dict[str, object]:
        return {"page_faults": found and found.faults}


EXTRA = PageFaultExtra()
