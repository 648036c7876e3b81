"""Operators of a TFLite file that a scheme leaves in float, see :mod:`edgekit.quantization.exclusions`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edgekit.errors import UnsupportedError
from edgekit.graph import ops
from edgekit.graph.tflite_editor import Editor
from edgekit.quantization.calibrate.histogram import Range
from edgekit.quantization.exclusions import MASKED, Ranged
from edgekit.quantization.onnx.weights import fits_half
from edgekit.types import Format

HALF = "half precision is too coarse or too small for its weights"
_AXES = {op.name: op.scale_axes[0] for op in ops.weighted(Format.TFLITE) if 1 in op.weights and op.scale_axes}
"""Operators whose second input holds weights -> the axis of its outputs."""


def exclusions(content: bytes, scheme: str, integer_io: bool, ranges: Mapping[str, Range]) -> dict[str, str]:
    """Name of an operator -> why ``scheme`` leaves it in float.

    Args:
        ranges: of the file's tensors, for the static schemes ``int8`` and ``int16x8``.

    Raises:
        UnsupportedError: ``fp16``, and no weights of the file can be float16.
    """
    if scheme == "fp16":
        return _beyond_half(content)
    found = Ranged.tflite(content, ranges).exclusions(integer_io)
    static = scheme in ("int8", "int16x8")
    return {name: why for name, why in found.items() if static or why == MASKED}


def _beyond_half(content: bytes) -> dict[str, str]:
    fits = dict(_weighted(content))
    if fits and not any(fits.values()):
        raise UnsupportedError(f"no weight can be float16: {HALF.replace('its', 'all')}; use int8-weights, with scales")
    return {name: HALF for name, held in fits.items() if not held}


def _weighted(content: bytes) -> Iterator[tuple[str, bool]]:
    """Every operator with constant weights, in all graphs, and whether float16 holds these."""
    for graph in Editor(content).graphs():
        for node in graph.raw.operators:
            axis = _AXES.get(graph.kind(node))
            weight = graph.data(int(node.inputs[1])) if axis is not None else None
            if weight is not None and axis is not None:
                yield graph.name(node.outputs[0]), fits_half(weight, (axis,))
