"""Options of ``edgekit optimize``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgekit.options.base import Options, changed, option
from edgekit.options.shared import DATA, FACTORY, IO_FILE, LIMIT, MAX_DROP, METRIC, ON, RUNTIME, SEED, THREADS, WEIGHTS

SAMPLERS = ("tpe", "random")
FORMATS = ("onnx", "tflite", "pte")


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizeOptions(Options):
    """The options of ``optimize``."""

    source: str | Path | Sequence[str | Path] = field(
        kw_only=False,
        metadata=option(
            "A network, as for export, which may be pruned and trained; or float .onnx and .tflite files of one.",
            metavar="SOURCE...",
            takes="models",
        ),
    )
    factory: str | None = field(default=None, metadata=FACTORY)
    weights: str | Path | None = field(default=None, metadata=WEIGHTS)
    data: str = field(metadata=DATA)
    metric: str | None = field(default=None, metadata=METRIC)
    io_file: str | Path | None = field(default=None, metadata=IO_FILE)
    on: Sequence[str] = field(default=("cpu",), metadata=changed(ON, help="Devices to optimize for; each has a front."))
    max_drop: float | None = field(
        default=None,
        metadata=changed(MAX_DROP, help="Largest loss of quality of the recommended file.", default="0.01"),
    )
    min_snr: float | None = field(
        default=None,
        metadata=option(
            "Where nobody says what is right about the data: decibels to the float file's outputs.",
            metavar="DB",
            at_least=0,
            at_most=120,
            default="20",
        ),
    )
    max_ms: float | None = field(
        default=None, metadata=option("Longest time of a call, in milliseconds.", metavar="MS", above=0)
    )
    max_bytes: int | None = field(default=None, metadata=option("Largest file.", metavar="BYTES", at_least=1))
    max_memory: int | None = field(
        default=None, metadata=option("Largest memory of the process that runs it.", metavar="BYTES", at_least=1)
    )
    trials: int = field(default=30, metadata=option("Candidates to try.", metavar="N", at_least=1))
    hours: float | None = field(
        default=None, metadata=option("Propose nothing more after this time.", metavar="H", above=0)
    )
    formats: Sequence[str] = field(
        default=(),
        metadata=option(
            "Formats to try.",
            metavar="NAME[,NAME]",
            choices=FORMATS,
            commas=True,
            default="onnx, tflite; pte where ExecuTorch is installed, but for recurrent networks",
        ),
    )
    runtimes: Sequence[str] = field(
        default=(),
        metadata=changed(
            RUNTIME,
            help="Runtimes to try.",
            metavar="NAME[,NAME]",
            commas=True,
            default="all that are installed",
        ),
    )
    threads: Sequence[int] = field(
        default=(1,), metadata=changed(THREADS, help="Threads to try.", metavar="N[,N]", commas=True)
    )
    epochs: int | None = field(
        default=None,
        metadata=option(
            "Longest training of a trial; 0: nothing is pruned or trained.",
            metavar="N",
            at_least=0,
            default="8, more for small data",
        ),
    )
    samples: int | None = field(
        default=None, metadata=option("Calibration samples (300 without it).", metavar="N", at_least=1)
    )
    limit: int | None = field(
        default=None, metadata=changed(LIMIT, help="Judge trials on N samples at most (1,000 without it).")
    )
    seconds: float = field(
        default=3.0,
        metadata=option("Time of each file in the last, interleaved run.", metavar="S", above=0, at_most=3600),
    )
    sampler: str = field(
        default="tpe",
        metadata=option("What proposes: Optuna's TPE, or random search.", metavar="NAME", choices=SAMPLERS),
    )
    batch: int = field(
        default=4,
        metadata=option(
            "Proposals made at once, whatever the workers: the same seed gives the same.", metavar="N", at_least=1
        ),
    )
    jobs: int = field(
        default=1, metadata=option("Processes on this machine that make candidates.", metavar="N", at_least=1)
    )
    workers: str | None = field(
        default=None,
        metadata=option(
            "Make candidates by Ray: ray (a cluster on this machine), ray://HOST:PORT, HOST:PORT or auto.",
            metavar="ADDRESS",
        ),
    )
    seed: int = field(default=0, metadata=SEED)
    fresh: bool = field(default=False, metadata=option("Forget the trials that are in the folder."))
    out: str | Path = field(
        metadata=option("Folder for the front, its recipes and the study.", metavar="DIR", flags=("-o", "--out"))
    )
