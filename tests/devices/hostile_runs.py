"""Brings edgekit and the devices of :mod:`hostile` together, in this process or through the command line.

For a fuzzer: ``for name, behaviour in catalogue(): outcome = run(behaviour, folder)``; ``outcome.faults`` is empty
where edgekit did what it has to do: an exit code of the contract, one message, no traceback, in time.
"""

from __future__ import annotations

import base64
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from hostile import Behaviour, catalogue

sys.path.pop(0)

__all__ = ["Behaviour", "Outcome", "catalogue", "meet", "run"]

PROGRAM = Path(__file__).with_name("hostile.py")
MODEL = base64.b64decode(
    "CAgSADo+CgwKAXgSAXkiBFJlbHUSBHRpbnlaEwoBeBIOCgwIARIICgIIAQoCCARiEwoBeRIOCgwIARIICgIIAQoCCARCBAoAEA0="
)
"""y = Relu(x), both float32 (1, 4), as an ONNX file."""
LIMIT_S = 30.0
"""What a command line may take where something comes that ends the wait."""
SILENT_S = 60.0
"""Where nothing comes: a bench is told to wait two seconds; for the first word of ssh it waits half a minute longer."""
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
MEMORY_BYTES = 1 << 30
FEED = {"x": np.ones((1, 4), np.float32)}
BENCH = ("bench", "{model}", "--on", "{device}", "--seconds", "0.1", "--workers", "1", "--timeout", "2")
VERBS: dict[str, tuple[str, ...]] = {
    "": ("doctor", "--quick", "--on", "{device}"),
    "hello": ("doctor", "--quick", "--on", "{device}"),
    "door": ("doctor", "--quick", "--on", "{device}"),
    "environment": ("device", "check", "{device}"),
    "storage": ("device", "check", "{device}"),
    "find": ("device", "check", "{device}"),
    "put": ("device", "check", "{device}"),
    "holder": ("device", "list"),
    "load": ("run", "{model}", "{input}", "--on", "{device}"),
    "run": ("run", "{model}", "{input}", "--on", "{device}"),
    "shutdown": ("run", "{model}", "{input}", "--on", "{device}"),
    "profile": (*BENCH, "--profile"),
    "work": (*BENCH, "--roofline"),
    "peaks": (*BENCH, "--roofline"),
    "weights": (*BENCH, "--probe"),
    "reset_cost": (*BENCH, "--probe"),
    "drop_cache": (*BENCH, "--cold"),
    "serve": (*BENCH, "--scenario", "server", "--rate", "200"),
    "energy": (*BENCH, "--energy"),
    "stages": (*BENCH, "--end-to-end", "--input", "{input}"),
}
"""Command of the protocol -> a command line that comes to ask it; the others, and the silent, are asked by a bench."""
SPARED = ("profile", "work", "peaks", "weights", "reset_cost", "drop_cache", "energy", "stages", "memory", "footprint",
          "reference", "holder", "lease_is_mine")  # fmt: skip
"""Commands whose failure costs only a figure, which is said: the command line is done."""
OVER_SSH = ("holder", "lease", "lease_is_mine")
"""Commands that only a device asks for that others may use, too."""


@dataclass
class Outcome:
    """What became of one command line. ``faults``: what edgekit did wrong; none is how it has to be."""

    name: str
    command: tuple[str, ...]
    code: int
    out: bytes
    err: bytes
    seconds: float
    faults: list[str] = field(default_factory=list)


def program(behaviour: Behaviour, folder: Path) -> Path:
    """A script that is the device: it can stand for a Python or for ssh."""
    script = folder / "device"
    words = [sys.executable, "-S", "-E", str(PROGRAM), behaviour.name]
    script.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    script.chmod(0o755)
    return script


