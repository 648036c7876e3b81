"""What is asked of ``edgekit quantize``, and everything about it that can be refused before any work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.errors import ModelError, UnsupportedError, UsageError
from edgekit.passes import quantize_onnx, quantize_tflite
from edgekit.passes.calibration import check_method
from edgekit.quality.account import quantized_already
from edgekit.quality.integer_selftest import CALIBRATED
from edgekit.types import Artifact, Format


@dataclass(frozen=True, slots=True)
class QuantizeOptions:
    """What to do to the file; see :func:`edgekit.quantize`."""

    scheme: str
    data: str | None = None
    samples: int | None = None
    calibration: str | None = None
    save_calibration: Path | None = None
    max_drop: float | None = None
    limit: int | None = None
    integer_io: bool = False


def one_model(model: str | Path | Sequence[str | Path], auto: Mapping[str, Any]) -> str | Path:
    """The one file to quantize; raises UsageError for several, and for options of ``auto``."""
    if auto:
        given = ", ".join(name.replace("_", "-") for name in auto)
        raise UsageError(f"these options belong to --scheme auto, which chooses by time: {given}; leave them out")
    several = () if isinstance(model, str | Path) else tuple(model)
    if len(several) > 1:
        raise UsageError(f"{len(several)} models were given; one at a time is quantized, only --scheme auto takes more")
    return model if isinstance(model, str | Path) else several[0]


def check_options(artifact: Artifact, target: Path, options: QuantizeOptions) -> None:
    """Everything that can be refused before any work."""
    learned = options.calibration is None and artifact.card is not None and artifact.card.ranges is not None
    check_request(artifact.path, artifact.format, options, learned)
    if target.suffix.lower() != f".{artifact.format}":
        raise UsageError(f"-o {target} must end in .{artifact.format}, as the model does: quantizing keeps the format")
    if target.resolve() == artifact.path.resolve():
        raise UsageError(f"-o names the model itself ({target}); give another name, the parent is kept")
    evidence = quantized_already(artifact)
    if evidence:
        raise ModelError(f"{artifact.path} is quantized already ({evidence}); give the float file it was made from")


def check_request(name: str | Path, format_: Format, options: QuantizeOptions, learned: bool = False) -> None:
    """What can be refused before the file is there: what is wrong with ``options`` for a file of ``format_``, which
    carries ranges that were ``learned`` in training or does not."""
    if format_ not in (Format.ONNX, Format.TFLITE):
        raise UnsupportedError(f"{name} is a {format_} model; export it first (--to onnx or tflite) and quantize that")
    known = quantize_onnx.SCHEMES if format_ is Format.ONNX else quantize_tflite.SCHEMES
    quantize_onnx.check_scheme(options.scheme, format_, known)
    if options.max_drop is not None and not 0 <= options.max_drop < 1:
        raise UsageError(
            f"--max-drop is {options.max_drop}; give a fraction from 0 to below 1 (0.01 = one point of accuracy)"
        )
    if options.max_drop is not None and options.data is None:
        raise UsageError("--max-drop needs --data to measure the drop on")
    for name, value in (("--samples", options.samples), ("--limit", options.limit)):
        if value is not None and value < 1:
            raise UsageError(f"{name} is {value}; give 1 or more")
    from_file = options.calibration is not None and options.calibration.endswith(".json")
    if options.calibration is not None and not from_file:
        check_method(options.calibration)
    if options.scheme in CALIBRATED and options.data is None and not from_file and not learned:
        raise UsageError(
            f"scheme {options.scheme} calibrates on real samples: give --data (cifar10, images:DIR, npz:FILE). Without "
            "data there are int8-dynamic, int8-weights and fp16"
        )
