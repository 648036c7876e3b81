"""ONNX -> ONNX: another operator set, free axes fixed, simplified by onnxslim; weights in the file itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from edgekit.converters.base import Capture, ConversionOptions, Converter, quiet
from edgekit.converters.newer_opset import opset_of, raised
from edgekit.converters.older_opset import lowered
from edgekit.converters.onnx_to_tflite import onnx_path, refuse_dynamic, serialized
from edgekit.converters.torch_to_onnx import OPSETS
from edgekit.errors import UnsupportedError
from edgekit.graph.onnx import load_onnx
from edgekit.graph.onnx_sizes import fixed
from edgekit.types import Format, Network


class OnnxToOnnx(Converter):
    format: ClassVar[Format] = Format.ONNX
    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxslim", "onnxruntime")
    runs_on: str | None = "onnxruntime"

    def check(self, network: Network, options: ConversionOptions) -> None:
        refuse_dynamic(options)
        if options.channels_last:
            raise UnsupportedError("an ONNX file keeps its layout; --channels-last is for --to tflite")
        if options.opset is not None and options.opset not in OPSETS:
            raise UnsupportedError(
                f"ONNX opset {options.opset} cannot be written; there are {OPSETS.start} to {OPSETS.stop - 1}"
            )

    def convert(self, capture: Capture, target: Path) -> tuple[str, ...]:
        file, options = onnx_path(capture.network), capture.options
        model = fixed(load_onnx(file), {spec.name: spec.shape for spec in capture.network.signature.inputs})
        if options.opset is not None:
            model = _in_opset(model, options.opset, file)
        notes: tuple[str, ...] = ()
        if options.optimize:
            model, notes = _slim(model, file)
        target.write_bytes(serialized(model, file))
        return notes


def _in_opset(model: Any, opset: int, file: Path) -> Any:
    found = opset_of(model)
    if found == opset:
        return model
    if found > opset:
        return lowered(model, opset)
    try:
        return raised(model, opset)
    except Exception as error:  # of C++, without a class of its own
        said = " ".join(str(error).split())[:300]
        raise UnsupportedError(f"onnx cannot bring {file} from opset {found} to {opset}: {said}") from error


def _slim(model: Any, file: Path) -> tuple[Any, tuple[str, ...]]:
    """``model`` simplified where that leaves fewer operators, and what came of it."""
    import onnx
    import onnxslim

    kept = onnx.ModelProto()
    kept.CopyFrom(model)  # it works on what it is given
    before = len(model.graph.node)
    try:
        with quiet():
            made = onnxslim.slim(model)
    except Exception as error:
        said = " ".join(str(error).split())[:300]
        raise UnsupportedError(f"onnxslim cannot simplify {file}: {type(error).__name__}: {said}") from error
    if len(made.graph.node) >= before:
        return kept, ("onnxslim leaves no fewer operators: the graph stays as it is",)
    return made, (f"onnxslim: {before} operators became {len(made.graph.node)}",)