def run(behaviour: Behaviour, folder: Path, *, edgekit: str | None = None) -> Outcome:
    """One command line with this device, in a process group of its own; ``folder``: an empty one.

    ``edgekit``: the program; without one it is this interpreter's.
    """
    script = program(behaviour, folder)
    ssh = behaviour.way == "ssh" or behaviour.command in OVER_SSH
    device = "ssh://board" if ssh else f"python:{script}"
    given = {"model": str(folder / "m.onnx"), "input": str(folder / "x.npz"), "device": device}
    Path(given["model"]).write_bytes(MODEL)
    np.savez(given["input"], **FEED)
    verb = BENCH if behaviour.silent else VERBS.get(behaviour.command, BENCH)
    words = [word.format(**given) for word in verb]
    environment = {**os.environ, "EDGEKIT_SSH": str(script), "XDG_CONFIG_HOME": str(folder / "config")}
    environment |= {"XDG_STATE_HOME": str(folder / "state"), "EDGEKIT_LEASE": str(folder / "lease")}
    if behaviour.command == "holder":
        (folder / "config" / "edgekit").mkdir(parents=True)
        (folder / "config" / "edgekit" / "devices.toml").write_text(f'[board]\naddress = "{device}"\n')
    start = [edgekit] if edgekit else [sys.executable, "-P", "-c", "from edgekit.cli import main; main()"]
    began = time.monotonic()
    with subprocess.Popen(
        [*start, *words], cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, start_new_session=True, preexec_fn=_limited,
    ) as running:  # fmt: skip
        try:
            out, err = running.communicate(timeout=SILENT_S if behaviour.silent else LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            out, err = running.communicate()
    outcome = Outcome(behaviour.name, tuple(words), running.returncode, out, err, time.monotonic() - began)
    outcome.faults += _faults(behaviour, outcome)
    return outcome


def _limited() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (4 * MEMORY_BYTES, 4 * MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _faults(behaviour: Behaviour, outcome: Outcome) -> Iterator[str]:
    said = outcome.out + outcome.err
    codes = (*behaviour.codes, 0) if behaviour.command in SPARED else behaviour.codes
    if outcome.code == -signal.SIGKILL:
        yield f"it hangs: killed after {outcome.seconds:.0f} s"
    elif outcome.code not in codes:
        yield f"exit code {outcome.code}, wanted one of {codes}"
    for text in (b"Traceback", b"internal error"):
        if text in said:
            yield f"{text.decode()} is printed"
    found = set(CONTROLS.findall(said.decode("utf-8", "replace")))
    if found:
        yield f"control characters reach the terminal: {sorted(found)}"


def meet(behaviour: Behaviour, folder: Path, timeout_s: float = 5.0) -> BaseException | None:
    """A client in this process asks everything there is to ask, until something is wrong; the error."""
    from edgekit.devices.client import WorkerClient
    from edgekit.devices.local import PythonTransport
    from edgekit.devices.ssh import SshTransport
    from edgekit.types import DeviceSpec

    script = program(behaviour, folder)
    (folder / "m.onnx").write_bytes(MODEL)
    with _environment("EDGEKIT_SSH", str(script)):
        if behaviour.way == "ssh":
            transport: Any = SshTransport(DeviceSpec("ssh://board", "ssh", "//board"))
        else:
            transport = PythonTransport(DeviceSpec("python:device", "python", str(script)))
        transport.start_s = 0.0
        try:
            with WorkerClient(transport, timeout_s=timeout_s) as client:
                _tour(client, folder / "m.onnx", timeout_s)
        except Exception as error:
            return error
    return None


def _tour(client: Any, model: Path, timeout_s: float) -> None:
    from edgekit.bench.clock import WarmupRule
    from edgekit.devices import measures
    from edgekit.extras import probe, roofline
    from edgekit.extras.cold import drop_cache
    from edgekit.extras.end_to_end import stages
    from edgekit.extras.energy import energy_here
    from edgekit.extras.load import serve_here
    from edgekit.extras.profile import profile_here

    client.environment()
    client.peak_memory_bytes()
    client.storage()
    client.holder()
    client.lease("ann", 5.0)
    client.lease_is_mine()
    client.send(model)
    client.forget(model)
    client.load(model)
    client.run(FEED)
    client.reset()
    rule = WarmupRule(1, 0, 10**6)
    client.time_block(FEED, warmup=rule, min_runs=5, min_ns=10**6, max_ns=10**8)
    client.reference_ns()
    for function in (
        measures.footprint, profile_here, roofline.work_here, probe.weights, energy_here, measures.transfer,
        probe.reset_cost,
    ):  # fmt: skip
        client.measure(function, FEED, timeout_s=timeout_s, seconds=1.0)
    client.measure(stages, timeout_s=timeout_s, input="x", seconds=1.0)
    client.measure(serve_here, FEED, timeout_s=timeout_s, rate=1.0)
    client.measure(roofline.peaks_here, timeout_s=timeout_s, threads=1, working_set_bytes=1)
    client.measure(drop_cache, timeout_s=timeout_s, path=str(model))


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before
