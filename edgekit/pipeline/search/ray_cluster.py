"""Candidates made by Ray: on the cores of this machine, or on those of a cluster.

An order is a task. It reserves as many CPUs as torch has threads here, and computes with so many there: sums in another
number of threads end in another last bit, and the file would be another one. What it needs and what it gives travels
by its hash (:mod:`edgekit.pipeline.search.parcel`).
"""

from __future__ import annotations

import functools
import logging
import os
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edgekit.errors import DeviceError, EdgekitError, UsageError
from edgekit.leftovers import process_folder
from edgekit.options.optimize import OptimizeOptions
from edgekit.pipeline.search.cluster_address import LOCAL, unanswered
from edgekit.pipeline.search.evidence import Judge, Look, Reference, Typical, look
from edgekit.pipeline.search.parcel import Delivery, Parcel, deliver, pack, received
from edgekit.pipeline.search.ray_devices import DeviceActors
from edgekit.pipeline.search.steps import MadeFile, MakeOrder

if TYPE_CHECKING:
    from ray import ObjectRef

log = logging.getLogger("edgekit")
RETRIES: Final = 1
"""Times that an order is given to another node when its node is lost."""
_STORE_BYTES: Final = 512 << 20
"""Memory of a local cluster for files on their way; more of them go to disk."""


@dataclass(frozen=True, slots=True)
class Connection:
    """To a cluster. ``threads``: and so CPUs, of an order; ``session``: where a cluster of this command keeps files."""

    threads: int
    session: Path | None


