"""``--profile``: time per operator, in a pass of its own: one file a runtime, one form of result (:mod:`.rows`).

The pass runs apart from the timed one, since a profiler slows every operator down: shares are meant, not totals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, ClassVar

from edgekit.bench.ledger import ledger
from edgekit.bench.result import CellResult
from edgekit.devices.functions import Value, on_device
from edgekit.devices.protocol import Message
from edgekit.devices.rules import maybe, number, record, rows, text, whole
from edgekit.devices.schema import LONG, OF_A_FEED, Reply
from edgekit.documents import typed
from edgekit.errors import UnsupportedError
from edgekit.escapes import ms
from edgekit.extras.base import BenchExtra, Sheet, TimedCell, short
from edgekit.results.base import optional
from edgekit.results.bench import Entry
from edgekit.runtime import Runner
from edgekit.types import Feed

if TYPE_CHECKING:
    from edgekit.options.bench import BenchOptions

PROFILERS: Mapping[str, str] = {
    "onnxruntime": "edgekit.extras.profile.ort",
    "litert": "edgekit.extras.profile.litert",
    "torch": "edgekit.extras.profile.aten",
}
"""Runtime -> module with a function ``profile(runner, feed, seconds)``."""
Profiler = Callable[[Runner, Feed, float], dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Times:
    """All operators of one type, or of one who ran them: milliseconds a run, and the share of all operators."""

    type: str | None = optional()
    by: str | None = optional()
    nodes: int
    calls: float
    ms: float
    share: float


@dataclass(frozen=True, kw_only=True)
class LayerTimes:
    """All operators of one layer; the empty name is the outermost module, null is unknown."""

    layer: str | None
    nodes: int
    calls: float
    ms: float
    share: float


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Time per operator, in a pass of its own: shares are meant, not totals.

    Attributes:
        run_ms: a run under the profiler.
        total_ms: what the operators account for.
        bare_ms: a run without the profiler.
        reason: why another way was taken than the runtime's own profiler.
    """

    tool: str
    runs: int
    run_ms: float
    total_ms: float
    unattributed_ms: float
    resolution_us: float
    types: tuple[Times, ...]
    layers: tuple[LayerTimes, ...]
    by: tuple[Times, ...]
    nodes: tuple[Mapping[str, Any], ...]
    bare_ms: float | None = optional()
    reason: str | None = optional()


def check_profile(runtime: str) -> None:
    """Raises UnsupportedError for a runtime that tells no times of its operators."""
    if _key(runtime) not in PROFILERS:
        raise UnsupportedError(
            f"--profile: {runtime} has no operator profiler in its Python package; there are: {', '.join(PROFILERS)}. "
            "Leave --profile out, or name one of them with --runtime"
        )


def profile(runner: Runner, feed: Feed, seconds: float) -> dict[str, Any]:
    """Runs ``runner``'s file on ``feed`` under its runtime's profiler for about ``seconds``; see :mod:`.rows`.

    Raises:
        UnsupportedError: the runtime, or its version, has no profiler that edgekit can read.
        DeviceError: the runtime failed while it was profiled.
    """
    check_profile(runner.name)
    found: Profiler = import_module(PROFILERS[_key(runner.name)]).profile
    return found(runner, feed, seconds)


def _key(runtime: str) -> str:
    """onnxruntime profiles every provider of its own; the variants of the others have no profiler."""
    base = runtime.partition(":")[0]
    return base if base == "onnxruntime" else runtime


SECONDS = 1.0
_LIMIT_S = 300.0
_NAME, _MS = text(LONG), number(0, 1e12)
_TIMED = {"calls": number(0), "ms": _MS, "share": number(0)}
_PROFILE = record(
    {"bare_ms": _MS, "reason": text()},
    tool=text(),
    runs=whole(1),
    run_ms=_MS,
    total_ms=_MS,
    unattributed_ms=_MS,
    resolution_us=_MS,
    types=rows(record(type=_NAME, nodes=whole(), **_TIMED)),
    layers=rows(record(layer=maybe(_NAME), nodes=whole(), **_TIMED)),
    by=rows(record(by=_NAME, nodes=whole(), **_TIMED)),
    nodes=rows(record(name=_NAME, type=_NAME, by=_NAME, layer=maybe(_NAME), **_TIMED)),
)


@on_device(Reply(_PROFILE, raises=OF_A_FEED))
def profile_here(runner: Runner, message: Message) -> Value:
    """``seconds``; the feed as arrays. See :func:`profile`."""
    return profile(runner, message.arrays, float(message.header["seconds"]))


SLOWED = 1.2
"""How many times its p50 a run may take under the profiler without a word."""
TOP = 12
"""Rows of the table."""
_LAYERS = {None: "unknown", "": "(model)"}


class ProfileExtra(BenchExtra):
    """The operator types and the layers that take the most time, and what that stands on."""

    name: ClassVar[str] = "profile"
    result: ClassVar[Any] = Profile

    def check_runtime(self, runtime: str) -> None:
        check_profile(runtime)

    def measure(self, cell: TimedCell, result: CellResult, options: BenchOptions) -> Profile:
        with cell.worker() as client:
            found = client.measure(profile_here, cell.feed, timeout_s=_LIMIT_S, seconds=SECONDS)
        return typed(Profile, found.header, "the profile")

    def fields(self, result: CellResult, found: Profile) -> dict[str, Any]:
        if result.delegation is None:
            return {}
        return {"delegation": ledger(result.delegation, {str(row.by): row.share for row in found.by})}

    def report(self, entry: Entry, found: Profile) -> list[Any]:
        title = f"{short(entry.model)}: time per operator type and layer ({found.tool}, {found.runs} runs)"
        table = []
        for left, right in zip_longest(found.types[:TOP], found.layers[:TOP]):
            named = ("",) * 4 if left is None else (left.type, f"{left.calls:g}", *_share(left))
            within = ("",) * 3 if right is None else (_LAYERS.get(right.layer, right.layer), *_share(right))
            table.append((*named, *within))
        columns = ("operator", "calls", "ms a run", "share", "layer", "ms", "of all")
        parts: list[Any] = [Sheet(columns, table, title, right=("calls", "ms a run", "share", "ms", "of all"))]
        p50 = entry.p50_ms
        if p50 is not None and found.run_ms > SLOWED * p50:
            parts.append(
                f"the profiler itself costs time: a run takes {ms(found.run_ms)} ms under it, {ms(p50)} without; the "
                "shares say more than the milliseconds"
            )
        rest = f"{ms(found.unattributed_ms)} of {ms(found.run_ms)} ms a run belong to no operator"
        return [*parts, f"{rest}; {found.reason}" if found.reason else rest]


def _share(row: Times | LayerTimes) -> tuple[str, str]:
    return ms(row.ms), f"{100 * row.share:.1f}%"


EXTRA = ProfileExtra()
