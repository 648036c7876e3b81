"""The curve of ``--threads``, from made-up blocks whose ratios are known."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.bench.curve import thread_curves
from edgekit.bench.replicas import turns
from edgekit.bench.result import CellResult, Setting
from edgekit.results.bench import CurvePoint
from edgekit.results.compressed import Device
from edgekit.types import Evidence

DEVICE = Device(name="cpu", kind="cpu", evidence=Evidence.MEASURED, cpu="X")


def cell(threads: int, each_ms: float, model: str = "m.onnx", rounds: int = 12, calls: int = 20) -> CellResult:
    setting = Setting(model, "0" * 64, "onnx", 1, "onnxruntime", DEVICE, threads, 1, "single-stream")
    blocks = tuple(np.full(calls, round(each_ms * 1e6), np.int64) for _ in range(rounds))
    return CellResult(setting, blocks=blocks, owners=tuple(turns(rounds, 2)))


def test_speed_up_and_efficiency() -> None:
    (curve,) = thread_curves([cell(4, 2.0), cell(1, 4.0), cell(2, 2.5)])
    assert [point.threads for point in curve.points] == [1, 2, 4]
    assert [point.speedup for point in curve.points] == pytest.approx([1.0, 1.6, 2.0])
    assert [point.efficiency for point in curve.points] == pytest.approx([1.0, 0.8, 0.5])
    assert curve.best == 4
    low, high = curve.points[1].ci95 or (0, 0)
    assert low < 1.6 < high


def test_each_file_has_its_own_and_one_count_has_none() -> None:
    curves = thread_curves([cell(1, 4.0), cell(2, 2.0), cell(1, 1.0, "n.onnx")])
    assert [curve.model for curve in curves] == ["m.onnx"]
    assert thread_curves([cell(1, 4.0)]) == []


def test_too_few_samples_give_a_point_without_figures() -> None:
    (curve,) = thread_curves([cell(1, 4.0), cell(2, 2.0, rounds=2, calls=2)])
    assert curve.points[1] == CurvePoint(threads=2, p50_ms=None, speedup=None, ci95=None, efficiency=None)
    assert curve.best == 1
