"""Each runtime's profiler on real files: what it accounts for and to whom, never how long anything takes."""

from __future__ import annotations

import struct
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edgekit.errors import DeviceError, UnsupportedError
from edgekit.extras.profile import check_profile, profile
from edgekit.extras.profile.alone import operator_rows
from edgekit.extras.profile.litert import library_rows, read_rows
from edgekit.extras.profile.litert_c import CompiledModel, Event, read_events
from edgekit.extras.profile.ort import WARMUP_RUNS
from edgekit.extras.profile.ort import read_events as read_trace
from edgekit.extras.profile.rows import document
from edgekit.runtime import load
from edgekit.runtime.litert import LiteRtRunner
from edgekit.types import Array

FEED = {"x": np.ones((1, 48, 48, 16), np.float32)}


def shares(found: dict[str, Any], table: str, label: str) -> dict[str, float]:
    return {row[label]: row["share"] for row in found[table]}


def indexed(runner: LiteRtRunner) -> list[tuple[int, Array]]:
    return [(int(port.key), array) for port, array in runner.bound(FEED)]


def test_litert(conv_tflite: Path) -> None:
    with load(conv_tflite) as runner:
        assert isinstance(runner, LiteRtRunner)
        rows, runs, run_ms = library_rows(runner, indexed(runner), 0.1)
    found = document(rows, tool="", runs=runs, run_ms=run_ms, resolution_us=1)
    assert {row["type"].partition(" ")[0]: row["nodes"] for row in found["types"]} == {"Convolution": 2, "CUMSUM": 1}
    assert set(shares(found, "by", "by")) == {"XNNPACK", "TFLite kernels"}
    layers = shares(found, "layers", "layer")
    assert set(layers) == {"stem.0", "sum", "head.1"}
    # The same convolution twice, a hundred times the work of the sum: a third of the time each at the very least.
    assert min(layers["stem.0"], layers["head.1"]) > 0.25
    assert sum(layers.values()) == pytest.approx(1)


def test_litert_with_another_batch(files: ModuleType, tmp_path: Path) -> None:
    with load(files.dense_tflite(tmp_path / "d.tflite", dynamic=True)) as runner:
        model = CompiledModel(runner.artifact.path, 1)
        try:
            model.bind([(0, np.ones((5, 4), np.float32))])
            events = model.profiled(3)
        finally:
            model.close()
    rows, _ = read_rows(events, 3)
    assert [row.calls for row in rows if row.type.startswith("Fully Connected")] == [1.0]


def test_operators_alone_where_the_profiler_does_not_serve(files: ModuleType, tmp_path: Path) -> None:
    with load(files.recurrent_tflite(tmp_path / "r.tflite")) as runner:
        with pytest.raises(DeviceError, match="CreateModelFromFile"):
            CompiledModel(tmp_path / "missing.tflite", 1)
        found = profile(runner, {"x": np.ones((1, 3, 2), np.float32)}, 0.1)
    assert "each operator in a file of its own" in found["tool"]
    assert found["reason"]
    assert [(row["type"], row["by"]) for row in found["nodes"]] == [("UNIDIRECTIONAL_SEQUENCE_RNN", "TFLite kernels")]


def test_operators_alone_get_the_values_of_the_model(conv_tflite: Path) -> None:
    with load(conv_tflite) as runner:
        assert isinstance(runner, LiteRtRunner)
        rows = operator_rows(runner, indexed(runner))
    assert [(row.type, row.layer) for row in rows] == [("CONV_2D", "stem.0"), ("CUMSUM", "sum"), ("CONV_2D", "head.1")]
    assert all(row.ms > 0 for row in rows)


def test_onnxruntime(files: ModuleType, tmp_path: Path) -> None:
    with load(files.dense_onnx(tmp_path / "d.onnx")) as runner:
        name = runner.signature.inputs[0].name
        found = profile(runner, {name: np.ones((1, 4), np.float32)}, 0.05)
    assert found["runs"] >= 1
    assert {row["by"] for row in found["nodes"]} == {"CPUExecutionProvider"}
    assert sum(row["share"] for row in found["nodes"]) == pytest.approx(1)


def test_torch(tmp_path: Path) -> None:
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.body(x) + 1  # type: ignore[no-any-return]

    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(Net().eval(), (torch.ones(2, 64),)), path)
    with load(path) as runner:
        found = profile(runner, {"x": np.ones((2, 64), np.float32)}, 0.05)
    layers = {row["type"].split(".")[1]: row["layer"] for row in found["nodes"]}
    assert layers == {"linear": "body.0", "relu": "body.1", "add": ""}


