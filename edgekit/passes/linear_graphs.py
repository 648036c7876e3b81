"""Files of both formats as :class:`edgekit.passes.linear_graph.LinearGraph`."""

from __future__ import annotations

from pathlib import Path

from edgekit.passes.linear_graph import LinearGraph
from edgekit.passes.linear_graph_onnx import LinearOnnx
from edgekit.passes.linear_graph_tflite import LinearTflite
from edgekit.types import Format


def linear_graph(path: Path, format_: Format) -> LinearGraph:
    """The file at ``path`` taken apart.

    Raises:
        ModelError: it cannot be prepared to be quantized.
    """
    return LinearOnnx(path) if format_ is Format.ONNX else LinearTflite(path)
