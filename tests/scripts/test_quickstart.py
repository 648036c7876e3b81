"""The sentence of the quickstart follows from its rows."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgekit.pipeline.bench import bench
from edgekit.pipeline.doctor import TINY_ONNX


@pytest.fixture
def quickstart(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("quickstart", root / "scripts/quickstart.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _row(stage: str, format_: str, drop: float, p50: float | None, size: int = 100) -> dict[str, Any]:
    return {"stage": stage, "format": format_, "file": f"{stage}.{format_}", "drop": drop, "p50_ms": p50, "bytes": size}


def test_fastest_that_lost_little(quickstart: ModuleType) -> None:
    rows = [_row("float", "onnx", 0, 1.0), _row("pruned", "onnx", 0.011, 0.2), _row("int8", "onnx", 0.005, 0.5, 25)]
    choice = quickstart.choose(rows)
    assert choice["file"] == "int8.onnx"
    assert "0.500 ms, float onnx 1.00 ms" in choice["sentence"]
    assert "loses 0.50 points and takes 25% of the bytes" in choice["sentence"]


def test_faster_but_lost_more(quickstart: ModuleType) -> None:
    choice = quickstart.choose([_row("float", "onnx", 0, 1.0), _row("int8", "onnx", 0.02, 0.5)])
    assert choice["file"] == "float.onnx"
    assert "faster, but lost more: int8.onnx" in choice["sentence"]


def test_nothing_is_faster(quickstart: ModuleType) -> None:
    choice = quickstart.choose([_row("float", "tflite", 0, 1.0), _row("int8", "tflite", -0.01, 1.5)])
    assert choice["file"] == "float.tflite"
    assert "neither pruning nor int8 is faster" in choice["sentence"]


def test_nothing_was_timed(quickstart: ModuleType) -> None:
    assert quickstart.choose([_row("float", "onnx", 0, None)])["file"] is None


def test_the_ratio_is_that_of_the_bench(quickstart: ModuleType, tmp_path: Path) -> None:
    files = [tmp_path / "parent.onnx", tmp_path / "child.onnx"]
    for file in files:
        file.write_bytes(TINY_ONNX)
    found = bench(files, seconds=0.2, workers=1)
    parent, child = found.results
    told, wanted = quickstart.against_parent(child, parent), found.comparisons[0].document()
    assert {key: told[key] for key in ("ratio_p50", "ci95", "verdict")} == {
        key: wanted[key] for key in ("ratio_p50", "ci95", "verdict")
    }


@pytest.mark.slow
def test_the_whole_line(root: Path, tmp_path: Path) -> None:
    """What README's first command runs, in an empty folder."""
    done = subprocess.run(
        [sys.executable, root / "scripts/quickstart.py"], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    out = tmp_path / "runs/quickstart"
    document = json.loads((out / "results.json").read_text(encoding="utf-8"))
    rows = {(row["stage"], row["format"]): row for row in document["rows"]}
    assert set(rows) == {(stage, name) for stage in ("float", "pruned", "int8") for name in ("onnx", "tflite")}
    for (stage, name), row in rows.items():
        assert (out / row["file"]).stat().st_size == row["bytes"]
        assert row["accuracy"] > 0.9, row  # of ten digits; trained for seconds
        assert row["bytes"] < rows["float", name]["bytes"] or stage == "float"
        assert row["verdict"] in (None, "faster", "same", "slower", "inconclusive")
    assert document["ship"]["sentence"] in " ".join(done.stdout.split())  # the terminal's width breaks the line