def test_a_runtime_without_a_profiler_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="tflite-runtime has no operator profiler"):
        check_profile("tflite-runtime")


def test_a_loop_holds_what_is_in_it() -> None:
    """WHILE runs 100 us, of which its body's operator, twice, takes 30 each."""
    events = [
        Event("Invoke", 1, 0, 120, 0, 0),
        Event("WHILE", 2, 1, 100, 4, 0),
        Event("Invoke", 1, 2, 31, 0, 0),  # the body's own, not another run
        Event("ADD", 2, 2, 30, 0, 2),
        Event("ADD", 2, 40, 30, 0, 2),
        Event("Softmax (NC, F32)", 8, 101, 10, 0, 0),
    ]
    rows, run_ms = read_rows(events, 1)
    assert run_ms == pytest.approx(0.12)
    assert {row.name: (row.ms, row.calls) for row in rows} == {
        "4 WHILE": (pytest.approx(0.04), 1),
        "0 ADD in graph 2": (pytest.approx(0.06), 2),
        "XNNPACK 1": (pytest.approx(0.01), 1),
    }


def test_operators_and_run_are_of_the_same_undisturbed_runs() -> None:
    """One run of three was held up for a millisecond in its operator: neither the sum nor the run knows of it."""
    events = []
    for run, held_us in enumerate((0, 1000, 0)):
        at = 10_000 * run
        events += [Event("Invoke", 1, at, 60 + held_us, 0, 0), Event("ADD", 2, at + 1, 50 + held_us, 0, 0)]
    rows, run_ms = read_rows(events, 3)
    assert [(row.ms, row.calls) for row in rows] == [(pytest.approx(0.05), 1)]
    assert run_ms == pytest.approx(0.06)
    trace: list[dict[str, Any]] = []
    add = {"op_name": "Add", "provider": "CPUExecutionProvider"}
    for run, held_us in enumerate((0,) * WARMUP_RUNS + (0, 1000, 0)):
        trace.append({"cat": "Session", "name": "model_run", "ts": 10_000 * run, "dur": 60 + held_us})
        trace.append({"cat": "Node", "name": "a", "ts": 10_000 * run + 1, "dur": 50 + held_us, "args": add})
    rows, runs, run_ms = read_trace(trace)
    assert ([row.ms for row in rows], runs, run_ms) == ([pytest.approx(0.05)], 3, pytest.approx(0.06))


@pytest.mark.parametrize("size", [88, 104, 120])
def test_events_of_every_known_size(size: int) -> None:
    one = struct.pack("<QixxxxQQ", 0, 2, 1000, 7).ljust(size - 24, b"\0") + struct.pack("<QQixxxx", 5, 0, 1)
    assert len(one) == size
    found = read_events(one * 4 + bytes(1024), 4)
    assert [(e.elapsed_us, e.index, e.type) for e in found] == [(7, 5, 2)] * 4


def test_events_of_an_unknown_form_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="a form edgekit does not know"):
        read_events(bytes(range(256)) * 8, 4)


def test_trace_of_onnxruntime_leaves_the_warm_up_out_and_takes_loops_apart() -> None:
    events: list[dict[str, Any]] = []
    for run in range(WARMUP_RUNS + 2):
        ts, slow = 1000 * run, 10 if run < WARMUP_RUNS else 1
        events.append({"cat": "Session", "name": "model_run", "ts": ts, "dur": 500})
        loop = {"op_name": "Loop", "provider": "CPUExecutionProvider"}
        events.append({"cat": "Node", "name": "l_kernel_time", "ts": ts + 1, "dur": 100 * slow, "args": loop})
        inner = {"op_name": "Add", "provider": "CPUExecutionProvider"}
        events += [
            {"cat": "Node", "name": "a_kernel_time", "ts": ts + 2 + 40 * k, "dur": 30, "args": inner} for k in (0, 1)
        ]
    rows, runs, run_ms = read_trace(events)
    assert (runs, run_ms) == (2, pytest.approx(0.5))
    assert {row.name: (row.ms, row.calls) for row in rows} == {
        "l": (pytest.approx(0.04), 1),
        "a": (pytest.approx(0.06), 2),
    }
