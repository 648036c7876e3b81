"""What makes no sense about the options of ``edgekit bench``."""

from __future__ import annotations

from edgekit.errors import UsageError
from edgekit.extras.base import asked_for, load_of, loads
from edgekit.options.bench import BenchOptions

STREAMS = 8
"""Samples of one query in ``multi-stream``, as in MLPerf."""


def check(options: BenchOptions) -> None:
    """Refuses what makes no sense together.

    Raises:
        UsageError: two options that exclude each other, or one that needs another.
    """
    if options.resume is not None and options.journal is False:
        raise UsageError("resume needs a journal; give journal=True or a file")
    if options.batch is not None and options.scenario != "offline":
        raise UsageError(f"--batch {options.batch} needs --scenario offline; single-stream is one sample at a time")
    _check_load(options)
    for extra in asked_for(options):
        extra.check(options)


def _check_load(options: BenchOptions) -> None:
    """Raises UsageError where the options of a scenario do not go together."""
    scenario, load = options.scenario, load_of(options)
    for name, value in (("--rate", options.rate), ("--latency-bound", options.latency_bound)):
        if value is not None and load is None:
            raise UsageError(f"{name} {value:g} belongs to --scenario {' and '.join(loads())}; this is {scenario}")
    if options.streams is not None and scenario != "multi-stream":
        raise UsageError(f"--streams {options.streams} goes with --scenario multi-stream; this is {scenario}")
    against = (options.baseline, options.fail_slower, options.replay)
    if load is not None and any(value is not None for value in against):
        raise UsageError(
            f"--baseline, --fail-slower and --replay compare times of a model by itself, not under {scenario}; "
            "drop one of them"
        )
    if load is not None:
        load.check(options)
