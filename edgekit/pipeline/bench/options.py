"""Options of ``edgekit bench`` and what makes no sense about them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from edgekit.errors import UsageError

SCENARIOS = ("single-stream", "multi-stream", "offline", "server", "fixed-rate")
LOADS = ("server", "fixed-rate")
"""Scenarios whose queries come at given times, whether the model is ready or not."""
EXTRAS = ("profile", "roofline", "sustain", "cold", "fit", "end_to_end", "energy", "probe", "instructions")
"""Options that measure in a pass of its own and change nothing of the timed one."""
STREAMS = 8
"""Samples of one query in ``multi-stream``, as in MLPerf."""


@dataclass(frozen=True)
class BenchOptions:
    """How the bench runs; every field is a keyword of :func:`bench`.

    Attributes:
        on: devices.
        runtime: runtimes; of several, each model gets those that read its format. Empty: the first for its format.
        threads: thread counts, each a cell of its own.
        scenario: ``single-stream`` (batch 1), ``multi-stream`` (queries of ``streams`` samples), ``offline`` (whole
            batches, see ``batch``), ``server`` (Poisson arrivals) or ``fixed-rate`` (a sensor).
        rate: queries a second, of ``server`` and ``fixed-rate``; ``server`` without it looks for the highest rate.
        latency_bound: milliseconds; what ``server``'s p99 must keep, or the deadline of ``fixed-rate`` (its period).
        sustain: how long each model then runs without a pause, such as ``30m``: latency against time.
        streams: samples of one query in ``multi-stream``; None: 8.
        seconds: time for each cell, warm-up included.
        batch: size of the first axis, for files in which it is free; needs ``offline``.
        shape: ``INPUT=1x576`` or ``DIMENSION=576``.
        input: a file with one real sample instead of seeded values.
        seed: of the order of the blocks and of seeded input.
        workers: processes for each cell, over which its rounds are spread; None: 2 to 4, by the number of cells.
        profile: time per operator, in a pass of its own after the timed one.
        roofline: operations and bytes of one inference, this machine's measured peaks, and the distance between.
        cold: starts in processes of their own: file out of the page cache, in it, and compiled before.
        fit: the smallest memory limit under which the model loads and runs.
        end_to_end: pre-processing, copies and post-processing of ``input``, each timed.
        energy: joules of a run, where the platform has a meter.
        instructions: ARM instructions of an inference, on emulated devices: a count, no time.
        probe: denormal weights, real against seeded input, what a reset costs.
        require_full_delegation: a gate: every operator of every model is run by the delegate or provider.
        baseline: a saved result of the bench to compare with.
        fail_slower: percent; against the baseline, or without one against the first model.
        replay: a saved result; its models, options and plan are run again and compared with it.
        tool: programs that time a model by themselves, for devices without workers (``adb:``); one a format.
        timeout: longest wait in seconds for an answer of a worker, beyond the time of a block.
        journal: finished blocks are kept on disk as they finish: in this file, or with True in the state folder.
        resume: go on with the journal of an interrupted run; None: if it is of the last hour.
    """

    on: Sequence[str] = ("cpu",)
    runtime: Sequence[str] = ()
    threads: Sequence[int] = (1,)
    scenario: str = "single-stream"
    rate: float | None = None
    latency_bound: float | None = None
    streams: int | None = None
    sustain: str | float | None = None
    seconds: float = 3.0
    batch: int | None = None
    shape: Sequence[str] = ()
    input: str | None = None
    seed: int = 0
    workers: int | None = None
    profile: bool = False
    require_full_delegation: bool = False
    roofline: bool = False
    cold: bool = False
    fit: bool = False
    end_to_end: bool = False
    energy: bool = False
    probe: bool = False
    instructions: bool = False
    baseline: str | Path | None = None
    fail_slower: float | None = None
    replay: str | Path | None = None
    tool: Sequence[str] = ()
    timeout: float = 60.0
    journal: str | Path | bool = False
    resume: bool | None = None


def read_options(keywords: dict[str, Any]) -> BenchOptions:
    """Checks ``keywords`` (fields of :class:`BenchOptions`; where several are meant, one value will do).

    Raises:
        UsageError: an unknown name, a value out of range, or two that exclude each other.
    """
    known = {field_.name for field_ in fields(BenchOptions)}
    unknown = sorted(keywords.keys() - known)
    if unknown:
        raise UsageError(f"bench has no option {', '.join(unknown)}; there are: {', '.join(sorted(known))}")
    for name in ("on", "runtime", "threads", "shape", "tool"):
        value = keywords.get(name)
        if value is None:
            keywords.pop(name, None)
        elif isinstance(value, str | int):
            keywords[name] = (value,)
    options = BenchOptions(**keywords)
    if options.scenario not in SCENARIOS:
        raise UsageError(f"no scenario is called {options.scenario!r}; there are: {', '.join(SCENARIOS)}")
    if not 0 < options.seconds <= 86_400:
        raise UsageError(f"--seconds {options.seconds:g}: give more than 0 and at most 86400")
    if not options.timeout > 0:
        raise UsageError(f"--timeout {options.timeout:g}: give more than 0, in seconds")
    if options.resume is not None and options.journal is False:
        raise UsageError("resume needs a journal; give journal=True or a file")
    if options.workers is not None and not 1 <= options.workers <= 16:
        raise UsageError(f"--workers {options.workers}: give 1 to 16")
    if any(threads < 1 for threads in options.threads):
        raise UsageError(f"--threads {min(options.threads)}: give 1 or more")
    if options.batch is not None and options.scenario != "offline":
        raise UsageError(f"--batch {options.batch} needs --scenario offline; single-stream is one sample at a time")
    if options.batch is not None and options.batch < 1:
        raise UsageError(f"--batch {options.batch}: give 1 or more")
    _check_load(options)
    if options.end_to_end and options.input is None:
        raise UsageError("--end-to-end times the way from a raw sample to an answer: give one with --input FILE")
    if options.sustain is not None:
        duration_s(options.sustain)
    if options.fail_slower is not None and not options.fail_slower >= 0:
        raise UsageError(f"--fail-slower {options.fail_slower:g}: give 0 or more, in percent")
    return options


def _check_load(options: BenchOptions) -> None:
    """Raises UsageError where the options of a scenario do not go together."""
    scenario, loads = options.scenario, " and ".join(LOADS)
    for name, value in (("--rate", options.rate), ("--latency-bound", options.latency_bound)):
        if value is not None and scenario not in LOADS:
            raise UsageError(f"{name} {value:g} belongs to --scenario {loads}; this is {scenario}")
        if value is not None and not 0 < value <= 1e9:
            raise UsageError(f"{name} {value:g}: give more than 0 and at most 1e9")
    if options.streams is not None and (scenario != "multi-stream" or not 1 <= options.streams <= 1024):
        raise UsageError(f"--streams {options.streams}: give 1 to 1024, with --scenario multi-stream")
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
