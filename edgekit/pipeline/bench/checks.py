"""What makes no sense about the options of ``edgekit bench``."""

from __future__ import annotations

from edgekit.errors import UsageError
from edgekit.extras.base import asked_for
from edgekit.options.bench import BenchOptions

LOADS = ("server", "fixed-rate")
"""Scenarios whose queries come at given times, whether the model is ready or not."""
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
    scenario, loads = options.scenario, " and ".join(LOADS)
    for name, value in (("--rate", options.rate), ("--latency-bound", options.latency_bound)):
        if value is not None and scenario not in LOADS:
            raise UsageError(f"{name} {value:g} belongs to --scenario {loads}; this is {scenario}")
    if options.streams is not None and scenario != "multi-stream":
        raise UsageError(f"--streams {options.streams} goes with --scenario multi-stream; this is {scenario}")
    if scenario == "fixed-rate" and options.rate is None:
        raise UsageError("--scenario fixed-rate needs --rate HZ: how often the sensor gives a sample")
    if scenario == "server" and options.rate is None and options.latency_bound is None:
        raise UsageError(
            "--scenario server needs --latency-bound MS, to look for the highest rate that keeps it, or --rate HZ"
        )
    against = (options.baseline, options.fail_slower, options.replay)
    if scenario in LOADS and any(value is not None for value in against):
        raise UsageError(
            f"--baseline, --fail-slower and --replay compare times of a model by itself, not under {scenario}; "
            "drop one of them"
        )
