"""TensorFlow Lite for Microcontrollers on this machine: its operators, what memory a file takes, what it answers.

Its interpreter for Python (``tflite-micro``) has pins of its own, so that it lives in an environment beside edgekit's.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import children
from edgekit.environments import TFLM
from edgekit.errors import ModelError, WorkerCrashError, WorkerTimeoutError
from edgekit.leftovers import scratch_folder
from edgekit.types import Array

_TOTAL = re.compile(r"Arena allocation total (\d+) bytes")
_STEP = 1024
_SECONDS = 120
_SCRIPT = """\
import sys
import numpy as np
from tflite_micro.python.tflite_micro import runtime
path, folder, size = sys.argv[1:]
interpreter = runtime.Interpreter.from_file(path, arena_size=int(size) or None)
feed = np.load(folder + "/feed.npz")
for k in range(len(feed.files) - 1):
    interpreter.set_input(feed[str(k)], k)
interpreter.invoke()
np.savez(folder + "/made.npz", **{str(k): interpreter.get_output(k) for k in range(int(feed["outputs"]))})
interpreter.print_allocations()
"""


@dataclass(frozen=True, slots=True)
class MicroRun:
    """One run of a file. ``arena_bytes``: of memory that was enough; ``outputs``: in the order of the file."""

    arena_bytes: int
    outputs: tuple[Array, ...]


def run(python: str, path: Path, feed: Sequence[Array], outputs: int) -> MicroRun:
    """Runs the file twice: for what it answers and takes, then with that much memory.

    Raises:
        ModelError: it does not accept the file.
        WorkerCrashError, WorkerTimeoutError: what became of its process.
    """
    with scratch_folder() as folder:
        arrays: dict[str, Any] = {"outputs": np.int64(outputs), **{str(k): array for k, array in enumerate(feed)}}
        np.savez(folder / "feed.npz", **arrays)
        said = _run(python, path, folder, 0)
        found = _TOTAL.search(said)
        if found is None:
            raise WorkerCrashError(f"tflite-micro ran {path} and did not say what memory it took")
        size = -(-int(found[1]) // _STEP) * _STEP
        while True:  # what planning takes for a moment is not in that figure
            try:
                _run(python, path, folder, size)
                break
            except ModelError:
                if size > 2 * int(found[1]) + 4 * _STEP:
                    raise
                size += max(size // 16 // _STEP * _STEP, _STEP)
        with np.load(folder / "made.npz") as made:
            return MicroRun(size, tuple(made[str(k)] for k in range(outputs)))


def _run(python: str, path: Path, folder: Path, size: int) -> str:
    try:
        done = children.run(
            [python, "-I", "-c", _SCRIPT, str(path.absolute()), str(folder), str(size)], timeout=_SECONDS
        )
    except OSError as error:
        known = f"{TFLM.variable} names it ({TFLM.install})"
        raise WorkerCrashError(f"{python} cannot be started: {error}; {known}") from error
    except subprocess.TimeoutExpired as error:
        raise WorkerTimeoutError(f"tflite-micro did not run {path} within {_SECONDS} s") from error
    if done.returncode < 0:
        raise WorkerCrashError(f"tflite-micro crashed on {path} (signal {-done.returncode}): {_last(done.stderr)}")
    if done.returncode:
        if "ModuleNotFoundError" in done.stderr:
            raise WorkerCrashError(f"{python} has no tflite-micro: {TFLM.install}")
        raise ModelError(f"tflite-micro does not run {path}: {_last(done.stderr)}")
    return str(done.stderr) + str(done.stdout)


def _last(text: str) -> str:
    """What a program said before its end, without the lines of its trace."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(("  ", "Traceback"))]
    return "; ".join(lines[-3:])[:400] or "it said nothing"
