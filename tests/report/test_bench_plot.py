"""The picture of a bench result: what was drawn is read back from the SVG, a PNG by its size."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.cli.program import run as program
from edgekit.documents import typed
from edgekit.errors import UsageError
from edgekit.report import bench_plot
from edgekit.report.bench_plot import check_plot, draw
from edgekit.results.bench import BenchRecord


def record(*entries: dict[str, Any]) -> BenchRecord:
    return typed(BenchRecord, {"results": entries}, "it")


def entry(name: str, ms: float, **more: Any) -> dict[str, Any]:
    samples = np.random.default_rng(0).normal(ms * 1e6, ms * 2e4, 9000).astype(int).tolist()
    device = {"name": "cpu", "cpu": "Some CPU", "evidence": "measured"}
    where = {"device": device, "threads": 1, "runtime": "litert", "batch": 1, "scenario": "single-stream"}
    return {"model": f"dir/{name}", "samples_ns": samples, **where, **more}


STATE = {"runs": 9, "p99_ms": None, "max_ms": 3.0, "temperature_c": "unknown", "frequency_mhz": 2000.0, "busy": 1}
SUSTAIN = {
    "windows": [
        {"at_s": float(k), "p50_ms": 1 + 0.5 * (k > 5), "p90_ms": None if k == 3 else 2.0, **STATE} for k in range(12)
    ],
    "seconds": 12.0, "window_s": 1.0, "first_ms": 1.0, "last_ms": 1.5,
    "throttled_at_s": 6.0, "change": {"at_s": 6.0, "ratio": 1.5, "p": 0.0}, "reason": None,
}  # fmt: skip


def test_svg_says_what_it_shows(tmp_path: Path) -> None:
    document = record(entry("a.tflite", 1.0), entry("b.onnx", 2.0, sustain=SUSTAIN), entry("c", 1.0, error={}))
    draw(document, tmp_path / "p.tmp", ".svg")
    text = (tmp_path / "p.tmp").read_text()
    assert text.startswith("<?xml")
    for words in ("a.tflite (litert)", "b.onnx (litert)", "b.onnx (litert), p50", "measured on cpu, Some CPU"):
        assert f"<!-- {words}" in text  # matplotlib draws letters as paths and says them in a comment
    assert "<!-- c (litert)" not in text
    draw(document, tmp_path / "q.tmp", ".svg")
    assert (tmp_path / "q.tmp").read_text() == text  # the same result, the same file


def test_png_of_one_cell_and_of_none(tmp_path: Path) -> None:
    draw(record(entry("a.tflite", 1.0)), tmp_path / "one", ".png")
    assert struct.unpack(">II", (tmp_path / "one").read_bytes()[16:24]) == (1500, 630)
    draw(record(entry("a.tflite", 1.0, error={})), tmp_path / "none", ".PNG")
    assert (tmp_path / "none").read_bytes().startswith(b"\x89PNG")


def test_runs_that_are_not_shown_are_counted(tmp_path: Path) -> None:
    slow = entry("a", 1.0)
    slow["samples_ns"][:7] = [10**9] * 7
    draw(record(slow), tmp_path / "p", ".svg")
    assert "<!-- 7 slower runs are not shown" in (tmp_path / "p").read_text()


def test_refused_before_anything_is_timed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match=r"ends in \.png or \.svg"):
        check_plot(tmp_path / "p.pdf")
    assert program(["bench", "missing.onnx", "--plot", "p.gif"]) == 2  # not 3: the file was not looked for yet
    assert "--plot p.gif" in capsys.readouterr().err


def test_without_matplotlib_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_plot, "find_spec", lambda name: None)
    assert program(["bench", "missing.onnx", "--plot", "p.png"]) == 4
    assert "pip install 'edgekit[plot]'" in capsys.readouterr().err
