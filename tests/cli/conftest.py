"""Model files of one operator, made by the doctor's own bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.pipeline.doctor import TINY_ONNX, TINY_TFLITE


@pytest.fixture
def tiny_onnx(tmp_path: Path) -> Path:
    """y = Relu(x), float32 (1, 4)."""
    path = tmp_path / "tiny.onnx"
    path.write_bytes(TINY_ONNX)
    return path


@pytest.fixture
def tiny_tflite(tmp_path: Path) -> Path:
    """y = Relu(x), float32 (1, 4)."""
    path = tmp_path / "tiny.tflite"
    path.write_bytes(TINY_TFLITE)
    return path
