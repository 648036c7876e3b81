"""Options of ``edgekit bench`` and what makes no sense about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from edgekit.errors import UnsupportedError, UsageError

SCENARIOS = ("single-stream", "offline")
LATER = ("multi-stream", "server")


@dataclass(frozen=True)
class BenchOptions:
    """How the bench runs; every field is a keyword of :func:`bench`.

    Attributes:
        on: devices.
        runtime: runtimes; of several, each model gets those that read its format. Empty: the first for its format.
        threads: thread counts, each a cell of its own.
        scenario: ``single-stream`` (batch 1) or ``offline`` (whole batches, see ``batch``).
        seconds: time for each cell, warm-up included.
        batch: size of the first axis, for files in which it is free; needs ``offline``.
        shape: ``INPUT=1x576`` or ``DIMENSION=576``.
        input: a file with one real sample instead of seeded values.
        seed: of the order of the blocks and of seeded input.
        workers: processes for each cell, over which its rounds are spread; None: 2 to 4, by the number of cells.
        profile: time per operator, in a pass of its own after the timed one.
        require_full_delegation: a gate: every operator of every model is run by the delegate or provider.
        baseline: a saved result of the bench to compare with.
        fail_slower: percent; against the baseline, or without one against the first model.
        replay: a saved result; its models, options and plan are run again and compared with it.
        timeout: longest wait in seconds for an answer of a worker, beyond the time of a block.
        journal: finished blocks are kept on disk as they finish: in this file, or with True in the state folder.
        resume: go on with the journal of an interrupted run; None: if it is of the last hour.
    """

    on: Sequence[str] = ("cpu",)
    runtime: Sequence[str] = ()
    threads: Sequence[int] = (1,)
    scenario: str = "single-stream"
    seconds: float = 3.0
    batch: int | None = None
    shape: Sequence[str] = ()
    input: str | None = None
    seed: int = 0
    workers: int | None = None
    profile: bool = False
    require_full_delegation: bool = False
    baseline: str | Path | None = None
    fail_slower: float | None = None
    replay: str | Path | None = None
    timeout: float = 60.0
    journal: str | Path | bool = False
    resume: bool | None = None


def read_options(keywords: dict[str, Any]) -> BenchOptions:
    """Checks ``keywords`` (fields of :class:`BenchOptions`; where several are meant, one value will do).

    Raises:
        UsageError, UnsupportedError: an unknown name, a value out of range, or two that exclude each other.
    """
    known = {field_.name for field_ in fields(BenchOptions)}
    unknown = sorted(keywords.keys() - known)
    if unknown:
        raise UsageError(f"bench has no option {', '.join(unknown)}; there are: {', '.join(sorted(known))}")
    for name in ("on", "runtime", "threads", "shape"):
        value = keywords.get(name)
        if value is None:
            keywords.pop(name, None)
        elif isinstance(value, str | int):
            keywords[name] = (value,)
    options = BenchOptions(**keywords)
    if options.scenario in LATER:
        raise UnsupportedError(f"--scenario {options.scenario} is not there yet; there are: {', '.join(SCENARIOS)}")
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
    if options.fail_slower is not None and not options.fail_slower >= 0:
        raise UsageError(f"--fail-slower {options.fail_slower:g}: give 0 or more, in percent")
    return options
