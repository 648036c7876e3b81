"""Quantization coverage of a model file: which operators run on integers, which stay in float, and why.

Works on files from elsewhere. ONNX is read as QDQ graphs are executed: an operator counts as integer when every tensor
that it reads comes out of a DequantizeLinear and everything it writes goes into a QuantizeLinear, and onnxruntime has a
kernel to fuse that (checked against its optimised graph by the tests). TFLite and ExecuTorch are read by the types of
their tensors.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgekit.errors import ModelError, UnsupportedError
from edgekit.graph.onnx import load_onnx
from edgekit.graph.tflite import read_tflite
from edgekit.quality.coverage_onnx import onnx_coverage
from edgekit.quality.coverage_pte import pte_coverage
from edgekit.quality.coverage_tflite import tflite_coverage
from edgekit.quality.half_weights import half_weights
from edgekit.reading import reading
from edgekit.results.compressed import CoverageReport
from edgekit.types import Artifact, Format


def coverage(artifact: Artifact, reasons: Mapping[str, str] | None = None) -> CoverageReport:
    """What of a model file is integer.

    Args:
        artifact: an ONNX, TFLite or ExecuTorch file, from edgekit or from elsewhere.
        reasons: operator type or name -> why a pass left it in float, in place of what the file itself shows.

    Raises:
        UnsupportedError: a format without quantized operators (.pt2, SavedModel).
        ModelError: the file cannot be read.
    """
    with reading(artifact.path, ModelError, f"a graph of {artifact.format}"):
        if artifact.format is Format.ONNX:
            return onnx_coverage(artifact.path, reasons or {})
        if artifact.format is Format.TFLITE:
            return tflite_coverage(artifact.path, reasons or {})
        if artifact.format is Format.PTE:
            return pte_coverage(artifact.path, reasons or {})
    raise UnsupportedError(
        f"{artifact.path} is a {artifact.format} model; coverage is only available for .onnx, .tflite and .pte files"
    )


def quantized_already(artifact: Artifact) -> str:
    """What shows that a file is quantized already; the empty string for a float file.

    Weights that are float16 in the file and float32 when it runs leave it a float file, as MediaPipe ships them.
    """
    for step in artifact.card.steps if artifact.card is not None else ():
        if step.name == "quantize":
            return f"its card has a step quantize, scheme {step.params.get('scheme', 'unknown')}"
    found, scaled = coverage(artifact), _has_scales(artifact)
    if found.integer_operators and scaled:
        return f"{found.integer_operators} of {found.operators} operators run on integers"
    share = found.weight_bytes_integer_share
    if (scaled and found.conversions and share > 0) or share > 0.5:
        return f"{share:.0%} of its weight bytes are integers"
    if not all(half_weights(artifact).values()):
        return "its weights are float16"
    return ""


def _has_scales(artifact: Artifact) -> bool:
    """Whether anything in the file is held with a scale: integers without one are indices and sizes."""
    if artifact.format is Format.TFLITE:
        model = read_tflite(artifact.path)
        held = (t.quantization for g in model.subgraphs for t in g.tensors if t.quantization is not None)
        return any(q.scale is not None and len(q.scale) > 0 for q in held)
    kinds = {node.op_type for node in load_onnx(artifact.path, weights=False).graph.node}
    return any(kind.startswith(("Q", "Dequantize", "DynamicQuantize")) or "Integer" in kind for kind in kinds)
