"""``--probe``: factors that distort latency: denormal weights, made-up input, state to reset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgekit.artifact import contract_of
from edgekit.bench.clock import TimedBlock, WarmupRule
from edgekit.bench.compare import compare_paired
from edgekit.bench.session import Timed, time_interleaved
from edgekit.data.seeded import seeded_feed
from edgekit.devices import LoadedInfo, WorkerClient, open_worker
from edgekit.documents import typed
from edgekit.errors import UnsupportedError
from edgekit.pipeline.bench.cell import Cell, Replica
from edgekit.results.compare import Comparison
from edgekit.results.measures import Absent, Denormals, Probe, ProbeRatio, RealInput, Reset
from edgekit.types import Feed

SECONDS = 1.0
"""Time for each side of a comparison."""
_LIMIT_S = 60.0


@dataclass(frozen=True, slots=True)
class _Side:
    """One client with a feed, as a cell of a session."""

    client: WorkerClient
    feed: Feed

    def time_block(self, *, warmup: WarmupRule, min_runs: int, min_ns: int, max_ns: int) -> TimedBlock:
        replica = Replica(self.client, self.feed)
        return replica.time_block(warmup=warmup, min_runs=min_runs, min_ns=min_ns, max_ns=max_ns)


def probe(cell: Cell) -> Probe:
    """``denormals``, ``input`` and ``reset``, each a figure or ``absent`` with the reason.

    Raises:
        DeviceError: what became of a worker.
    """
    return Probe(denormals=_denormals(cell), input=_input(cell), reset=_reset(cell))


def _denormals(cell: Cell) -> Denormals:
    """Denormal weights, and the time as it is relative to the time with denormals taken for zero."""
    with cell.worker() as plain:
        found = typed(Denormals, plain.measure("weights", timeout_s=_LIMIT_S).header, "the weights")
        with open_worker(cell.plan.device, timeout_s=cell.plan.timeout_s) as flushing:
            try:
                flushing.measure("flush_denormals", timeout_s=_LIMIT_S)
            except UnsupportedError as error:
                return replace(found, absent=str(error))
            plan = cell.plan
            flushing.load(plan.artifact.path, runtime=plan.runtime, threads=plan.threads)
            compared = _compare(_Side(plain, cell.feed), _Side(flushing, cell.feed), cell.plan.seed)
    return replace(found, ratio=_ratio(compared))


def _input(cell: Cell) -> RealInput | Absent:
    """The time on the real input relative to the time on seeded values of the same shapes."""
    plan = cell.plan
    if plan.input is None:
        return Absent("no real input was given; give --input FILE")
    contract = contract_of(plan.artifact)
    with open_worker(plan.device, timeout_s=plan.timeout_s) as client:
        card = plan.artifact.card
        loaded = client.load(plan.artifact.path, runtime=plan.runtime, threads=plan.threads, card=card)
        seeded = seeded_feed(loaded.signature, contract, plan.seed, dims=_dims(loaded, cell.feed))
        compared = _compare(_Side(client, cell.feed), _Side(client, seeded), plan.seed)
    return RealInput(ratio=_ratio(compared))


def _reset(cell: Cell) -> Reset:
    """What putting the state back costs; the timed runs of TFLite files hold it where a file has state."""
    with cell.worker() as client:
        samples = client.measure("reset_cost", cell.feed, timeout_s=_LIMIT_S).arrays["samples_ns"]
    return Reset(float(np.median(samples)) / 1e6, int(samples.size))


def _compare(a: Timed, b: Timed, seed: int) -> Comparison:
    session = time_interleaved([[a], [b]], seconds=SECONDS, seed=seed)
    for taken in session.taken:
        if taken.error is not None:
            raise taken.error
    blocks: Sequence[Sequence[Any]] = [taken.blocks for taken in session.taken]
    return compare_paired("a", "b", blocks[0], blocks[1])


def _ratio(found: Comparison) -> ProbeRatio:
    return ProbeRatio(ratio_p50=found.ratio_p50, ci95=found.ci95, verdict=found.verdict)


def _dims(loaded: LoadedInfo, feed: Feed) -> dict[str, int]:
    """The free dimensions as the real input has them."""
    dims = {}
    for spec in loaded.signature.inputs:
        for size, named in zip(feed[spec.name].shape, spec.shape, strict=True):
            if isinstance(named, str):
                dims[named] = int(size)
    return dims
