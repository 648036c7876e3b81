"""Cells under a load of queries at given times: ``server`` and ``fixed-rate``; one after the other, a worker each."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edgekit.bench.clock import Samples, WarmupRule
from edgekit.bench.schedule import MIN_SAMPLES, BlockPlan, first_warmup
from edgekit.bench.session import Session, Taken, TakenBlock
from edgekit.devices.functions import Value, on_device
from edgekit.devices.measures import WARM_CALLS
from edgekit.devices.protocol import Message
from edgekit.devices.rules import record, whole
from edgekit.devices.schema import OF_A_FEED, Reply
from edgekit.errors import DeviceError, EdgekitError, UsageError
from edgekit.extras.base import LoadScenario, OpenCell, Taking, short
from edgekit.extras.load import arrivals
from edgekit.extras.load.search import RateTrial, best, highest_rate
from edgekit.extras.load.serve import serve
from edgekit.results.base import optional
from edgekit.results.bench import Entry
from edgekit.runtime import Runner
from edgekit.types import SUPPORTED_SAMPLES, Latency, percentile_ns

if TYPE_CHECKING:
    from edgekit.options.bench import BenchOptions

log = logging.getLogger("edgekit")

PERCENT = 99
"""A latency bound is held by this percentile."""
TRIAL_SHARE = 1 / 8
"""Part of the cell's time that one trial of the search takes, at the least."""
MOST_SECONDS = 5
"""Times ``--seconds`` that a cell may take for its percentile to get the queries it needs."""
PROBE_SHARE = 0.1
"""Part of the cell's time for what one query takes by itself."""
BLOCKS = 8
VALIDATIONS = 5


@dataclass(frozen=True, kw_only=True)
class Load:
    """What became of the queries of a ``server`` or a ``fixed-rate``.

    Attributes:
        given_up: queries that were never served.
        utilisation: share of the time in which the model worked.
        highest_rate_per_s: at which p99 stays within the bound.
        capacity_per_s: queries a second without a pause.
    """

    rate_per_s: float
    queries: int
    given_up: int
    longest_line: int
    utilisation: float
    service_ms: Mapping[str, float]
    arrivals: str
    deadline_ms: float | None = optional()
    missed: int | None = optional()
    share_missed: float | None = optional()
    latency_bound_ms: float | None = optional()
    passed: bool | None = optional()
    highest_rate_per_s: float | None = optional()
    capacity_per_s: float | None = optional()
    trials: tuple[Mapping[str, Any], ...] | None = optional()


@on_device(
    Reply(
        record(given_up=whole(), longest_line=whole(), wall_ns=whole(1, 1 << 56)),
        times=("latency_ns", "service_ns"),
        least_ns=1,
        fewest=0,
        most=1 << 24,
        raises=OF_A_FEED,
    )
)
def serve_here(runner: Runner, message: Message) -> Value:
    """``arrivals`` (``poisson`` or ``fixed``), ``rate``, ``duration_ns``, ``seed``, ``give_up_ns``; the feed as
    arrays. See :func:`edgekit.extras.load.serve.serve`."""
    asked = message.header
    rate, duration_ns = float(asked["rate"]), int(asked["duration_ns"])
    if asked["arrivals"] == "poisson":
        times = arrivals.poisson_arrivals(rate, duration_ns, int(asked["seed"]))
    else:
        times = arrivals.fixed_arrivals(rate, duration_ns)
    call = runner.bare(message.arrays)
    for _ in range(WARM_CALLS):
        call()
    found = serve(call, times, give_up_ns=int(asked["give_up_ns"]))
    served = times[: found.latency_ns.size]
    value = {
        "given_up": found.given_up,
        "longest_line": arrivals.longest_line(served, found.latency_ns),
        "wall_ns": int((served + found.latency_ns).max(initial=1)),
    }
    return Message(value, {"latency_ns": found.latency_ns, "service_ns": found.service_ns})


@dataclass(frozen=True, slots=True)
class _Pass:
    """One pass at one rate. ``queries``: all that arrived, ``latency_ns`` of those that were served."""

    rate: float
    queries: int
    given_up: int
    longest_line: int
    wall_ns: int
    latency_ns: Samples
    service_ns: Samples

    def passes(self, bound_ms: float) -> RateTrial:
        latency = Latency(self.latency_ns).percentile_ms(PERCENT)
        return RateTrial(self.rate, self.given_up == 0 and latency is not None and latency <= bound_ms, latency)


