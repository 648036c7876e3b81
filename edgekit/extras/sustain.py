"""``--sustain 30m``: one model without a pause, latency against time, and when it became slower."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgekit.bench.clock import TimedBlock, WarmupRule, now_ns
from edgekit.bench.result import CellResult
from edgekit.errors import UsageError
from edgekit.escapes import ms
from edgekit.extras.base import BenchExtra, TimedCell, short
from edgekit.extras.drift import FEWEST, change_point
from edgekit.results.bench import Entry
from edgekit.types import Latency

if TYPE_CHECKING:
    from edgekit.options.bench import BenchOptions

log = logging.getLogger("edgekit")

WINDOWS = 120
LEAST_WINDOW_S = 0.05
_TOLD = 10
"""Lines of progress in all."""
_NO_WARMUP = WarmupRule(0, 0, 0)


@dataclass(frozen=True, kw_only=True)
class Window:
    """A part of a long run."""

    at_s: float
    runs: int
    p50_ms: float
    p90_ms: float | None
    p99_ms: float | None
    max_ms: float
    temperature_c: float | str
    frequency_mhz: float | str
    busy: int | str


@dataclass(frozen=True, slots=True)
class Change:
    """Where the medians change: from ``at_s`` on they are ``ratio`` times as large; ``p``: by chance."""

    at_s: float
    ratio: float
    p: float


@dataclass(frozen=True, kw_only=True)
class Sustain:
    """One model without a pause. ``throttled_at_s``: when it became slower; null with the ``reason``."""

    seconds: float
    window_s: float
    windows: tuple[Window, ...]
    first_ms: float
    last_ms: float
    throttled_at_s: float | None
    change: Change | None
    reason: str | None


def sustain(cell: TimedCell, seconds: float) -> Sustain:
    """Runs the cell's model in a worker of its own for ``seconds``, noted in windows of equal length.

    The samples of a window are not kept: half an hour of a fast model is millions of them. ``throttled_at_s`` is the
    start of the window from which on the medians are higher (:mod:`edgekit.extras.drift`), None with a
    ``reason`` where they are not.

    Raises:
        DeviceError: what became of the worker.
    """
    window_s = max(seconds / WINDOWS, LEAST_WINDOW_S)
    windows: list[Window] = []
    with cell.worker() as client:
        started = now_ns()
        while (at_s := (now_ns() - started) / 1e9) < seconds:
            length_ns = int(min(window_s, max(seconds - at_s, LEAST_WINDOW_S)) * 1e9)
            block = client.time_block(cell.feed, warmup=_NO_WARMUP, min_runs=1, min_ns=length_ns, max_ns=length_ns)
            windows.append(_window(at_s, block, client.environment()))
            if len(windows) % (WINDOWS // _TOLD) == 0:
                log.info("%s: %.0f of %.0f s, p50 %.4g ms", cell.plan.model, at_s, seconds, windows[-1].p50_ms)
    medians = np.array([window.p50_ms for window in windows])
    quarter = max(medians.size // 4, 1)
    change, reason = _change(windows, medians)
    return Sustain(
        seconds=seconds,
        window_s=window_s,
        windows=tuple(windows),
        first_ms=float(np.median(medians[:quarter])),
        last_ms=float(np.median(medians[-quarter:])),
        throttled_at_s=None if change is None or reason else change.at_s,
        change=change,
        reason=reason,
    )


def _window(at_s: float, block: TimedBlock, state: dict[str, Any]) -> Window:
    samples = block.samples_ns
    latency = Latency(samples)
    return Window(
        at_s=at_s,
        runs=int(samples.size),
        p50_ms=float(np.median(samples)) / 1e6,
        p90_ms=latency.p90_ms,
        p99_ms=latency.p99_ms,
        max_ms=int(samples.max()) / 1e6,
        temperature_c=state["temperature_c"],
        frequency_mhz=state["frequency_mhz"],
        busy=state["busy"],
    )


def _change(windows: list[Window], medians: NDArray[np.float64]) -> tuple[Change | None, str | None]:
    """Where the medians change, and why that is not throttling."""
    found = change_point(medians)
    if found is None:
        return None, f"too few windows to say whether it became slower: {medians.size}, {FEWEST} are needed"
    change = Change(windows[found.index].at_s, found.ratio, found.p)
    if found.real and found.ratio > 1:
        return change, None
    return change, "it became faster on the way" if found.real else "it did not become slower"


def duration_s(text: str | float) -> float:
    """``90``, ``90s``, ``30m``, ``1.5h`` as seconds.

    Raises:
        UsageError: not such a text, or not between a second and a week.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([smh]?)\s*", str(text))
    seconds = float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]] if found else 0.0
    if not 1 <= seconds <= 7 * 86_400:
        raise UsageError(f"--sustain {text}: give a time such as 90s, 30m or 2h")
    return seconds


class SustainExtra(BenchExtra):
    """Whether a model that ran for long became slower, and when."""

    name: ClassVar[str] = "sustain"
    result: ClassVar[Any] = Sustain

    def check(self, options: BenchOptions) -> None:
        duration_s(str(options.sustain))

    def measure(self, cell: TimedCell, result: CellResult, options: BenchOptions) -> Sustain:
        return sustain(cell, duration_s(str(options.sustain)))

    def report(self, entry: Entry, found: Sustain) -> list[Any]:
        said = f"{short(entry.model)}: {found.seconds:.0f} s of work, p50 {ms(found.first_ms)} ms at first"
        said += f", {ms(found.last_ms)} ms at the end"
        if found.throttled_at_s is None or found.change is None:
            return [f"{said}; {found.reason}"]
        return [f"{said}; {found.change.ratio:.2f} times as slow from {found.throttled_at_s:.0f} s on"]


EXTRA = SustainExtra()
