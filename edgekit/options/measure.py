"""Options of the verbs that look at finished files: ``eval``, ``verify``, ``run``, ``inspect``, ``compare``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgekit.options.base import Options, changed, option
from edgekit.options.shared import (
    DATA,
    FACTORY,
    FAIL_SLOWER,
    INPUT,
    IO_FILE,
    LIMIT,
    METRIC,
    ON,
    RUNTIME,
    SHAPE,
    THREADS,
    TOLERANCE,
    WEIGHTS,
)

_MODEL = option("A model file.", metavar="MODEL", takes="model")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalOptions(Options):
    """The options of ``eval``."""

    model: str | Path = field(kw_only=False, metadata=_MODEL)
    data: str = field(metadata=DATA)
    on: str = field(default="cpu", metadata=ON)
    runtime: str | None = field(default=None, metadata=RUNTIME)
    limit: int | None = field(default=None, metadata=LIMIT)
    metric: str | None = field(default=None, metadata=METRIC)
    min: float | None = field(
        default=None, metadata=option("Exit 1 where the figure is worse than this.", metavar="VALUE")
    )
    io_file: str | Path | None = field(default=None, metadata=IO_FILE)
    threads: int = field(default=1, metadata=THREADS)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyOptions(Options):
    """The options of ``verify``."""

    model: str | Path = field(kw_only=False, metadata=_MODEL)
    against: str | Path = field(
        metadata=option("A model file, or the network it came from.", metavar="MODEL_OR_SOURCE", names="network")
    )
    factory: str | None = field(default=None, metadata=FACTORY)
    weights: str | Path | None = field(default=None, metadata=WEIGHTS)
    data: str | None = field(default=None, metadata=DATA)
    shape: Sequence[str] = field(default=(), metadata=SHAPE)
    input: str | Path | None = field(default=None, metadata=INPUT)
    io_file: str | Path | None = field(default=None, metadata=IO_FILE)
    tolerance: float | None = field(default=None, metadata=TOLERANCE)
    runtime: str | None = field(default=None, metadata=RUNTIME)
    on: str = field(default="cpu", metadata=ON)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions(Options):
    """The options of ``run``."""

    model: str | Path = field(kw_only=False, metadata=_MODEL)
    inputs: str | Path | Sequence[str | Path] = field(
        default=(),
        kw_only=False,
        metadata=option("Images, recordings, sentences, .csv, .npz or noise:N.", metavar="[INPUT]...", takes="words"),
    )
    on: str = field(default="cpu", metadata=ON)
    runtime: str | None = field(default=None, metadata=RUNTIME)
    out: str | Path | None = field(
        default=None,
        metadata=option(
            "Write the whole outputs here, generated images, or the picture with what was found in it.",
            metavar="OUT.npz|OUT.png",
            flags=("-o", "--out"),
        ),
    )
    io_file: str | Path | None = field(default=None, metadata=IO_FILE)
    top: int = field(default=5, metadata=option("Labels to print.", metavar="N", at_least=1))


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectOptions(Options):
    """The options of ``inspect``."""

    model: str | Path = field(
        kw_only=False, metadata=changed(_MODEL, help="A model file, or a saved calibration (.json).")
    )
    graph: str | Path | None = field(
        default=None, metadata=option("Draw the operators (.svg, .html).", metavar="PATH", names="output")
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareOptions(Options):
    """The options of ``compare``."""

    a: str | Path = field(
        kw_only=False, metadata=option("The saved result that is judged.", metavar="A.json", takes="words")
    )
    b: str | Path = field(kw_only=False, metadata=option("The baseline.", metavar="B.json", takes="words"))
    fail_slower: float | None = field(default=None, metadata=FAIL_SLOWER)
