"""``edgekit bench --profile``: time per operator, in a process and a pass of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import DeviceError, UnsupportedError, WorkerTimeoutError
from edgekit.types import DeviceSpec, Feed, Format

SECONDS = 1.0
_LIMIT_S = 300


def check_profile(format_: Format, device: DeviceSpec) -> None:
    """Refuses what has no operator profiler, before anything is timed.

    Raises:
        UnsupportedError: with the reason.
    """
    if format_ is not Format.ONNX:
        raise UnsupportedError(
            f"--profile: the runtimes of .{format_.value} files have no operator profiler in their Python packages; "
            "give .onnx files only, or leave --profile out"
        )
    if device.kind != "cpu":
        raise UnsupportedError(f"--profile runs on cpu only for now, got {device.name}; leave --profile or --on out")


def profile_cell(model: Path, feed: Feed, threads: int) -> Mapping[str, Any]:
    """Time per operator and per type; see :func:`edgekit.bench.profile.operators`.

    Raises:
        DeviceError: the profiling process failed or took too long.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, arrays = Path(folder) / "profile.json", Path(folder) / "feed.npz"
        np.savez(arrays, **feed)  # type: ignore[arg-type]  # numpy's stub takes **kwds for its own option
        program = [sys.executable, "-m", "edgekit.bench.profile"]
        try:
            done = subprocess.run(
                [*program, str(model), str(arrays), str(out), str(threads), str(SECONDS)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_LIMIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise WorkerTimeoutError(f"--profile of {model} took more than {_LIMIT_S} s and was ended") from error
        if done.returncode != 0 or not out.is_file():
            said = done.stderr.strip().splitlines()[-1:] or ["nothing"]
            raise DeviceError(f"--profile of {model} ended with status {done.returncode} and said: {said[0][:300]}")
        found: Mapping[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        return found
