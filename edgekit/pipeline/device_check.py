"""What a device is asked before it is trusted: the part of the conformance suite that needs no broken worker."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np

from edgekit.artifact import open_artifact
from edgekit.devices import WorkerClient, open_runner, open_worker, parse_device
from edgekit.errors import DeviceError, EdgekitError, ModelError, TransferError, WorkerTimeoutError
from edgekit.leftovers import scratch_folder
from edgekit.options.base import with_options
from edgekit.options.manage import DeviceCheckOptions
from edgekit.pipeline.doctor import Backend, try_backends
from edgekit.pipeline.verify import replay
from edgekit.types import Artifact

HOSTILE_NAME = "größe; $(rm -rf nothing) \n`x`.bin"
FILE_BYTES = 1_500_000
HANG_S = 1.0
PACKAGES = "numpy ai-edge-litert onnxruntime"
LOW_DISK_BYTES = 1 << 30


@dataclass(frozen=True)
class Trial:
    """One thing that was tried: what it was, whether it held, and what was seen."""

    name: str
    passed: bool
    detail: str = ""


@dataclass(frozen=True)
class CheckResult:
    """A device as it was found. ``facts``: Python, CPU, memory, disk; ``advice``: what to do there, in order."""

    device: str
    address: str
    evidence: str
    facts: Mapping[str, Any]
    backends: tuple[Backend, ...]
    trials: tuple[Trial, ...]
    advice: tuple[str, ...] = field(default=())

    @property
    def usable(self) -> bool:
        """Whether at least one runtime works there."""
        return any(backend.state == "works" for backend in self.backends)

    @property
    def passed(self) -> bool:
        return self.usable and all(trial.passed for trial in self.trials)

    def failure(self) -> DeviceError | None:
        """What the command ends with unless all of it held."""
        if not self.usable:
            return DeviceError("; ".join(self.advice))
        failed = [f"{trial.name}: {trial.detail}" for trial in self.trials if not trial.passed]
        what = f"{self.device} failed {len(failed)} of {len(self.trials)} trials: {'; '.join(failed)}"
        return DeviceError(what) if failed else None

    def document(self) -> dict[str, Any]:
        return {
            "device": self.device,
            "address": self.address,
            "evidence": self.evidence,
            "usable": self.usable,
            "passed": self.passed,
            "facts": dict(self.facts),
            "backends": [asdict(backend) for backend in self.backends],
            "trials": [asdict(trial) for trial in self.trials],
            "advice": list(self.advice),
        }


@with_options(DeviceCheckOptions)
def check(options: DeviceCheckOptions) -> CheckResult:
    """Starts workers on ``device``, looks at what is there, and tries what can go wrong.

    Raises:
        UsageError: no such device.
        DeviceError: it cannot be reached, or its Python has no numpy: nothing could be tried then.
    """
    spec = parse_device(options.device)
    artifacts = [open_artifact(model) for model in options.models]
    with open_worker(spec) as client:
        facts, installed = _facts(client), client.hello["runtimes"]
        trials = [
            Trial("a worker starts", True, f"edgekit {client.hello['edgekit']}, protocol {client.hello['protocol']}")
        ]
        trials += [_tried("a file arrives whole, and once", lambda: _sends(client))]
        trials += [_tried("a damaged file is refused", lambda: _refuses_damage(client))]
        trials += [_tried("an error comes back as what it is", lambda: _tells_errors(client))]
    trials += [_tried("two workers at once", lambda: _two(options.device))]
    backends = try_backends(options.device, installed)
    working = [backend for backend in backends if backend.state == "works"]
    trials += [_tried("a hang is ended", lambda: _ends_a_hang(options.device))]
    for artifact in artifacts:
        trials += [_tried(f"self-test of {artifact.path.name}", partial(_selftest, options.device, artifact))]
    name = f"{spec.kind}:{spec.address}" if spec.address else spec.kind
    advice = _advice(options.device, facts, bool(working))
    return CheckResult(options.device, name, spec.evidence.value, facts, backends, tuple(trials), advice)


def _facts(client: WorkerClient) -> dict[str, Any]:
    there, storage = client.environment(), client.storage()
    return {
        "python": client.hello["python"],
        "executable": client.hello["executable"],
        "machine": there.get("machine"),
        "cpu": there.get("cpu"),
        "isa": there.get("isa"),
        "cores": there.get("cores"),
        "memory_bytes": there.get("memory_bytes"),
        "os": there.get("os"),
        "load": there.get("load"),
        "numpy": there.get("versions", {}).get("numpy"),
        "runtimes": {name: found for name, found in client.hello["runtimes"].items() if found},
        "cache": storage["folder"],
        "free_bytes": storage["free_bytes"],
        "cached_bytes": storage["kept_bytes"],
    }


def _tried(name: str, trial: Callable[[], str]) -> Trial:
    try:
        return Trial(name, True, trial())
    except EdgekitError as error:
        return Trial(name, False, str(error))


def _sends(client: WorkerClient) -> str:
    with scratch_folder() as folder:
        file = folder / HOSTILE_NAME
        file.write_bytes(os.urandom(FILE_BYTES))
        place = client.send(file)
        again = client.send(file)
        client.forget(file)
    if place != again:
        raise DeviceError(f"it was sent twice, to {place} and {again}")
    return f"{FILE_BYTES:,} bytes"


def _refuses_damage(client: WorkerClient) -> str:
    try:
        client.put_piece(np.ones(8, np.uint8), sha256="0" * 64, suffix="", size=8)
    except TransferError:
        return "its content is checked"
    raise DeviceError("8 bytes were taken whose SHA-256 is another")


def _tells_errors(client: WorkerClient) -> str:
    try:
        client.run({})
    except DeviceError as error:
        client.storage()  # it lives on: the error was its answer, and not its end
        return str(error)
    raise DeviceError("a worker without a model gave an answer")


def _two(device: str) -> str:
    def pid(_: int) -> int:
        with open_worker(device) as client:
            client.environment()
            return int(client.hello["pid"])

    with ThreadPoolExecutor(2) as pool:
        return "processes " + " and ".join(map(str, pool.map(pid, range(2))))


def _ends_a_hang(device: str) -> str:
    with open_worker(device) as client:
        try:
            client.wait(600, timeout_s=HANG_S)
        except WorkerTimeoutError:
            pass
        else:
            raise DeviceError("a wait of ten minutes ended at once")
    with open_worker(device) as client:
        return f"killed after {HANG_S:g} s, and a new worker {client.hello['pid']} answers"


def _selftest(device: str, artifact: Artifact) -> str:
    with open_runner(artifact.path, device=device) as runner:
        found = replay(runner, artifact)
        used = f"{runner.name} {runner.version}"
    if found is None:
        raise ModelError(f"{artifact.path} has no card with a self-test; export it with edgekit")
    if not found.passed:
        raise DeviceError(f"largest difference {found.max_abs:.3g} on {used}")
    return f"largest difference {found.max_abs:.3g} on {used}"


def _advice(device: str, facts: Mapping[str, Any], usable: bool) -> tuple[str, ...]:
    advice = []
    if not usable:
        python = facts["executable"]
        advice.append(
            f"no runtime works on {device}; run there: {python} -m pip install {PACKAGES} "
            f"(where pip refuses: python3 -m venv ~/.edgekit && ~/.edgekit/bin/pip install {PACKAGES})"
        )
    if isinstance(facts["free_bytes"], int) and facts["free_bytes"] < LOW_DISK_BYTES:
        advice.append(f"{facts['free_bytes']:,} bytes are free in {facts['cache']}: models may not fit")
    return tuple(advice)
