"""The passes beside the timed one, through real workers: what each says and refuses, and that it costs only itself."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.errors import DeviceError, UsageError
from edgekit.extras import energy
from edgekit.extras.fit import EXTRA as FIT
from edgekit.extras.fit import smallest
from edgekit.pipeline.bench import bench
from edgekit.report.bench import bench_csv, bench_markdown, bench_report

QUICK: dict[str, Any] = {"seconds": 0.3, "workers": 1}


@pytest.fixture(scope="module")
def entry(models: tuple[str, str], conv_tflite: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One run with everything, of an ONNX file."""
    given = tmp_path_factory.mktemp("input") / "x.npz"
    np.savez(given, x=np.ones((1, 64), np.float32))
    result = bench(models[0], input=str(given), cold=True, fit=True, probe=True, end_to_end=True, **QUICK)
    document = result.document()
    found: dict[str, Any] = document["results"][0]
    found["printed"] = "\n".join(part for part in bench_report(result.record) if isinstance(part, str))
    return found


def test_cold_starts(entry: dict[str, Any]) -> None:
    for way in ("first_process", "warm_disk", "compiled_cache"):
        row = entry["cold"][way]
        assert all(row[part] > 0 for part in ("process", "import", "load", "first"))
        assert row["total"] >= max(row["process"], row["load"])
        assert row["starts"] == 5
    assert (
        entry["cold"]["first_process"]["resident_share"] in (0, None)
        or entry["cold"]["first_process"]["resident_share"] <= 1
    )
    assert "file out of the page cache" in entry["printed"]


def test_fit_is_the_border(entry: dict[str, Any]) -> None:
    found = entry["fit"]
    assert found["evidence"] == "constrained"
    assert found["kind"] == "RLIMIT_DATA"
    by_limit = {row["limit_bytes"]: row["fits"] for row in found["probes"]}
    assert by_limit[found["limit_bytes"]]
    assert not by_limit[found["limit_bytes"] - found["resolution_bytes"]]
    assert all(row["why"] for row in found["probes"] if not row["fits"])
    assert "MiB and no less" in entry["printed"]


def test_end_to_end_is_more_than_the_run(entry: dict[str, Any]) -> None:
    stages = {row["stage"]: row["p50_ms"] for row in entry["end_to_end"]["stages"]}
    assert list(stages) == ["read and pre-process", "copy in", "run", "copy out", "post-process"]
    assert entry["end_to_end"]["total_ms"]["p50"] >= max(stages.values())
    assert "from raw sample to answer" in entry["printed"]


def test_probe(entry: dict[str, Any]) -> None:
    found = entry["probe"]
    assert found["denormals"]["weights"] == 64 * 64
    assert found["denormals"]["denormal"] == 0
    assert found["denormals"]["ratio"]["ratio_p50"] > 0
    assert found["input"]["ratio"]["verdict"] in ("faster", "slower", "same", "inconclusive")
    assert found["reset"]["samples"] >= 11


def test_memory_is_in_every_result(entry: dict[str, Any], conv_tflite: Path) -> None:
    assert entry["peak_memory_bytes"] >= entry["load_memory_bytes"] > 10_000_000
    assert entry["arena_bytes"] is None  # onnxruntime does not tell
    other = bench(str(conv_tflite), **QUICK).document()["results"][0]
    activations = 48 * 48 * 16 * 4
    # TFLite itself lays out what passes between the two parts that XNNPACK took: four tensors, which may share places
    assert 2 * activations <= other["arena_bytes"] <= 4 * activations + 4096


def test_what_a_runtime_has_not_is_absent_with_the_reason(conv_tflite: Path) -> None:
    found = bench(str(conv_tflite), cold=True, probe=True, **QUICK).document()["results"][0]
    assert "no cache of XNNPACK's packed weights" in found["cold"]["compiled_cache"]["absent"]
    assert "give --input FILE" in found["probe"]["input"]["absent"]


def test_a_pass_that_fails_costs_only_itself(models: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object, cell: object, result: object, options: object) -> Any:
        raise DeviceError("the worker is gone")

    monkeypatch.setattr(type(FIT), "measure", fail)
    result = bench(models[0], fit=True, probe=True, **QUICK)
    found = result.document()["results"][0]
    assert found["fit"] == {"error": {"type": "DeviceError", "message": "the worker is gone"}}
    assert found["latency_ms"]["p50"] > 0
    assert "error" not in found["probe"]
    assert result.failure() is None
    lines = [part for part in bench_report(result.record) if isinstance(part, str)]
    assert any("--fit failed: the worker is gone" in line for line in lines)


def test_end_to_end_needs_a_sample(models: tuple[str, str]) -> None:
    with pytest.raises(UsageError, match="give one with --input FILE"):
        bench(models[0], end_to_end=True, **QUICK)


@pytest.mark.parametrize("border", [1, 2, 99, 100, 101, 640])
def test_the_search_finds_any_border(border: int) -> None:
    tried = []

    def fits(limit: int) -> bool:
        tried.append(limit)
        return limit >= border * 10

    assert smallest(fits, 1000, 10) == border * 10
    assert len(tried) == len(set(tried)) <= 14


def test_what_never_fits_is_an_error() -> None:
    with pytest.raises(DeviceError, match="does not run under a limit"):
        smallest(lambda limit: False, 1000, 10)


def test_roofline(models: tuple[str, str], conv_tflite: Path) -> None:
    result = bench([models[1], str(conv_tflite)], roofline=True, **QUICK)
    dense, conv = (entry["roofline"] for entry in result.document()["results"])
    assert dense["macs"] == 40 * 64 * 64
    assert conv["macs"] == 2 * 48 * 48 * 16 * 144
    for found in (dense, conv):
        assert found["attained_flops_per_s"] > 0
        assert found["bound"] in ("compute", "memory")
        assert found["roof_flops_per_s"] <= found["peaks"]["flops_per_s"]
        assert found["share_of_roof"] == pytest.approx(found["attained_flops_per_s"] / found["roof_flops_per_s"])
    rows = list(csv.DictReader(io.StringIO(bench_csv(result.record))))
    assert [(int(row["macs"]), row["fit_bytes"]) for row in rows] == [(dense["macs"], ""), (conv["macs"], "")]
    assert [(row["operators"], row["delegated"]) for row in rows][1] == ("3", "2")
    assert "- conv.tflite: 10.62 M multiply-accumulates" in bench_markdown(result.record)
    assert any("multiply-accumulates" in part for part in bench_report(result.record) if isinstance(part, str))


def test_energy_is_measured_or_absent_with_the_reason(models: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "SECONDS", 0.4)
    result = bench(models[0], energy=True, **QUICK)
    found = result.document()["results"][0]["energy"]
    lines = [part for part in bench_report(result.record) if isinstance(part, str)]
    if "absent" in found:  # a machine without a meter, as most virtual ones are
        assert "meter" in found["absent"] or "chmod" in found["absent"]
        assert any("energy: none" in line for line in lines)
    else:
        assert found["runs"] >= 1
        assert all(row["joules"] >= 0 for row in found["meters"])
        assert any("mJ a run" in line for line in lines)
