"""A float file in the form that it was quantized from, and that form beside what was made of it."""

from __future__ import annotations

from pathlib import Path

from edgekit.passes import onnx_prepare, tflite_prepare
from edgekit.quality.readings import Pair
from edgekit.quality.readings_onnx import OnnxPair
from edgekit.quality.readings_tflite import TflitePair
from edgekit.types import Artifact, Format
from edgekit.wire_tflite import without_prefix


def prepared_bytes(source: Artifact) -> bytes:
    """The float file as the quantizers rewrite it first: batch norms folded, one opset, names of its own.

    Raises:
        ModelError: it cannot be rewritten.
    """
    if source.format is Format.ONNX:
        return bytes(onnx_prepare.prepared(source.path).SerializeToString())
    return tflite_prepare.prepared(source.path)


def pair_of(prepared: bytes, made: Path, format_: Format) -> Pair:
    """The file ``made`` beside what :func:`prepared_bytes` gave of its parent."""
    if format_ is Format.TFLITE:
        return TflitePair(prepared, without_prefix(made.read_bytes()))
    import onnx

    return OnnxPair(onnx.load_from_string(prepared), onnx.load(str(made)))
