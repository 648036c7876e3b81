"""What makes no sense about the options of ``edgekit bench``."""

from __future__ import annotations

import re

from edgekit.errors import UsageError
from edgekit.options.bench import BenchOptions

LOADS = ("server", "fixed-rate")
"""Scenarios whose queries come at given times, whether the model is ready or not."""
EXTRAS = ("profile", "roofline", "sustain", "cold", "fit", "end_to_end", "energy", "probe", "instructions")
"""Options that measure in a pass of its own and change nothing of the timed one."""
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
    if options.end_to_end and options.input is None:
        raise UsageError("--end-to-end times the way from a raw sample to an answer: give one with --input FILE")
    if options.sustain is not None:
        duration_s(options.sustain)


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


def duration_s(text: str | float) -> float:
    """``90``, ``90s``, ``30m``, ``1.5h`` as seconds.

    Raises:
        UsageError: not such a text, or not between a second and a week.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([smh]?)\s*", str(text))
    seconds = float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]] if found else 0.0
    if not 1 <= seconds <= 7 * 86_400:
        raise UsageError(f"--sustain {text}: give a time such as 90s, 30m or 2h")
    return seconds
