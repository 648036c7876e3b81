"""Scenarios with arrivals, and long work, through real workers: what was asked for happened and is accounted for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit.errors import DeviceError, UsageError
from edgekit.pipeline.bench import bench
from edgekit.report.bench import bench_report

MakeOnnx = Callable[..., Path]


def entry_of(model: str, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = bench(model, workers=1, **options).document()["results"][0]
    return found


def test_server_at_a_rate(models: tuple[str, str]) -> None:
    result = bench(models, scenario="server", rate=200, seconds=0.5, workers=1)
    for entry in result.document()["results"]:
        found = entry["server"]
        assert entry["scenario"] == "server"
        assert entry["samples"] + found["given_up"] == found["queries"]
        assert 40 < found["queries"] < 180  # 100 expected, standard deviation 10
        assert 0 < found["utilisation"] <= 1
        assert found["arrivals"] == "poisson"
        assert entry["latency_ms"]["p50"] >= found["service_ms"]["p50"] * 0.9
        assert 0 < entry["throughput_per_s"] < 400
    assert result.document()["comparisons"] == []
    assert any("queries at 200 a second" in part for part in bench_report(result.record) if isinstance(part, str))


def test_server_finds_a_rate(models: tuple[str, str]) -> None:
    entry = entry_of(models[0], scenario="server", latency_bound=1000.0, seconds=0.6)
    found = entry["server"]
    assert found["passed"]
    assert found["highest_rate_per_s"] <= found["capacity_per_s"]
    assert found["trials"][-1]["passed"]
    assert entry["latency_ms"]["p99"] <= 1000


def test_a_bound_that_cannot_be_kept_is_an_error_that_says_why(models: tuple[str, str]) -> None:
    result = bench(models[1], scenario="server", latency_bound=1e-4, seconds=0.3, workers=1)
    failure = result.failure()
    assert isinstance(failure, DeviceError)
    assert "no rate was found at which p99 stays within 0.0001 ms" in str(failure)


def test_a_line_without_end_is_said(models: tuple[str, str]) -> None:
    found = entry_of(models[1], scenario="server", rate=2e6, seconds=0.05)["server"]
    assert found["given_up"] > 0
    assert found["longest_line"] > 100


def test_a_sensor_misses_deadlines_it_cannot_keep(models: tuple[str, str]) -> None:
    kept = entry_of(models[0], scenario="fixed-rate", rate=50, latency_bound=5000.0, seconds=0.3)["fixed_rate"]
    assert (kept["missed"], kept["deadline_ms"], kept["queries"]) == (0, 5000, 15)
    lost = entry_of(models[0], scenario="fixed-rate", rate=50, latency_bound=1e-6, seconds=0.3)["fixed_rate"]
    assert (lost["missed"], lost["share_missed"]) == (15, 1)
    assert entry_of(models[0], scenario="fixed-rate", rate=50, seconds=0.3)["fixed_rate"]["deadline_ms"] == 20


def test_multi_stream_is_a_batch_where_the_file_allows_it(make_onnx: MakeOnnx, tmp_path: Path) -> None:
    free = entry_of(str(make_onnx(tmp_path / "f.onnx", 2, batch="n")), scenario="multi-stream", streams=4, seconds=0.3)
    fixed = entry_of(str(make_onnx(tmp_path / "g.onnx", 2)), scenario="multi-stream", streams=4, seconds=0.3)
    for entry in (free, fixed):
        assert entry["batch"] == 4
        assert entry["throughput_per_s"] == pytest.approx(4000 / entry["latency_ms"]["mean"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"scenario": "server"}, "needs --latency-bound MS"),
        ({"scenario": "fixed-rate"}, "needs --rate HZ"),
        ({"rate": 5}, "belongs to --scenario"),
        ({"scenario": "server", "rate": -1}, "more than 0"),
        ({"scenario": "server", "rate": 5, "fail_slower": 3}, "drop one of them"),
        ({"streams": 4}, "with --scenario multi-stream"),
        ({"scenario": "multi-stream", "streams": 0}, "at most 1024"),
        ({"sustain": "soon"}, "such as 90s, 30m or 2h"),
        ({"sustain": "0.5s"}, "such as 90s, 30m or 2h"),
        ({"scenario": "burst"}, "--scenario is .burst.; there are"),
    ],
)
def test_what_makes_no_sense_is_refused(models: tuple[str, str], options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        bench(models[0], **options)


def test_sustain_notes_latency_against_time(models: tuple[str, str]) -> None:
    result = bench(models[0], seconds=0.3, workers=1, sustain="1s")
    found = result.document()["results"][0]["sustain"]
    times = [window["at_s"] for window in found["windows"]]
    assert times == sorted(times)
    assert times[0] < 0.5 and times[-1] < 1
    assert all(window["runs"] > 0 and window["p50_ms"] <= window["max_ms"] for window in found["windows"])
    assert (found["throttled_at_s"] is None) == (found["reason"] is not None)
    assert any("1 s of work" in part for part in bench_report(result.record) if isinstance(part, str))
