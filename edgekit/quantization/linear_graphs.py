"""Files of both formats as :class:`edgekit.quantization.linear_graph.LinearGraph`."""

from __future__ import annotations

from pathlib import Path

from edgekit.quantization.linear_graph import LinearGraph
from edgekit.quantization.onnx.linear_graph import LinearOnnx
from edgekit.quantization.tflite.linear_graph import LinearTflite
from edgekit.types import Format


def linear_graph(path: Path, format_: Format) -> LinearGraph:
    """The file at ``path`` taken apart.

    Raises:
        ModelError: it cannot be prepared to be quantized.
    """
    return LinearOnnx(path) if format_ is Format.ONNX else LinearTflite(path)
