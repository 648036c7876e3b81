"""Options of ``edgekit quantize``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgekit.options.base import Options, changed, option
from edgekit.options.shared import DATA, FACTORY, INPUT, IO_FILE, LIMIT, MAX_DROP, METRIC, ON, RUNTIME, SEED, SHAPE

TARGETS = ("cpu", "arm", "mcu", "npu")
INTEGERS_ONLY = ("mcu", "npu")
"""Targets that compute on integers only, inputs and outputs included."""
AUTO = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeOptions(Options):
    """The options of ``quantize``. Fields whose help begins with ``auto:`` belong to ``--scheme auto`` alone."""

    models: str | Path | Sequence[str | Path] = field(
        kw_only=False,
        metadata=option(
            "A float .onnx, .tflite or .pt2 (for .pte) file; auto: also several of different formats, or a network.",
            metavar="MODEL...",
            takes="models",
            aliases=("model",),
        ),
    )
    scheme: str = field(
        metadata=option(
            "int8, int8-dynamic, int8-weights, int4-weights, fp16; .tflite also int16x8; or auto.", metavar="SCHEME"
        )
    )
    data: str | None = field(default=None, metadata=DATA)
    samples: int | None = field(
        default=None,
        metadata=option("Calibration samples, classes balanced (300 without it).", metavar="N", at_least=1),
    )
    calibration: str | None = field(
        default=None,
        metadata=option(
            "How ranges are found: minmax, percentile, entropy, mse; or a saved .json.",
            metavar="HOW",
            names="calibration",
        ),
    )
    save_calibration: str | Path | None = field(
        default=None, metadata=option("Save the ranges.", metavar="FILE.json", names="output")
    )
    max_drop: float | None = field(default=None, metadata=MAX_DROP)
    min_snr: float | None = field(
        default=None,
        metadata=option(
            "Decibels each output has to reach beside the parent's.",
            metavar="DB",
            at_least=0,
            at_most=120,
            default="by scheme",
        ),
    )
    mixed: bool = field(
        default=False,
        metadata=option("The worst operators stay in float until --max-drop or --min-snr hold; -o X.json."),
    )
    keep_float: str | None = field(
        default=None,
        metadata=option(
            "What stays in float: names or operator types with commas, or a plan's .json.", metavar="NAMES"
        ),
    )
    limit: int | None = field(default=None, metadata=LIMIT)
    metric: str | None = field(default=None, metadata=METRIC)
    io_file: str | Path | None = field(default=None, metadata=IO_FILE)
    stateful: bool = field(default=False, metadata=option("LSTM and RNN in .tflite keep their state between calls."))
    integer_io: bool = field(default=False, metadata=option("Inputs of the file are integers, outputs too in .tflite."))
    io: str | None = field(
        default=None,
        metadata=option(
            "Type of inputs and outputs; uint8: images as pixels of 0 to 255.",
            metavar="TYPE",
            choices=("float", "int8", "uint8"),
            default="float",
        ),
    )
    for_: str = field(
        default="cpu",
        metadata=option(
            "The target. cpu: the device of --on, where kernels are timed; arm: by XNNPACK's kernels; mcu, npu: "
            "integers throughout.",
            metavar="TARGET",
            choices=TARGETS,
        ),
    )
    allow_slower: bool = field(
        default=False, metadata=option("Publish a file that is slower than its parent, or gained nothing.")
    )
    shape: Sequence[str] = field(
        default=(),
        metadata=changed(SHAPE, help="Sizes of free axes at which it is timed: INPUT=1x576 or DIMENSION=576."),
    )
    input: str | Path | None = field(
        default=None,
        metadata=changed(INPUT, help="One real sample at which it is timed (.npz, .npy, .jpg, .wav, .csv)."),
    )
    on: str | None = field(
        default=None,
        metadata=changed(
            ON,
            help="The device that times, and whose CPU decides on 7-bit weights (auto: and runs).",
            default="cpu",
        ),
    )
    seconds: float | None = field(
        default=None,
        metadata=option(
            "How long the file and its parent are timed; 0: not at all.",
            metavar="S",
            at_least=0,
            at_most=3600,
            default="1, auto: 3",
        ),
    )
    threads: int | Sequence[int] | None = field(
        default=None,
        metadata=option(
            "auto: threads of the runtimes, each number tried.",
            metavar="N[,N]",
            at_least=1,
            commas=True,
            default="1",
        ),
    )
    runtime: Sequence[str] = field(
        default=(),
        metadata=changed(
            RUNTIME,
            help="auto: runtimes to try.",
            metavar="NAME[,NAME]",
            commas=True,
            default="all that are installed",
        ),
    )
    smaller: bool = field(
        default=False, metadata=option("auto: where none is faster, the smallest file that takes the same time.")
    )
    resume: bool | None = field(
        default=None,
        metadata=option("auto: resume the same run after an interruption, or start again.", off="--fresh"),
    )
    seed: int | None = field(
        default=None, metadata=changed(SEED, help="auto: seed of the order of the timed blocks.", default="0")
    )
    factory: str | None = field(
        default=None, metadata=changed(FACTORY, help="auto: what builds the network of a checkpoint of your own.")
    )
    out: str | Path = field(
        metadata=option(
            "Model file to write; same suffix as MODEL. auto adds the suffix; a folder takes NAME-auto.FORMAT.",
            metavar="OUT",
            flags=("-o", "--out"),
            gives="file",
        )
    )

    @property
    def keep(self) -> str | None:
        """Which operators stay in float: ``auto`` (the worst), a plan's file or names; None: those int8 ruins."""
        return "auto" if self.mixed else self.keep_float

    @property
    def device(self) -> str:
        """The device that times."""
        return self.on or "cpu"

    @property
    def thread_counts(self) -> tuple[int, ...]:
        """The numbers of threads that ``auto`` tries."""
        return self.threads if isinstance(self.threads, tuple) else (1,)

    @property
    def integers_only(self) -> bool:
        """Whether the target computes on integers throughout."""
        return self.for_ in INTEGERS_ONLY

    def of_auto(self) -> list[str]:
        """The flags that were given and belong to ``--scheme auto`` alone."""
        given = self.given()
        return [f"--{name}" for name in ("threads", "runtime", "smaller", "resume", "seed", "factory") if name in given]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeCommand(QuantizeOptions):
    """What the command line of ``quantize`` has besides."""

    dry_run: bool = field(
        default=False,
        metadata=option("Print what would be done, operator by operator; nothing is written."),
    )
