"""Files as the source of an export: which options go with one, and what is not offered."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgekit.errors import UsageError
from edgekit.options.export import ExportOptions
from edgekit.types import Format


def check_file_source(options: ExportOptions, formats: Sequence[str]) -> None:
    """Refuses what makes no sense for a source that is a finished model file, or is not one.

    Raises:
        UsageError: with what there is instead.
    """
    source = str(options.source)
    suffix = Path(source).suffix.lower()
    if suffix == f".{Format.TFLITE}":
        raise UsageError(
            f"{source}: TFLite is not offered as a source of export. Its operators are fused and its layout is that of "
            "the device; no tool turns them back so that most files could be proved. Export the network, or the ONNX "
            "file, that it was made from; quantize, eval, bench and verify take the .tflite file as it is"
        )
    if suffix != f".{Format.ONNX}":
        if options.optimize:
            raise UsageError(
                f"--optimize simplifies an ONNX file, and {source} is not one: what is exported from torch is "
                "simplified where that saves operators; leave it out"
            )
        return
    for flag, given in (
        ("--weights", options.weights), ("--streaming", options.streaming), ("--factory", options.factory),
    ):  # fmt: skip
        if given:
            raise UsageError(f"{flag} is for a network in torch, and {source} is a finished ONNX file; leave it out")
    strange = [item for item in formats if item not in (Format.ONNX, Format.TFLITE)]
    if strange:
        raise UsageError(
            f"{source} is an ONNX file, which edgekit writes as tflite or onnx; it cannot be converted to "
            f"{strange[0]}: name the network in torch for that"
        )
    if options.optimize and str(Format.ONNX) not in formats:
        raise UsageError("--optimize writes an ONNX file that is simpler; add --to onnx, or leave it out")


def check_not_the_source(options: ExportOptions, targets: Sequence[Path]) -> None:
    """Raises UsageError where one of ``targets`` is the file that is exported."""
    source = Path(str(options.source))
    for target in targets:
        if target.exists() and source.exists() and target.samefile(source):
            raise UsageError(f"{target} is the file that is exported; give another -o, or --name")
