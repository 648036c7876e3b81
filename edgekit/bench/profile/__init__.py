"""Time per operator, in a pass of its own: one file a runtime, one form of result (:mod:`.rows`).

The pass runs apart from the timed one, since a profiler slows every operator down: shares are meant, not totals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from edgekit.errors import UnsupportedError
from edgekit.runtime import Runner
from edgekit.types import Feed

PROFILERS: Mapping[str, str] = {
    "onnxruntime": "edgekit.bench.profile.ort",
    "litert": "edgekit.bench.profile.litert",
    "torch": "edgekit.bench.profile.aten",
}
"""Runtime -> module with a function ``profile(runner, feed, seconds)``."""
Profiler = Callable[[Runner, Feed, float], dict[str, Any]]


def check_profile(runtime: str) -> None:
    """Raises UnsupportedError for a runtime that tells no times of its operators."""
    if _key(runtime) not in PROFILERS:
        raise UnsupportedError(
            f"--profile: {runtime} has no operator profiler in its Python package; there are: {', '.join(PROFILERS)}. "
            "Leave --profile out, or name one of them with --runtime"
        )


def profile(runner: Runner, feed: Feed, seconds: float) -> dict[str, Any]:
    """Runs ``runner``'s file on ``feed`` under its runtime's profiler for about ``seconds``; see :mod:`.rows`.

    Raises:
        UnsupportedError: the runtime, or its version, has no profiler that edgekit can read.
        DeviceError: the runtime failed while it was profiled.
    """
    check_profile(runner.name)
    found: Profiler = import_module(PROFILERS[_key(runner.name)]).profile
    return found(runner, feed, seconds)


def _key(runtime: str) -> str:
    """onnxruntime profiles every provider of its own; the variants of the others have no profiler."""
    base = runtime.partition(":")[0]
    return base if base == "onnxruntime" else runtime
