"""``--probe``: factors that distort latency: denormal weights, made-up input, state to reset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edgekit.artifact import contract_of
from edgekit.bench.clock import TimedBlock, WarmupRule, time_calls
from edgekit.bench.compare import compare_paired
from edgekit.bench.result import CellResult
from edgekit.bench.session import Timed, time_interleaved
from edgekit.data.seeded import seeded_feed
from edgekit.devices import LoadedInfo, WorkerClient, open_worker
from edgekit.devices.functions import Value, on_device
from edgekit.devices.protocol import Message
from edgekit.devices.rules import record, whole
from edgekit.devices.schema import OF_A_FEED, Reply
from edgekit.documents import typed
from edgekit.errors import ModelError, UnsupportedError
from edgekit.escapes import ms
from edgekit.extras.base import BenchExtra, TimedCell, short
from edgekit.extras.denormals import counts, float_weights, flush_to_zero
from edgekit.results.base import optional
from edgekit.results.bench import Entry
from edgekit.results.compare import Comparison
from edgekit.results.measures import Absent
from edgekit.runtime import Runner
from edgekit.types import Feed, Verdict

if TYPE_CHECKING:
    from edgekit.options.bench import BenchOptions

SECONDS = 1.0
"""Time for each side of a comparison."""
_LIMIT_S = 60.0
_RESET_NS = 200_000_000


@dataclass(frozen=True, kw_only=True)
class ProbeRatio:
    """One time relative to another; see :class:`~edgekit.results.compare.Comparison`."""

    ratio_p50: float | None
    ci95: tuple[float, float] | None
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class Denormals:
    """Denormal weights, and the time relative to that with flush-to-zero, or why there is none."""

    weights: int
    denormal: int
    absent: str | None = optional()
    ratio: ProbeRatio | None = optional()


@dataclass(frozen=True, kw_only=True)
class RealInput:
    """The time on the real input relative to that on seeded values."""

    ratio: ProbeRatio


@dataclass(frozen=True, slots=True)
class Reset:
    """What putting the state back costs."""

    p50_ms: float
    samples: int


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Factors that distort latency."""

    denormals: Denormals
    input: RealInput | Absent
    reset: Reset


@on_device(Reply(record(weights=whole(), denormal=whole()), raises=(ModelError,)))
def weights(runner: Runner, message: Message) -> Value:
    """Floating-point weights and how many are denormal. See :mod:`edgekit.extras.denormals`."""
    return counts(float_weights(runner))


@on_device(Reply(times=("samples_ns",), raises=OF_A_FEED))
def reset_cost(runner: Runner, message: Message) -> Value:
    """Nanoseconds of putting the model's state back, one by one."""
    runner.run(message.arrays)
    rule = WarmupRule(3, 0, _RESET_NS)
    block = time_calls(runner.reset, warmup=rule, min_runs=11, min_ns=_RESET_NS // 10, max_ns=_RESET_NS)
    return Message({}, {"samples_ns": block.samples_ns})


@on_device(Reply(raises=(UnsupportedError,)), alone=True)
def flush_denormals(message: Message) -> None:
    """From now on denormal numbers are zero here; before a model is loaded. See :mod:`edgekit.extras.denormals`."""
    flush_to_zero()


@dataclass(frozen=True, slots=True)
class _Side:
    """One client with a feed, as a cell of a session."""

    client: WorkerClient
    feed: Feed

    def time_block(self, *, warmup: WarmupRule, min_runs: int, min_ns: int, max_ns: int) -> TimedBlock:
        return self.client.time_block(self.feed, warmup=warmup, min_runs=min_runs, min_ns=min_ns, max_ns=max_ns)


def probe(cell: TimedCell) -> Probe:
    """``denormals``, ``input`` and ``reset``, each a figure or ``absent`` with the reason.

    Raises:
        DeviceError: what became of a worker.
    """
    return Probe(denormals=_denormals(cell), input=_input(cell), reset=_reset(cell))


def _denormals(cell: TimedCell) -> Denormals:
    """Denormal weights, and the time as it is relative to the time with denormals taken for zero."""
    with cell.worker() as plain:
        found = typed(Denormals, plain.measure(weights, timeout_s=_LIMIT_S).header, "the weights")
        with open_worker(cell.plan.device, timeout_s=cell.plan.timeout_s) as flushing:
            try:
                flushing.measure(flush_denormals, timeout_s=_LIMIT_S)
            except UnsupportedError as error:
                return replace(found, absent=str(error))
            plan = cell.plan
            flushing.load(plan.artifact.path, runtime=plan.runtime, threads=plan.threads)
            compared = _compare(_Side(plain, cell.feed), _Side(flushing, cell.feed), cell.plan.seed)
    return replace(found, ratio=_ratio(compared))


def _input(cell: TimedCell) -> RealInput | Absent:
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


def _reset(cell: TimedCell) -> Reset:
    """What putting the state back costs; the timed runs of TFLite files hold it where a file has state."""
    with cell.worker() as client:
        samples = client.measure(reset_cost, cell.feed, timeout_s=_LIMIT_S).arrays["samples_ns"]
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


class ProbeExtra(BenchExtra):
    """Denormals, real input, reset."""

    name: ClassVar[str] = "probe"
    result: ClassVar[Any] = Probe

    def measure(self, cell: TimedCell, result: CellResult, options: BenchOptions) -> Probe:
        return probe(cell)

    def report(self, entry: Entry, found: Probe) -> list[Any]:
        denormals, real = found.denormals, found.input
        said = [f"{denormals.denormal:,} of {denormals.weights:,} weights are denormal"]
        said.append(denormals.absent or f"time is {_times(denormals.ratio)} that with flush-to-zero")
        if isinstance(real, Absent):
            said.append(real.absent)
        else:
            said.append(f"time on the real input is {_times(real.ratio)} that on seeded values")
        said.append(f"a reset takes {ms(found.reset.p50_ms)} ms")
        return [f"{short(entry.model)}: " + "; ".join(said)]


def _times(row: ProbeRatio | None) -> str:
    if row is None or row.ratio_p50 is None:
        return "not known, relative to"
    interval = f" [{row.ci95[0]:.3f}, {row.ci95[1]:.3f}]" if row.ci95 else ""
    return f"{row.ratio_p50:.3f}{interval} times"


EXTRA = ProbeExtra()
