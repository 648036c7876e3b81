"""The tables of schemes: a line for each file, also for those that are refused, and where they are written."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def script(root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(root / "scripts"))
    return importlib.import_module("compare_schemes")


def network() -> dict[str, Any]:
    made = {
        "format": "onnx",
        "scheme": "int8",
        "artifact": {"bytes": 30},
        "parent": {"bytes": 100},
        "account": {"operators": 8, "integer_operators": 6, "integer_macs_share": 0.91},
        "quality": {"metric": "accuracy", "before": 0.9, "after": 0.88, "drop": 0.02, "drop_ci95": [0.01, 0.03]},
        "time": {
            "ratio_p50": 0.5,
            "ci95": [0.4, 0.6],
            "verdict": "faster",
            "device": {"name": "cpu", "kind": "cpu", "evidence": "measured", "cpu": "a CPU"},
            "seconds": 0.5,
        },
    }
    refused = {"format": "tflite", "scheme": "fp16", "refused": "it grew"}
    environment = {"cpu": "a CPU", "cores": 2, "versions": {"numpy": "2"}, "load": [0.1, 0.1, 0.1]}
    return {"network": "net", "rows": [made, refused], "environment": environment}


def test_a_line_for_each_file(script: ModuleType) -> None:
    text = script.page([network()], argparse.Namespace(limit=300, seconds=0.5))
    assert (
        "| net | `int8` | 0.30 | 6 of 8, 91% | accuracy 90.00% → 88.00% | -2.00 points (-3.00 to -1.00) | "
        "0.50 (0.40 to 0.60) | faster |"
    ) in text
    assert "| net | `fp16` | refused: it grew |" in text
    assert "a CPU, 2 cores" in text and "first 300 test samples" in text
