"""``export --to onnx-17``: ONNX of an operator set that older runtimes read, whatever --opset says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgekit.converters.base import Capture
from edgekit.converters.torch_to_onnx import TorchToOnnx


class Opset17(TorchToOnnx):
    """Writes the file, and returns notes; the proof and the card are edgekit's."""

    def convert(self, capture: Capture, target: Path) -> tuple[str, ...]:
        older = Capture(capture.network, replace(capture.options, opset=17))
        return (*super().convert(older, target), "written for opset 17")
