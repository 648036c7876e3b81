"""Options of ``edgekit bench``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekit.options.base import Options, changed, option, option_fields, with_plugins
from edgekit.options.shared import FAIL_SLOWER, INPUT, ON, RUNTIME, SEED, SHAPE
from edgekit.registry import names

NOT_TIMED = frozenset({"fail_slower", "journal", "resume", "plot", "csv", "markdown", "progress"})
"""What changes nothing of what is timed."""
SCENARIOS = ("single-stream", "multi-stream", "offline", *names("scenarios"))


@with_plugins("extras")
@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions(Options):
    """The options of ``bench``. Extras of other packages (:mod:`edgekit.extras`) add theirs."""

    models: str | Path | Sequence[str | Path] = field(
        default=(),
        kw_only=False,
        metadata=option(
            "Model files; the first is what the others are compared with.", metavar="[MODEL]...", takes="models"
        ),
    )
    on: Sequence[str] = field(
        default=(),
        metadata=changed(ON, help="Where to run; several make one matrix.", default="cpu"),
    )
    class_: Sequence[str] = field(
        default=(),
        metadata=option(
            "Hold this machine to a class of devices: phone-2gb, phone-4gb, board-1gb, board-512mb, board-1core; "
            "mcu-64k, mcu-256k, mcu-640k.",
            metavar="NAME",
        ),
    )
    arena: str | None = field(
        default=None,
        metadata=option(
            "Exit 1 if a file needs a larger tensor arena than this on mcu (64k: 65,536 bytes).", metavar="SIZE"
        ),
    )
    runtime: Sequence[str] = field(
        default=(),
        metadata=changed(
            RUNTIME,
            help="Runtimes; each model gets those that read its format.",
            metavar="NAME[,NAME]",
            commas=True,
        ),
    )
    threads: int | Sequence[int] = field(
        default=(1,),
        metadata=option(
            "Threads of the runtime, each number a cell of its own.",
            metavar="N[,N]",
            at_least=1,
            commas=True,
            default="1",
        ),
    )
    scenario: str = field(
        default="single-stream",
        metadata=option(
            "single-stream, multi-stream, offline (whole batches), server (Poisson arrivals), fixed-rate (a sensor).",
            metavar="NAME",
            choices=SCENARIOS,
        ),
    )
    rate: float | None = field(
        default=None,
        metadata=option("Queries a second (server, fixed-rate).", metavar="HZ", above=0, at_most=1e9),
    )
    latency_bound: float | None = field(
        default=None,
        metadata=option("What server's p99 must keep; a deadline (fixed-rate).", metavar="MS", above=0, at_most=1e9),
    )
    sustain: str | float | None = field(
        default=None,
        metadata=option("Then run each model for this long (90s, 30m): latency against time.", metavar="TIME"),
    )
    streams: int | None = field(
        default=None,
        metadata=option("Samples of one query in multi-stream.", metavar="N", at_least=1, at_most=1024, default="8"),
    )
    seconds: float = field(
        default=3.0,
        metadata=option("Time for each cell, warm-up included.", metavar="S", above=0, at_most=86_400),
    )
    batch: int | None = field(
        default=None,
        metadata=option("Samples at once, where the file's first axis is free (offline).", metavar="N", at_least=1),
    )
    shape: Sequence[str] = field(default=(), metadata=SHAPE)
    input: str | Path | None = field(
        default=None,
        metadata=changed(INPUT, help="One real sample (.npz, .npy, .jpg, .wav, .csv) instead of seeded values."),
    )
    seed: int = field(default=0, metadata=SEED)
    workers: int | None = field(
        default=None,
        metadata=option(
            "Processes for each cell, which take turns.", metavar="N", at_least=1, at_most=16, default="2 to 4"
        ),
    )
    profile: bool = field(
        default=False, metadata=option("Also time per operator, type and layer, in a pass of its own.")
    )
    roofline: bool = field(
        default=False, metadata=option("Also count operations and bytes, and measure the machine's peaks.")
    )
    cold: bool = field(
        default=False,
        metadata=option("Also time starts: file out of the page cache, in it, compiled before."),
    )
    fit: bool = field(default=False, metadata=option("Also look for the smallest memory limit under which it runs."))
    end_to_end: bool = field(
        default=False, metadata=option("Also time the path from --input to an answer, stage by stage.")
    )
    energy: bool = field(default=False, metadata=option("Also measure joules a run, where the platform has a meter."))
    probe: bool = field(
        default=False, metadata=option("Also look at denormal weights, real against seeded input, resets.")
    )
    instructions: bool = field(
        default=False, metadata=option("Also count ARM instructions of an inference (emulator: only).")
    )
    require_full_delegation: bool = field(
        default=False, metadata=option("Exit 1 if the delegate left out an operator.")
    )
    baseline: str | Path | None = field(
        default=None,
        metadata=option("Compare with a saved result (bench ... --json FILE).", metavar="FILE", names="input"),
    )
    fail_slower: float | None = field(default=None, metadata=FAIL_SLOWER)
    replay: str | Path | None = field(
        default=None,
        metadata=option(
            "Run a saved result again, the same models and plan, and compare with it.",
            metavar="FILE",
            names="input",
        ),
    )
    tool: Sequence[str] = field(
        default=(),
        metadata=option(
            "Program that times a model on adb: devices (benchmark_model).", metavar="PROGRAM", names="input"
        ),
    )
    timeout: float = field(
        default=60.0, metadata=option("Seconds to wait for a worker's answer.", metavar="S", above=0)
    )
    resume: bool | None = field(
        default=None,
        metadata=option(
            "Resume the same run after an interruption, or start again (default: resume if it is less than an hour "
            "old).",
            off="--fresh",
        ),
    )
    plot: str | Path | None = field(
        default=None,
        metadata=option("Draw a histogram and the times over time (.png, .svg).", metavar="PATH", names="output"),
    )
    csv: str | Path | None = field(
        default=None, metadata=option("Write the table as CSV.", metavar="PATH", names="output")
    )
    markdown: str | Path | None = field(
        default=None, metadata=option("Write the table as Markdown.", metavar="PATH", names="output")
    )
    journal: str | Path | bool = field(
        default=False,
        metadata=option(
            "Keep finished blocks as they finish: in this file, or with True in the state folder.", python=True
        ),
    )
    progress: Callable[[str, str, int, int], None] | None = field(
        default=None,
        metadata=option(
            "Called, one call at a time, with devices, what is done there, how much of it, of how much.",
            python=True,
        ),
        compare=False,
    )

    @property
    def paths(self) -> tuple[str, ...]:
        """The model files."""
        models = self.models if isinstance(self.models, tuple) else (self.models,)
        return tuple(str(model) for model in models)

    @property
    def devices(self) -> tuple[str, ...]:
        """Where it runs: the devices, and this machine held to each class."""
        return (*self.on, *(f"class:{name}" for name in self.class_)) or ("cpu",)

    @property
    def thread_counts(self) -> tuple[int, ...]:
        """The numbers of threads, each a cell of its own."""
        return self.threads if isinstance(self.threads, tuple) else (1,)

    def protocol(self) -> dict[str, Any]:
        """The options that say how it is timed, with the models, as the document of the result keeps them."""
        rows: dict[str, Any] = {"models": list(self.paths), "on": list(self.devices)}
        without = {*rows, *(NOT_TIMED - {"fail_slower"}), "class_", "replay"}
        names = [one.name for one in option_fields(type(self)) if one.name not in without]
        values = {name: _plain(getattr(self, name)) for name in names}
        return rows | {name: value for name, value in values.items() if value is not None}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
