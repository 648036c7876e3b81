"""Cells under a load of queries at given times: ``server`` and ``fixed-rate``; one after the other, a worker each."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.bench.clock import Samples, WarmupRule
from edgekit.bench.scenario.search import RateTrial, best, highest_rate
from edgekit.bench.schedule import MIN_SAMPLES, BlockPlan, first_warmup
from edgekit.bench.session import Session, Taken, TakenBlock
from edgekit.devices import measures
from edgekit.errors import DeviceError, EdgekitError
from edgekit.options.bench import BenchOptions
from edgekit.pipeline.bench.cell import Cell
from edgekit.results.measures import Load
from edgekit.types import SUPPORTED_SAMPLES, Latency, percentile_ns

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


def under_load(cells: Sequence[Cell], options: BenchOptions) -> tuple[Session, list[Mapping[str, Any]]]:
    """The latencies of every cell, and what belongs into its entry beside them."""
    taken: list[Taken] = []
    extras: list[Mapping[str, Any]] = []
    for cell in cells:
        record = Taken()
        extra: dict[str, Any] = {}
        if cell.error is None:
            try:
                found, extra = _search(cell, options) if options.rate is None else _at_rate(cell, options, options.rate)
                parts = np.array_split(found.latency_ns, BLOCKS)
                record.finished = [TakenBlock(part, owner="0.0") for part in parts if part.size]
                extra = {**extra, "throughput_per_s": _throughput(found)}
            except EdgekitError as error:
                record.error = error
        taken.append(record)
        extras.append(extra)
    nothing = WarmupRule(0, 0, 0)
    plan = BlockPlan(rounds=1, block_ns=int(options.seconds * 1e9), max_block_ns=0, min_runs=1, rewarm=nothing)
    return Session(tuple(taken), plan, (tuple(range(len(cells))),)), extras


def _at_rate(cell: Cell, options: BenchOptions, rate: float) -> tuple[_Pass, dict[str, Any]]:
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


def _search(cell: Cell, options: BenchOptions) -> tuple[_Pass, dict[str, Any]]:
    """The highest rate for ``--latency-bound``, and a longer pass at that rate with arrivals of its own.

    Raises:
        DeviceError: no rate holds the bound.
    """
    bound = options.latency_bound
    assert bound is not None
    alone = cell.replicas[0].time_block(
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


def _serve(cell: Cell, options: BenchOptions, rate: float, duration_ns: int, *, give_up_ns: int, seed: int) -> _Pass:
    """One pass at one rate."""
    arrivals = "fixed" if options.scenario == "fixed-rate" else "poisson"
    client = cell.replicas[0].client
    message = client.measure(
        measures.serve, cell.feed, timeout_s=(duration_ns + give_up_ns) / 1e9, arrivals=arrivals, rate=rate,
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
