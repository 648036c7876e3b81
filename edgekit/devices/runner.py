"""A Runner whose model lives in a worker: a crash, a hang or a lack of memory there is an exception here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path

from edgekit.artifact import open_artifact
from edgekit.devices.client import WorkerClient
from edgekit.devices.device import parse_device, transport_for, with_runtime
from edgekit.errors import EdgekitError
from edgekit.results.loaded import Delegation
from edgekit.runtime.base import Runner
from edgekit.runtime.ports import Port
from edgekit.types import Array, Artifact, DeviceSpec


class WorkerPool:
    """Idle workers on the default device. A worker that died or was killed is never handed out again."""

    def __init__(self) -> None:
        self._idle: list[WorkerClient] = []

    def take(self) -> WorkerClient | None:
        """An idle worker, None if there is no idle worker."""
        return self._idle.pop() if self._idle else None

    def give(self, client: WorkerClient) -> None:
        """Takes a worker back that is not needed for now."""
        if client.alive:
            self._idle.append(client)

    def close(self) -> None:
        """Ends all idle workers."""
        while self._idle:
            self._idle.pop().close()


_POOL: ContextVar[WorkerPool | None] = ContextVar("edgekit_worker_pool", default=None)


@contextmanager
def kept_workers() -> Iterator[WorkerPool]:
    """Within it :func:`edgekit.devices.open_runner` reuses workers of the default device, one for each open file.

    All of them end with it. Nested uses share the outer pool.
    """
    outer = _POOL.get()
    if outer is not None:
        yield outer
        return
    pool = WorkerPool()
    token = _POOL.set(pool)
    try:
        yield pool
    finally:
        _POOL.reset(token)
        pool.close()


def open_worker(
    device: DeviceSpec | str = "cpu",
    *,
    timeout_s: float | None = None,
    memory_limit_bytes: int | None = None,
    padding: int = 0,
) -> WorkerClient:
    """A worker process on ``device``, ready to load a model.

    Args:
        device: a device, or its spelling.
        timeout_s: longest wait for an answer, in seconds; None: the limit ``ANSWER_SECONDS``.
        memory_limit_bytes: limit on the worker's data; None sets none.
        padding: moves the worker's memory layout, see :class:`WorkerClient`; the bench draws one for each worker.

    Raises:
        UsageError: no such device.
        DeviceError: the worker cannot be started there.
    """
    spec = parse_device(device) if isinstance(device, str) else device
    transport = transport_for(spec)
    return WorkerClient(transport, timeout_s=timeout_s, memory_limit_bytes=memory_limit_bytes, padding=padding)


def open_runner(
    path: str | Path,
    *,
    device: DeviceSpec | str = "cpu",
    runtime: str | None = None,
    threads: int = 1,
    raw: bool = False,
    stateful: bool = False,
    carded: bool = True,
    timeout_s: float | None = None,
    memory_limit_bytes: int | None = None,
) -> Runner:
    """Opens a model file in a worker; otherwise like :func:`edgekit.runtime.load`.

    The worker is the file's own, and ends with the runner; within :func:`edgekit.devices.kept_workers` one of the
    default device goes back to the pool.

    Raises:
        ModelError: the file is missing, not valid, or not accepted by the runtime.
        RuntimeMissingError: the runtime's package is not installed on the device.
        UsageError: no such device or runtime.
        DeviceError: what became of the worker.
    """
    artifact = open_artifact(path)  # a bad file needs no worker to be refused
    artifact = artifact if carded else replace(artifact, card=None)
    spec = parse_device(device) if isinstance(device, str) else device
    place = with_runtime(spec, runtime, artifact.path)
    default = device == "cpu" and place == spec
    pool = _POOL.get() if default and timeout_s is None and memory_limit_bytes is None else None
    client = pool.take() if pool is not None else None
    if client is None:
        client = open_worker(place, timeout_s=timeout_s, memory_limit_bytes=memory_limit_bytes)
    try:
        return WorkerRunner(
            artifact, client, runtime, threads=threads, raw=raw, stateful=stateful, carded=carded, pool=pool
        )
    except EdgekitError:
        leave(client, pool)
        raise
    except BaseException:
        client.close()
        raise


def leave(client: WorkerClient, pool: WorkerPool | None) -> None:
    """Gives a worker back to its pool; one without a pool ends."""
    if pool is None:
        client.close()
    else:
        pool.give(client)


class WorkerRunner(Runner):
    """A model in a worker. ``client`` is its worker, which ends with the runner, or goes back to ``pool``."""

    def __init__(
        self,
        artifact: Artifact,
        client: WorkerClient,
        runtime: str | None,
        *,
        threads: int,
        raw: bool,
        stateful: bool,
        carded: bool = True,
        pool: WorkerPool | None = None,
    ) -> None:
        self.client = client
        self._pool = pool
        self._closed = False
        self._runtime = runtime
        self._carded = carded
        super().__init__(artifact, threads=threads, raw=raw, stateful=stateful)
        self.name = self._loaded.runtime
        self.load_ns = self._loaded.load_ns

    def _import(self) -> None:
        """The worker does."""

    def _open(self) -> tuple[Sequence[Port], Sequence[Port]]:
        self._loaded = self.client.load(
            self.artifact.path,
            runtime=self._runtime,
            threads=self.threads,
            raw=self.raw,
            stateful=self.stateful,
            card=self.artifact.card,
            carded=self._carded,
        )
        signature = self._loaded.signature
        return [Port(s, s.name) for s in signature.inputs], [Port(s, s.name) for s in signature.outputs]

    def _named(self, inputs: Sequence[Port], outputs: Sequence[Port]) -> tuple[list[Port], list[Port]]:
        return list(inputs), list(outputs)  # the worker met the card already

    def _call(self, arrays: list[Array]) -> list[Array]:
        feed = {spec.name: array for spec, array in zip(self.signature.inputs, arrays, strict=True)}
        results = self.client.run(feed)
        return [results[spec.name] for spec in self.signature.outputs]

    def reset(self) -> None:
        self.client.reset()

    def delegation(self) -> Delegation | None:
        return self._loaded.delegation

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            leave(self.client, self._pool)

    @property
    def version(self) -> str:
        return self._loaded.runtime_version