def under_load(cells: Sequence[OpenCell], options: BenchOptions) -> tuple[Session, list[Taking]]:
    """The latencies of every cell, and what belongs into its entry beside them."""
    taken: list[Taken] = []
    beside: list[Taking] = []
    for cell in cells:
        record = Taken()
        extra: dict[str, Any] = {}
        fields: dict[str, Any] = {}
        if cell.error is None:
            try:
                found, extra = _search(cell, options) if options.rate is None else _at_rate(cell, options, options.rate)
                parts = np.array_split(found.latency_ns, BLOCKS)
                record.finished = [TakenBlock(part, owner="0.0") for part in parts if part.size]
                fields = {"throughput_per_s": _throughput(found)}
            except EdgekitError as error:
                record.error = error
        taken.append(record)
        beside.append(Taking(extra, fields))
    nothing = WarmupRule(0, 0, 0)
    plan = BlockPlan(rounds=1, block_ns=int(options.seconds * 1e9), max_block_ns=0, min_runs=1, rewarm=nothing)
    return Session(tuple(taken), plan, (tuple(range(len(cells))),)), beside


def _at_rate(cell: OpenCell, options: BenchOptions, rate: float) -> tuple[_Pass, dict[str, Any]]:
    duration_ns = int(options.seconds * 1e9)
    found = _serve(cell, options, rate, duration_ns, give_up_ns=duration_ns, seed=options.seed)
    more: dict[str, Any] = {}
    if options.scenario == "fixed-rate":
        deadline_ms = 1000 / rate if options.latency_bound is None else options.latency_bound
        missed = int((found.latency_ns > deadline_ms * 1e6).sum()) + found.given_up
        more = {"deadline_ms": deadline_ms, "missed": missed, "share_missed": missed / found.queries}
    elif options.latency_bound is not None:
        more = {"latency_bound_ms": options.latency_bound, "passed": found.passes(options.latency_bound).passed}
    return found, {options.scenario.replace("-", "_"): _load(found, options, **more)}


def _search(cell: OpenCell, options: BenchOptions) -> tuple[_Pass, dict[str, Any]]:
    """The highest rate for ``--latency-bound``, and a longer pass at that rate with arrivals of its own.

    Raises:
        DeviceError: no rate holds the bound.
    """
    bound = options.latency_bound
    assert bound is not None
    alone = cell.client.time_block(
        cell.feed,
        repeat=cell.runs,
        warmup=first_warmup(options.seconds),
        min_runs=MIN_SAMPLES,
        min_ns=int(PROBE_SHARE * options.seconds * 1e9),
        max_ns=int(options.seconds * 1e9),
    )
    service_ms = float(np.mean(alone.samples_ns)) / 1e6
    capacity = 1000 / service_ms
    needed_s = SUPPORTED_SAMPLES[PERCENT] * 1.1

    def attempt(rate: float) -> RateTrial:
        seconds = max(options.seconds * TRIAL_SHARE, needed_s / rate)
        if seconds > MOST_SECONDS * options.seconds:
            return RateTrial(rate, False, None)
        found = _serve(cell, options, rate, int(seconds * 1e9), give_up_ns=int(10e6 * bound), seed=options.seed + 1)
        return found.passes(bound)

    trials = highest_rate(attempt, capacity)
    chosen = best(trials)
    for number in range(VALIDATIONS if chosen else 0):
        assert chosen is not None
        rate = chosen.rate * 0.95**number
        seconds = max(options.seconds / 2, needed_s / rate)
        seed = options.seed + 2 + number
        found = _serve(cell, options, rate, int(seconds * 1e9), give_up_ns=int(10e6 * bound), seed=seed)
        trials.append(found.passes(bound))
        if trials[-1].passed:
            load = _load(
                found,
                options,
                latency_bound_ms=bound,
                passed=True,
                highest_rate_per_s=rate,
                capacity_per_s=capacity,
                trials=tuple({"rate_per_s": t.rate, "passed": t.passed, "p99_ms": t.latency_ms} for t in trials),
            )
            return found, {"server": load}
    why = f"one query takes {service_ms:.3g} ms by itself"
    if any(trial.latency_ms is None and not trial.passed for trial in trials):
        why += f", and a p{PERCENT} needs {SUPPORTED_SAMPLES[PERCENT]} queries, too many for --seconds at low rates"
    raise DeviceError(
        f"{cell.plan.model}: no rate was found at which p{PERCENT} stays within {bound:g} ms: {why}; "
        "give a larger --latency-bound or more --seconds"
    )