@contextmanager
def connected(address: str) -> Iterator[Connection]:
    """A connection to the Ray cluster at ``address``, for the block; ``ray``: one on this machine, which ends with it.

    Raises:
        UsageError: no node has CPUs enough.
        DeviceError: nothing answers there.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 would slow what an actor times
    import ray
    import torch

    threads = torch.get_num_threads()
    session: Path | None = None
    try:
        _connect(address, threads)
        if address == LOCAL:
            session = _session_folder()
        nodes = ray.nodes()  # type: ignore[no-untyped-call]
        most = max((node["Resources"].get("CPU", 0) for node in nodes if node["Alive"]), default=0)
        if most < threads:
            raise UsageError(
                f"a candidate is made with {threads} threads, as it would be here, and no node of {address} has so "
                f"many CPUs (the largest has {most:g}): set OMP_NUM_THREADS={max(int(most), 1)} for this command"
            )
        yield Connection(threads, session)
    finally:
        ray.shutdown()
        if session is not None:
            shutil.rmtree(session, ignore_errors=True)


def _connect(address: str, threads: int) -> None:
    import ray

    if ray.is_initialized():
        raise UsageError("this process is connected to Ray already: call ray.shutdown() before optimize")
    environment = {"env_vars": {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}}
    options: dict[str, Any] = {"runtime_env": environment, "logging_level": logging.ERROR, "log_to_driver": False}
    options |= {"namespace": "edgekit"}
    if address == LOCAL:
        # one core is left to the clock: candidates are timed while others are made
        cpus = max(len(os.sched_getaffinity(0)) - 1, threads)
        options |= {"num_cpus": cpus, "num_gpus": 0, "object_store_memory": _STORE_BYTES, "include_dashboard": False}
        with _own_signals():
            ray.init(address="local", **options)  # not a cluster that runs here already
        return
    try:
        with _own_signals():
            ray.init(address=address, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise unanswered(address, str(error).splitlines()[0]) from error


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray takes SIGTERM for itself as it starts; this program has an answer of its own (exit 143)."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _session_folder() -> Path:
    """Where the local cluster keeps its sockets and logs."""
    from ray._private.worker import global_worker

    assert global_worker.node is not None
    return Path(global_worker.node.get_session_dir_path())


def make_on_node(parcel: Parcel, refs: Mapping[str, ObjectRef[bytes]], home: Path | None) -> Delivery | str:
    """The task: makes what ``parcel`` orders; the error, where the machine cannot. ``refs``: the contents by hash;
    ``home``: where they are kept, None for a folder of this process."""
    import ray

    def fetch(digest: str) -> bytes:
        data: bytes = ray.get(refs[digest])
        return data

    try:
        return deliver(parcel, fetch, home or process_folder())
    except EdgekitError as error:
        return f"{type(error).__name__}: {error}"


@dataclass(frozen=True, slots=True)
class _Sent:
    """An order that is being made."""

    order: MakeOrder
    parcel: Parcel
    refs: Mapping[str, ObjectRef[bytes]]
    future: Future[MadeFile]


def _lost() -> tuple[type[Exception], ...]:
    """What Ray raises for a task whose node or process has ended."""
    from ray import exceptions

    return exceptions.WorkerCrashedError, exceptions.NodeDiedError, exceptions.ObjectLostError


class RayMakers:
    """The nodes of the cluster that this process is connected to. ``folder``: of the study."""

    def __init__(self, connection: Connection, options: OptimizeOptions, folder: Path) -> None:
        import ray

        self._cpus = cpus = connection.threads
        self._home = None if connection.session is None else connection.session / "edgekit"
        # A client of Ray is not on one of its nodes, and devices are those of this machine.
        self._devices = None if str(options.workers).startswith("ray://") else DeviceActors(options, folder)
        self._task = ray.remote(make_on_node).options(num_cpus=cpus, max_retries=RETRIES)
        self._contents: dict[str, ObjectRef[bytes]] = {}
        self._sent: dict[ObjectRef[Any], _Sent] = {}

    @property
    def count(self) -> int:
        """Orders that the nodes which are there now can be at."""
        import ray

        cpus = ray.cluster_resources().get("CPU", 0)  # type: ignore[no-untyped-call]
        return max(int(cpus) // self._cpus, 1)

    def submit(self, order: MakeOrder) -> Future[MadeFile]:
        import ray

        parcel, contents = pack(order)
        for digest, data in contents.items():
            if digest not in self._contents:
                self._contents[digest] = ray.put(data)
        refs = {digest: self._contents[digest] for digest in contents}
        future: Future[MadeFile] = Future()
        try:
            ref = self._task.remote(parcel, refs, self._home)
        except ImportError as error:  # a client's cluster reads the task at once
            raise DeviceError(f"the nodes of --workers have another edgekit than this one: {error}") from error
        self._sent[ref] = _Sent(order, parcel, refs, future)
        return future

    def first(self, futures: Sequence[Future[MadeFile]]) -> Future[MadeFile]:
        """One that is ready; waits for it.

        Raises:
            DeviceError: the nodes cannot make what is made here, or the cluster is gone.
        """
        import ray

        ready, _ = ray.wait(list(self._sent), num_returns=1)
        sent = self._sent.pop(ready[0])
        sent.future.set_result(self._received(ready[0], sent))
        return sent.future

    def _received(self, ref: ObjectRef[Any], sent: _Sent) -> MadeFile:
        import ray

        try:
            delivery = ray.get(ref)
        except _lost() as error:
            why = f"it was lost with its node {RETRIES + 1} times: {type(error).__name__}"
            return MadeFile(None, why=why, exit_code=DeviceError.exit_code)
        except ray.exceptions.OutOfMemoryError as error:
            return MadeFile(None, why=f"its node ran out of memory: {error}", exit_code=DeviceError.exit_code)
        except ray.exceptions.RayError as error:
            raise DeviceError(f"Ray cannot run edgekit on its nodes: {error}") from error
        if isinstance(delivery, str):
            raise DeviceError(delivery)
        fetch = functools.partial(self._content, sent.refs)
        return received(sent.order, sent.parcel, delivery, fetch)

    def look(
        self, judge: Judge, file: MadeFile, label: str, references: Mapping[str, Reference], typical: Typical
    ) -> Look:
        """A short look at a file on every device, on all of them at the same time."""
        if self._devices is None:
            return look(judge, file, label, references, typical)
        return self._devices.look(file, label, references, typical)

    @staticmethod
    def _content(refs: Mapping[str, ObjectRef[bytes]], digest: str) -> bytes:
        import ray

        data: bytes = ray.get(refs[digest])
        return data
