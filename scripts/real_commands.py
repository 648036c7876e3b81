"""Commands in processes of their own, with what they took."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).resolve().parent
TIMEOUT_S = 900
MOST_BYTES = 8 << 30
"""Of data a process may have, so that a command that takes too much ends alone."""


@dataclass(frozen=True)
class Done:
    """A command that ended; ``peak_bytes`` is of the largest of its processes."""

    code: int
    seconds: float
    peak_bytes: int
    reason: str

    def document(self) -> dict[str, Any]:
        taken = {"exit": self.code, "seconds": round(self.seconds, 2), "peak_bytes": self.peak_bytes}
        return {**taken, "reason": self.reason} if self.code else taken


def edgekit(*arguments: Any, package: Path | None = None) -> Done:
    """A command of edgekit, as a user types it; ``package`` is where real_torch.py finds weights."""
    environment = {**os.environ, "REAL_PACKAGE": str(package)} if package is not None else None
    return run([str(Path(sys.executable).with_name("edgekit")), *map(str, arguments)], environment)


def python(script: str, *arguments: str) -> Done:
    """A script beside this one, in a process of its own."""
    return run([sys.executable, str(SCRIPTS / script), *arguments])


def openvino(*arguments: str) -> Done | None:
    """real_openvino.py in its own environment; None if there is no such environment."""
    interpreter = os.environ.get("EDGEKIT_OPENVINO_PYTHON", "")
    return run([interpreter, str(SCRIPTS / "real_openvino.py"), *arguments]) if interpreter else None


def run(command: list[str], environment: dict[str, str] | None = None) -> Done:
    """The command, ended after :data:`TIMEOUT_S`, in an empty folder, where some tools leave files."""
    started = time.monotonic()
    with tempfile.TemporaryFile() as messages, tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=messages,
            start_new_session=True,
            cwd=folder,
            env=environment,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES)),
        )
        timer = threading.Timer(TIMEOUT_S, os.killpg, (process.pid, signal.SIGKILL))
        timer.start()
        _, status, usage = os.wait4(process.pid, 0)
        timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        messages.seek(0)
        text = messages.read().decode(errors="replace")
    reason = _reason(text, process.returncode)
    return Done(process.returncode, time.monotonic() - started, usage.ru_maxrss * 1024, reason)


def _reason(text: str, code: int) -> str:
    """edgekit's message, or the last line of what a program said before it ended; without folders of this machine."""
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    messages = [number for number, line in enumerate(lines) if line.startswith("edgekit:")]
    said = " ".join(lines[messages[-1] :] if messages else lines[-1:])
    return re.sub(r"(?<![\w.])/(?:[\w.+-]+/)+", "", said)[:600]
