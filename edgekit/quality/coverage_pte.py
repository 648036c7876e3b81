"""Quantization coverage of ExecuTorch programs, by the types of the tensors of XNNPACK's nodes and other kernels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgekit import pte_reader
from edgekit.pte_reader import Call
from edgekit.results.compressed import CoverageReport, LeftFloat
from edgekit.xnnpack_reader import CONVERSION

_REAL = "its inputs are float"
_KERNEL = "XNNPACK did not take it, and ExecuTorch's own kernel computes in float"
_QUANTIZED = "quantized_decomposed::"


def pte_coverage(path: Path, reasons: Mapping[str, str]) -> CoverageReport:
    """The coverage of a ``.pte`` file; see :func:`edgekit.quality.coverage.coverage`.

    A node of XNNPACK counts as integer where all it reads and what it gives are integers with a scale; one that gives
    real values from integers (a last layer whose output is not quantized) as hybrid. Weights outside of XNNPACK's parts
    are not in the share.
    """
    data = path.read_bytes()
    conversions = integers = hybrid = operators = 0
    left = []
    for call in pte_reader.calls(data):
        if call.name == CONVERSION or call.name.startswith(_QUANTIZED):
            conversions += 1
            continue
        if not call.by and not call.real:  # sizes and indices
            continue
        operators += 1
        if call.integers:
            integers += 1
            hybrid += call.real
        else:
            left.append(_left(call, reasons))
    held, all_bytes = pte_reader.xnnpack_weight_bytes(data)
    return CoverageReport(
        operators=operators,
        integer_operators=integers,
        hybrid_operators=hybrid,
        weight_bytes_integer_share=held / all_bytes if all_bytes else 0.0,
        conversions=conversions,
        left_float=tuple(left),
    )


def _left(call: Call, reasons: Mapping[str, str]) -> LeftFloat:
    return LeftFloat(call.name, call.name, reasons.get(call.name, _REAL if call.by else _KERNEL))
