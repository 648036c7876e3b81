"""A float file in the form that it was quantized from, and that form beside what was made of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgekit.flatbuffer_reader import without_prefix
from edgekit.passes import Pass, PassContext
from edgekit.quality.readings import Pair
from edgekit.quality.readings_onnx import OnnxPair
from edgekit.quality.readings_tflite import TflitePair
from edgekit.quantization.onnx import prepare as onnx_prepare
from edgekit.quantization.tflite import prepare as tflite_prepare
from edgekit.quantization.tflite.quantize import QuantizeTflite
from edgekit.quantization.tflite.stateless import is_stateless
from edgekit.types import Artifact, Format


def prepared_bytes(source: Artifact, quantizer: Pass | None = None) -> bytes:
    """The float file as the quantizers rewrite it first: batch norms folded, one opset, names of its own.

    Args:
        quantizer: what quantizes it, which may rewrite more.

    Raises:
        ModelError: it cannot be rewritten.
    """
    if source.format is Format.ONNX:
        return bytes(onnx_prepare.prepared(source.path).SerializeToString())
    if isinstance(quantizer, QuantizeTflite):
        return quantizer.float_form(source)
    return tflite_prepare.prepared(source.path)


def without_reset(source: Artifact, made: Path, quantizer: Pass, folder: Path) -> Path:
    """The file ``made`` of ``source`` without the steps that let recurrent layers start every call from zeros, which
    no operator of the parent is beside: quantized once more; ``made`` itself where it has none."""
    if not isinstance(quantizer, QuantizeTflite) or quantizer.stateful or not is_stateless(source.path):
        return made
    bare = folder / "bare.tflite"
    replace(quantizer, stateful=True).apply(source, PassContext(bare))
    return bare


def pair_of(prepared: bytes, made: Path, format_: Format) -> Pair:
    """The file ``made`` beside what :func:`prepared_bytes` gave of its parent."""
    if format_ is Format.TFLITE:
        return TflitePair(prepared, without_prefix(made.read_bytes()))
    import onnx

    return OnnxPair(onnx.load_from_string(prepared), onnx.load(str(made)))
