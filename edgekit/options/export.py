"""Options of ``edgekit export``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekit.iospec import LAYOUTS
from edgekit.options.base import Options, changed, option
from edgekit.options.shared import DATA, FACTORY, INPUT, IO_FILE, SHAPE, TASK, TOLERANCE, WEIGHTS


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions(Options):
    """The options of ``export``."""

    source: Any = field(
        kw_only=False,
        metadata=option(
            "A zoo name, a checkpoint, file.py:factory, package.module:factory, a .pt2, .onnx or .keras file, a "
            "SavedModel folder, timm:NAME or hf:NAME_OR_FOLDER.",
            metavar="SOURCE",
            takes="source",
        ),
    )
    inputs: Any = field(
        default=None,
        kw_only=False,
        metadata=option("Example inputs, where source is a torch module: a tensor, a tuple, or a dict.", python=True),
    )
    to: Sequence[str] = field(
        metadata=option(
            "onnx, tflite, pt2 or pte; several with commas, or repeated.", metavar="FORMAT", names="format", commas=True
        )
    )
    dynamic: Sequence[str] | Mapping[str, Mapping[int, str]] = field(
        default=(),
        metadata=option("An axis that may vary: image:0=batch.", metavar="INPUT:AXIS=NAME"),
    )
    opset: int | None = field(default=None, metadata=option("ONNX operator set (18 without it).", metavar="N"))
    optimize: bool = field(default=False, metadata=option("Simplify an .onnx file by onnxslim."))
    data: str | None = field(default=None, metadata=DATA)
    channels_last: bool = field(
        default=False,
        metadata=option("Images as (N, H, W, C) in every format; .tflite files have them so anyway."),
    )
    channels_first: bool = field(
        default=False, metadata=option("Images in the network's own layout, (N, C, H, W), in .tflite files too.")
    )
    raw_pixels: bool = field(
        default=False, metadata=option("Images as pixels of 0 to 255: mean and std become the first layer of the file.")
    )
    mediapipe: bool = field(
        default=False,
        metadata=option("What MediaPipe Tasks take: RGB, raw pixels if channels are normalised apart, centred boxes."),
    )
    stateful: bool = field(default=False, metadata=option("LSTM and RNN in .tflite keep their state between calls."))
    streaming: bool = field(
        default=False,
        metadata=option(
            "One step a run, what recurrent layers and convolutions over time remember as inputs and outputs; the file "
            "is called NETWORK-step, or --name."
        ),
    )
    factory: str | None = field(default=None, metadata=FACTORY)
    weights: str | Path | None = field(default=None, metadata=WEIGHTS)
    io_file: str | Path | None = field(default=None, metadata=IO_FILE)
    mean: Sequence[str | float] = field(
        default=(),
        metadata=option("Of each channel, in units of 0..1: 0.485,0.456,0.406.", metavar="A,B,C", commas=True),
    )
    std: Sequence[str | float] = field(
        default=(), metadata=option("Of each channel, as --mean.", metavar="A,B,C", commas=True)
    )
    labels: str | Path | None = field(
        default=None, metadata=option("Class names, one a line, in the order of the outputs.", metavar="FILE")
    )
    task: str | None = field(default=None, metadata=TASK)
    layout: str | None = field(
        default=None, metadata=option("Of images, as the network takes them.", metavar="LAYOUT", choices=LAYOUTS)
    )
    name: str | None = field(
        default=None,
        metadata=option("File name without suffix; the network's own without it.", metavar="NAME"),
    )
    shape: Sequence[str] = field(
        default=(),
        metadata=changed(
            SHAPE,
            help="INPUT=1x576, or NAME=576 for a --dynamic NAME or a free axis of an .onnx file: other sizes than its "
            "examples have.",
        ),
    )
    input: str | Path | None = field(default=None, metadata=INPUT)
    tolerance: float | None = field(default=None, metadata=TOLERANCE)
    overwrite: bool = field(default=False, metadata=option("Replace files that were made from other weights."))
    out: str | Path = field(
        metadata=option("Folder for the files.", metavar="DIR", flags=("-o", "--out"), gives="files")
    )
