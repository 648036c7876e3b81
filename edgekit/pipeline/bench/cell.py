"""One cell of the bench: a model file loaded in its own worker process, with its feed, ready to be timed."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.artifact import contract_of, sha256_model, size_bytes
from edgekit.bench.clock import TimedBlock, WarmupRule
from edgekit.bench.plan import CellPlan
from edgekit.bench.result import CellResult, Setting
from edgekit.bench.session import Taken
from edgekit.bench.shapes import batch_of, free_dims
from edgekit.data.preprocess import sample_feed
from edgekit.data.seeded import seeded_feed
from edgekit.devices import LoadedInfo, WorkerClient, measures, open_worker
from edgekit.devices.mcu import measured_arena
from edgekit.errors import EdgekitError, ParityError, UsageError
from edgekit.pipeline.bench.transfer import transfer
from edgekit.results.bench import Replayed
from edgekit.results.compressed import Device
from edgekit.runtime.precision import precision_of, selftest_tolerance
from edgekit.runtime.stream import from_zeros
from edgekit.types import Feed, InputSpec, SelfTest, Signature

log = logging.getLogger("edgekit")
FIRST_CALL = WarmupRule(0, 0, 0)
LAYOUTS = 8192
"""Memory layouts a worker is started with, drawn at random.

What a file is called moves the heap of a process and, with it, its time: 6% between two names of one file were seen for
weights as large as a cache (compare Mytkowicz et al. 2009, 10.1145/1508244.1508275, who also give this remedy). So
every worker gets a layout of its own, and what the layout does shows between the workers, not between the files.
"""


@dataclass(frozen=True, slots=True)
class Replica:
    """The model in one of the cell's workers. ``runs``: of the model for one sample."""

    client: WorkerClient
    feed: Feed
    runs: int = 1

    def time_block(self, *, warmup: WarmupRule, min_runs: int, min_ns: int, max_ns: int) -> TimedBlock:
        """Timed calls in the worker; see :func:`edgekit.bench.clock.time_calls`."""
        limits = {"min_runs": min_runs, "min_ns": min_ns, "max_ns": max_ns}
        return self.client.time_block(self.feed, warmup=warmup, repeat=self.runs, **limits)


