"""What the bench found about one cell, and its JSON form. Raw samples are kept, figures derived here alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from edgekit.bench.clock import Samples
from edgekit.bench.compare import compare_paired
from edgekit.bench.ledger import ledger
from edgekit.bench.replicas import turns
from edgekit.bench.statistics import latency_figures, missing_runs, noise, pooled
from edgekit.bench.variance import BUILT_IN
from edgekit.errors import EdgekitError, InputError
from edgekit.results.base import to_json
from edgekit.results.bench import ColdStart, Entry, LatencyFigures, Need, Noise, Replayed, Warmup
from edgekit.results.compare import Comparison
from edgekit.results.compressed import Device
from edgekit.results.loaded import Delegation
from edgekit.results.measures import Failure


@dataclass(frozen=True, slots=True)
class Setting:
    """What one cell is: a file, and how and where it ran. ``runtime`` is None for a cell that failed before loading."""

    model: str
    sha256: str
    format: str
    bytes: int
    runtime: str | None
    device: Device
    threads: int
    batch: int
    scenario: str


@dataclass(frozen=True)
class CellResult:
    """One cell: its setting, its samples, what it cost to start, and the error that ended it, if one did.

    Attributes:
        blocks: int64 nanoseconds, one array a round, in order.
        owners: for each block, the worker process that took it.
        disturbed: for each block, whether the machine was disturbed then and it could not be taken again.
        load_ns, first_ns: loading the file in its worker; the first inference after that.
        delegation: as the runtime tells it, None where it does not.
        peak_memory_bytes, load_memory_bytes: resident memory of the worker at its highest, over the whole run and until
            the file was loaded, interpreter and libraries included.
        arena_bytes: what the runtime set aside for activations, None where it does not tell.
        selftest: the replay of the card's vectors, None when the card has none.
        fields: what else is known of it, by field of :class:`~edgekit.results.bench.Entry`.
        extras: what was measured in passes of their own, by the name of the extra.
    """

    setting: Setting
    blocks: tuple[Samples, ...] = ()
    warmup_ns: Samples = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    load_ns: int | None = None
    first_ns: int | None = None
    peak_memory_bytes: int | None = None
    load_memory_bytes: int | None = None
    arena_bytes: int | None = None
    runtime_version: str | None = None
    delegation: Delegation | None = None
    selftest: Replayed | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    extras: Mapping[str, Any] = field(default_factory=dict)
    error: EdgekitError | None = None
    seed: int = 0
    owners: tuple[Hashable, ...] = ()
    disturbed: tuple[bool, ...] = ()

    @property
    def samples_ns(self) -> Samples:
        """All samples in the order they were taken."""
        return pooled(self.blocks)

    @property
    def timed(self) -> bool:
        """Whether there are times that may be shown and compared: a whole cell, of no emulated device."""
        return self.error is None and self.setting.device.evidence.has_time and self.samples_ns.size > 0

    @property
    def noise(self) -> Noise | None:
        return noise(self.blocks, self.disturbed) if self.timed else None

    def compared_with(self, first: CellResult, names: tuple[str, str]) -> Comparison:
        """This cell relative to ``first``, which was timed in the same rounds; ``names``: of the two."""
        return compare_paired(*names, self.blocks, first.blocks, (self.owners, first.owners))

    def entry(self) -> Entry:
        """The entry of ``results`` of ``bench``, with the sizes of the blocks so that it can be compared again."""
        samples = self.samples_ns
        setting = {one.name: getattr(self.setting, one.name) for one in dataclasses.fields(self.setting)}
        entry = Entry(
            **setting,
            runtime_version=self.runtime_version,
            samples=int(samples.size),
            latency_ms=self.latency() if self.timed else None,
            needs=self._needs(samples),
            cold_start_ms=ColdStart(_ms(self.load_ns), _ms(self.first_ns)),
            peak_memory_bytes=self.peak_memory_bytes,
            load_memory_bytes=self.load_memory_bytes,
            arena_bytes=self.arena_bytes,
            throughput_per_s=self.throughput() if self.timed else None,
            noise=self.noise,
            delegation=None if self.delegation is None else ledger(self.delegation),
            selftest=self.selftest,
            warmup=Warmup(int(self.warmup_ns.size), _total_ms(self.warmup_ns)),
            workers=len(set(self.owners)) or 1,
            blocks=tuple(int(block.size) for block in self.blocks),
            block_workers=tuple(str(owner) for owner in self.owners),
            disturbed_blocks=tuple(place for place, was in enumerate(self.disturbed) if was),
            samples_ns=tuple(samples.tolist()),
            error=None if self.error is None else Failure(type(self.error).__name__, str(self.error)),
        )
        return replace(entry, **self.fields, extras=self.extras)

    def document(self) -> dict[str, Any]:
        """:meth:`entry` as it stands in the document."""
        document: dict[str, Any] = to_json(self.entry())
        return document

    def throughput(self) -> float | None:
        """Samples a second; ValueError where nothing was timed."""
        return self.setting.batch / (float(self.samples_ns.mean()) / 1e9)

    def latency(self) -> LatencyFigures:
        """Milliseconds; ValueError where nothing was timed."""
        variance = BUILT_IN.when(noise(self.blocks, self.disturbed).verdict == "noisy")
        return latency_figures(self.blocks, seed=self.seed, owners=self.owners, variance=variance)

    def _needs(self, samples: Samples) -> dict[str, Need]:
        """For each percentile that is None: samples it needs in all, and about how many seconds a cell that takes."""
        if not self.timed:
            return {}
        each = float(samples.mean()) / 1e9
        lacking = missing_runs(samples.size)
        return {key: Need(n, round(1.1 * n * each, 1)) for key, n in lacking.items()}


def blocks_of(entry: Entry, where: str) -> Sequence[Samples]:
    """The blocks of a saved entry of ``results``.

    Raises:
        InputError: the samples are missing or do not fit the sizes of the blocks.
    """
    samples, sizes = entry.samples_ns, entry.blocks
    if not samples or min(samples) <= 0:
        raise InputError(
            f"{where}: the result of {entry.model} holds no samples (samples_ns: whole numbers above 0); save it again "
            "with 'edgekit bench … --json FILE'"
        )
    values = np.array(samples, dtype=np.int64)
    if sizes is None:
        return np.array_split(values, max(min(20, values.size // 4), 1))
    if not sizes or min(sizes) <= 0 or sum(sizes) != values.size:
        raise InputError(f"{where}: its blocks do not hold the {values.size} samples of {entry.model}; it was edited")
    return np.split(values, np.cumsum(sizes)[:-1])


def owners_of(entry: Entry, blocks: int) -> Sequence[Hashable]:
    """The worker process of each block of a saved entry; where it does not say, they took turns, pair by pair."""
    labels, workers = entry.block_workers, entry.workers
    if labels is not None and len(labels) == blocks:
        return labels
    return turns(blocks, workers if 0 < workers <= blocks // 2 else 1)


def _ms(value_ns: int | None) -> float | None:
    return None if value_ns is None else value_ns / 1e6


def _total_ms(samples: Samples) -> float | None:
    return float(samples.sum()) / 1e6 if samples.size else None