def _load(found: _Pass, options: BenchOptions, **more: Any) -> Load:
    return Load(
        rate_per_s=found.rate,
        queries=found.queries,
        given_up=found.given_up,
        longest_line=found.longest_line,
        utilisation=float(found.service_ns.sum()) / found.wall_ns,
        service_ms={
            "mean": float(found.service_ns.mean()) / 1e6,
            "p50": percentile_ns(found.service_ns, 50) / 1e6,
        },
        arrivals="fixed" if options.scenario == "fixed-rate" else "poisson",
        **more,
    )


def _serve(
    cell: OpenCell, options: BenchOptions, rate: float, duration_ns: int, *, give_up_ns: int, seed: int
) -> _Pass:
    """One pass at one rate."""
    kind = "fixed" if options.scenario == "fixed-rate" else "poisson"
    message = cell.client.measure(
        serve_here, cell.feed, timeout_s=(duration_ns + give_up_ns) / 1e9, arrivals=kind, rate=rate,
        duration_ns=duration_ns, give_up_ns=give_up_ns, seed=seed,
    )  # fmt: skip
    told, latencies = message.header, message.arrays["latency_ns"]
    queries = int(latencies.size) + told["given_up"]
    log.debug("%s: %g a second, %d queries, %d given up", cell.plan.model, rate, queries, told["given_up"])
    if latencies.size == 0:
        raise DeviceError(f"{cell.plan.model}: no query was served at {rate:g} a second; give a lower --rate")
    counts = (queries, told["given_up"], told["longest_line"], told["wall_ns"])
    return _Pass(rate, *counts, latencies, message.arrays["service_ns"])


def _throughput(found: _Pass) -> float:
    return float(found.latency_ns.size / (found.wall_ns / 1e9))


class Loaded(LoadScenario):
    """What became of the queries."""

    result: ClassVar[Any] = Load

    def time(self, cells: Sequence[OpenCell], options: BenchOptions) -> tuple[Session, list[Taking]]:
        return under_load(cells, options)

    def report(self, entry: Entry, found: Load) -> list[Any]:
        name = short(entry.model)
        said = f"{name}: {found.queries:,} queries at {_rate(found.rate_per_s)} a second, {found.arrivals} arrivals, "
        said += f"model busy {100 * found.utilisation:.0f}% of the time, longest line {found.longest_line}"
        if found.given_up:
            said += f"; {found.given_up:,} queries were never served: the line grew without end"
        if found.highest_rate_per_s is not None:
            bound = f"{found.latency_bound_ms:g} ms"
            said += f"; highest rate with p99 within {bound}: {_rate(found.highest_rate_per_s)} a second"
        elif found.passed is not None:
            said += f"; p99 {'keeps' if found.passed else 'is over'} the bound of {found.latency_bound_ms:g} ms"
        if found.missed is not None and found.share_missed is not None:
            said += f"; {found.missed:,} deadlines of {found.deadline_ms:.4g} ms missed"
            said += f" ({100 * found.share_missed:.2f}%)"
        return [said]


class Server(Loaded):
    """Poisson arrivals, at a rate or at the highest that a bound on the p99 allows."""

    name: ClassVar[str] = "server"

    def check(self, options: BenchOptions) -> None:
        if options.rate is None and options.latency_bound is None:
            raise UsageError(
                "--scenario server needs --latency-bound MS, to look for the highest rate that keeps it, or --rate HZ"
            )


class FixedRate(Loaded):
    """A sensor: a query at every tick, and what is late."""

    name: ClassVar[str] = "fixed-rate"

    def check(self, options: BenchOptions) -> None:
        if options.rate is None:
            raise UsageError("--scenario fixed-rate needs --rate HZ: how often the sensor gives a sample")


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


SERVER = Server()
FIXED_RATE = FixedRate()