class Cell:
    """One model in ``plan.workers`` worker processes, since the time of a file differs between processes, too.

    :meth:`open` and :meth:`add_worker` never raise an edgekit error: it stands in :attr:`error`, and so in the result;
    one that is given says why the cell cannot be opened at all. Load time, first inference and memory are those of the
    first worker.
    """

    def __init__(self, plan: CellPlan, error: EdgekitError | None = None) -> None:
        self.plan = plan
        self.error = error
        self._sha256 = sha256_model(plan.artifact.path)
        self._clients: list[WorkerClient] = []
        generator = random.Random(f"{plan.seed} {plan.number}")
        self._layouts = [generator.randrange(LAYOUTS) for _ in range(plan.workers)]
        self._loaded: LoadedInfo | None = None
        self.feed: Feed = {}
        self.runs = 1
        self.environment: Mapping[str, Any] = {}
        self._first_ns: int | None = None
        self._selftest: Replayed | None = None
        self._peak: int | None = None
        self._arena: int | None = None
        self._fields: dict[str, Any] = {}

    def open(self) -> None:
        """The first worker: starts it, loads the model, takes the first inference, replays the self-test."""
        self.add_worker()

    def add_worker(self) -> None:
        """One more worker with the model loaded, unless the cell has failed. Several threads may do this at once."""
        if self.error is not None or (self._clients and not self._has_time):
            return
        try:
            self._open_worker()
        except EdgekitError as error:
            self.error = error

    @property
    def replicas(self) -> list[Replica]:
        """The workers that can be timed; none once the cell has failed or is closed, or on a device without time."""
        return (
            []
            if self.error is not None or not self._has_time
            else [Replica(client, self.feed, self.runs) for client in self._clients]
        )

    @property
    def _has_time(self) -> bool:
        """False for an emulated device: the file is loaded, run and checked there, and no clock is read."""
        return self.plan.device.evidence.has_time

    @contextmanager
    def worker(self, **options: Any) -> Iterator[WorkerClient]:
        """A worker of its own with the model loaded, for what is measured apart from the timed blocks.

        ``options``: of :func:`edgekit.devices.open_worker`.
        """
        plan = self.plan
        with open_worker(plan.device, **options) as client:
            client.load(plan.artifact.path, runtime=plan.runtime, threads=plan.threads)
            yield client

    def _open_worker(self) -> None:
        plan, card = self.plan, self.plan.artifact.card
        client = open_worker(plan.device, timeout_s=plan.timeout_s, padding=self._layouts.pop())
        self._clients.append(client)
        loaded = client.load(plan.artifact.path, runtime=plan.runtime, threads=plan.threads, card=card)
        if self._loaded is None:
            self._loaded = loaded
            self.environment = client.environment()
            self.feed = self._make_feed(loaded)
        first = Replica(client, self.feed).time_block(warmup=FIRST_CALL, min_runs=1, min_ns=0, max_ns=1)
        if self._first_ns is None:
            self._first_ns = int(first.samples_ns[0])
        if card is not None and card.selftest is not None:
            self._selftest = self._replay(client, loaded.signature, contract_of(plan.artifact), card.selftest)

    def finish(self, taken: Taken) -> CellResult:
        """The result of this cell, from what the session took of it; asks the worker once more, then ends it."""
        error = self.error or taken.error
        try:
            self._measure_arena()
        except EdgekitError as failed:
            error = error or failed
        if error is None and self._clients and self._has_time:
            with suppress(EdgekitError):  # the times are there; a worker that dies now costs only these figures
                self._peak = self._clients[0].peak_memory_bytes()
                told = self._clients[0].measure(measures.footprint, self.feed, timeout_s=self.plan.timeout_s)
                self._arena = told.header.get("arena_bytes")
                if self._loaded is not None and self._loaded.resident:
                    self._fields["transfer"] = transfer(self._clients[0], self.feed)
        self.close()
        loaded, timed = self._loaded, self._has_time  # an emulator's memory is not the device's either
        return CellResult(
            setting=self.setting(),
            blocks=tuple(taken.blocks),
            owners=tuple(taken.owners),
            disturbed=tuple(block.disturbed for block in taken.finished),
            warmup_ns=taken.warmup_ns,
            load_ns=loaded.load_ns if loaded is not None and timed else None,
            first_ns=self._first_ns if timed else None,
            peak_memory_bytes=self._peak,
            load_memory_bytes=loaded.peak_memory_bytes if loaded is not None and timed else None,
            arena_bytes=self._arena,
            runtime_version=None if loaded is None else loaded.runtime_version,
            delegation=None if loaded is None else loaded.delegation,
            selftest=self._selftest,
            fields=self._fields,
            error=error,
            seed=self.plan.seed,
        )

    def _measure_arena(self) -> None:
        """On a microcontroller the arena is the memory that counts."""
        if self.plan.device.kind != "mcu" or self.error is not None or not self._clients:
            return
        arena = measured_arena(self._clients[0])
        self._peak = self._arena = arena.bytes
        self._fields["arena"] = arena
        if self.plan.budget is not None:
            self._fields["budget"] = self.plan.budget.spent(arena, size_bytes(self.plan.artifact.path))

    @property
    def client(self) -> WorkerClient:
        """The first worker."""
        return self._clients[0]

    @property
    def pids(self) -> list[int]:
        """The processes of its workers."""
        return [int(client.hello["pid"]) for client in self._clients]

    def setting(self) -> Setting:
        """What this cell is, as far as it is known now: runtime and CPU after :meth:`open`."""
        plan, device = self.plan, self.plan.device
        path = plan.artifact.path
        where = Device(
            name=device.name,
            kind=device.kind,
            evidence=device.evidence,
            cpu=self.environment.get("cpu", "unknown"),
            cpu_id=self.environment.get("cpu_id", "unknown"),
            chip=None if self._loaded is None else self._loaded.chip,
        )
        return Setting(
            model=plan.model,
            sha256=self._sha256,
            format=plan.artifact.format.value,
            bytes=size_bytes(path),
            runtime=plan.runtime if self._loaded is None else self._loaded.runtime,
            device=where,
            threads=plan.threads,
            batch=batch_of(self.feed) * self.runs,
            scenario=plan.scenario,
        )

    def close(self) -> None:
        """Ends the workers; twice does no harm."""
        clients, self._clients = self._clients, []
        for client in clients:
            client.close()

    def _make_feed(self, loaded: LoadedInfo) -> Feed:
        plan, signature = self.plan, loaded.signature
        contract = contract_of(plan.artifact)
        batch = plan.batch
        if plan.streams > 1:
            free = all(spec.shape and isinstance(spec.shape[0], str) for spec in signature.inputs)
            batch, self.runs = (plan.streams, 1) if free else (None, plan.streams)
        dims = free_dims(signature, plan.shapes, batch)
        if plan.input is None:
            first_axes = {spec.shape[0] for spec in signature.inputs if spec.shape}  # batch 1 is what the scenario says
            left = [name for name in signature.dynamic_dims if name not in dims and name not in first_axes]
            if left:
                log.info("%s: %s: 1 (set with --shape %s=N)", plan.model, ", ".join(left), left[0])
            return from_zeros(seeded_feed(signature, contract, plan.seed, dims=dims), plan.artifact.card)
        feed = dict(sample_feed(plan.input, signature, contract))
        for spec in signature.inputs:
            array = feed[spec.name]
            if batch is not None and array.shape[:1] == (1,):
                feed[spec.name] = np.repeat(array, batch, axis=0)
            elif batch is not None and array.shape[:1] != (batch,):
                held = array.shape[0]
                raise UsageError(
                    f"a batch of {batch} is asked for, but --input {plan.input} holds {held} samples; drop one"
                )
        return feed

    def _replay(
        self, client: WorkerClient, signature: Signature, contract: Mapping[str, InputSpec], selftest: SelfTest
    ) -> Replayed:
        """Runs the card's vectors and checks the outputs against what the file must give.

        Raises:
            ParityError: an output is further off than the card allows; times of wrong answers are worth nothing.
        """
        client.reset()
        outputs = client.run(seeded_feed(signature, contract, selftest.seed))
        client.reset()
        worst = 0.0
        for name, expected in selftest.outputs.items():
            found = np.asarray(outputs[name], np.float64).reshape(-1)[: len(expected)]
            wanted = np.asarray(expected, np.float64)
            gap = float(np.max(np.abs(found - wanted), initial=0.0)) if found.size == wanted.size else float("inf")
            worst = max(worst, gap) if gap == gap else float("inf")
        runtime = None if self._loaded is None else self._loaded.runtime
        precision, tolerance = precision_of(runtime), selftest_tolerance(selftest, runtime)
        if not worst <= tolerance:
            allowed = f"{precision} allows" if tolerance > selftest.tolerance else "the card allows"
            raise ParityError(
                f"{self.plan.model} fails its own self-test on {self.plan.device.name}: "
                f"largest difference {worst:.3g}, {allowed} {tolerance:.3g}; it was not timed. "
                "Export it again, or check the runtime's version"
            )
        told = None if precision == "float32" else precision
        return Replayed(passed=True, max_abs=worst, tolerance=tolerance, precision=told)
