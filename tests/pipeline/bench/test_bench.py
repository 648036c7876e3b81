"""The bench end to end, through real workers on tiny files: structure and failures, never how long anything takes."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit.bench.clock import TimedBlock, WarmupRule
from edgekit.cli.program import run as program
from edgekit.documents import typed
from edgekit.errors import (
    DeviceError,
    GateError,
    InputError,
    ModelError,
    ParityError,
    UnsupportedError,
    UsageError,
    WorkerCrashError,
)
from edgekit.pipeline.bench import BenchResult, bench
from edgekit.pipeline.bench import timing as verb
from edgekit.pipeline.bench.cell import Replica
from edgekit.pipeline.compare import compare
from edgekit.report.bench import bench_csv, bench_markdown, bench_report
from edgekit.results.bench import BenchRecord
from edgekit.types import Evidence, Verdict

WIDTH = 64
QUICK = {"seconds": 0.3, "workers": 2}
MakeOnnx = Callable[..., Path]


def test_document_has_what_the_contract_says(result: BenchResult, models: tuple[str, str], saved: Path) -> None:
    document = json.loads(saved.read_text())
    assert document["schema"] == "edgekit.bench/1"
    assert [entry["model"] for entry in document["results"]] == list(models)
    for entry in document["results"]:
        assert entry["samples"] == len(entry["samples_ns"]) == sum(entry["blocks"]) >= 11
        assert len(entry["sha256"]) == 64
        assert entry["bytes"] == Path(entry["model"]).stat().st_size
        assert (entry["format"], entry["runtime"], entry["threads"]) == ("onnx", "onnxruntime", 1)
        assert (entry["batch"], entry["scenario"]) == (1, "single-stream")
        assert {"name": "cpu", "kind": "cpu", "evidence": "measured"}.items() <= entry["device"].items()
        assert entry["device"]["cpu"] == document["environment"]["cpu"]
        latency = entry["latency_ms"]
        assert latency["ci95_p50"][0] <= latency["p50"] <= latency["ci95_p50"][1]
        assert latency["min"] <= latency["p50"] <= latency["max"]
        assert (latency["p99"] is None) == (entry["samples"] < 662)
        assert ("p99" in entry["needs"]) == (entry["samples"] < 662)
        assert entry["cold_start_ms"]["load"] > 0
        assert entry["cold_start_ms"]["first"] > 0
        assert entry["peak_memory_bytes"] > 10_000_000
        assert entry["throughput_per_s"] == pytest.approx(1000 / latency["mean"])
        assert entry["noise"]["verdict"] in ("stable", "noisy")
        assert entry["delegation"]["nodes"] >= 1
        assert "error" not in entry


def test_the_protocol_says_how_it_was_measured(result: BenchResult, models: tuple[str, str]) -> None:
    protocol = json.loads(json.dumps(result.document()["protocol"]))
    assert protocol["options"]["models"] == list(models)
    assert protocol["noise_floor"]["source"] == "built-in"
    heat = protocol["thermometer"]
    assert heat["readings"] >= 3 + 1 + 2 * protocol["rounds"]  # and one more for each block that was taken again
    assert heat["quiet_ms"] > 0
    assert protocol["others"]["seconds"] > 0
    assert 0 <= protocol["parent_cores"] < 1
    assert protocol["kept_blocks"] == 0
    assert {owner for entry in result.document()["results"] for owner in entry["block_workers"]} == {"0.0", "0.1"}


def test_without_a_reference_workload_the_times_are_there(
    models: tuple[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from edgekit.pipeline.bench import machine

    def refused(device: object, **options: object) -> None:
        raise DeviceError("no more processes")

    monkeypatch.setattr(machine, "open_worker", refused)
    found = bench(models[0], **QUICK).document()
    assert found["results"][0]["latency_ms"]["p50"] > 0
    assert found["protocol"]["thermometer"] == {}
    assert "no reference workload on cpu" in caplog.text


def test_comparison_is_of_the_second_against_the_first(result: BenchResult, models: tuple[str, str]) -> None:
    (found,) = result.document()["comparisons"]
    assert (found["a"], found["b"]) == (models[1], models[0])
    assert found["verdict"] == "slower"  # forty times the work
    assert found["ci95"][0] <= found["ratio_p50"] <= found["ci95"][1]
    assert result.ratio(models[1]).verdict is Verdict.SLOWER
    with pytest.raises(UsageError, match="no comparison"):
        result.ratio("other.onnx")


def test_rounds_are_interleaved_as_recorded(result: BenchResult) -> None:
    document = result.document()
    order = document["protocol"]["order"]
    assert len(order) == document["protocol"]["rounds"]
    assert all(sorted(round_) == [0, 1] for round_ in order)
    assert order[1] == order[0][::-1]
    assert [len(entry["blocks"]) for entry in document["results"]] == [len(order)] * 2


def test_selftest_is_replayed(result: BenchResult) -> None:
    light, heavy = result.document()["results"]
    assert light["selftest"]["passed"] is True
    assert heavy["selftest"] is None


def test_wrong_outputs_are_not_timed(make_onnx: MakeOnnx, folder: Path, models: tuple[str, str]) -> None:
    wrong = make_onnx(folder / "wrong.onnx", 1, selftest_off_by=0.01)
    found = bench([models[0], wrong], **QUICK)
    entry = found.document()["results"][1]
    assert entry["error"]["type"] == "ParityError"
    assert (entry["latency_ms"], entry["samples"]) == (None, 0)
    assert isinstance(found.failure(), ParityError)
    with pytest.raises(ParityError, match="fails its own self-test"):
        bench(wrong, **QUICK)


def test_a_killed_worker_loses_only_its_cell(monkeypatch: pytest.MonkeyPatch, models: tuple[str, str]) -> None:
    plain = Replica.time_block
    victims: list[int] = []
    blocks = 0

    def time_block(self: Replica, *, warmup: WarmupRule, min_runs: int, min_ns: int, max_ns: int) -> TimedBlock:
        nonlocal blocks
        pid = self.client.hello["pid"]
        victims.append(pid)
        timed = max_ns > 1  # the first inference and the warm-up have a cap of one nanosecond
        blocks += timed and pid == victims[0]
        if blocks == 2 and pid == victims[0]:
            os.kill(pid, signal.SIGKILL)
        return plain(self, warmup=warmup, min_runs=min_runs, min_ns=min_ns, max_ns=max_ns)

    monkeypatch.setattr(Replica, "time_block", time_block)
    found = bench([models[1], models[0], models[0]], **QUICK)
    dead, *others = found.document()["results"]
    assert dead["error"]["type"] == "WorkerCrashError"
    assert "SIGKILL" in dead["error"]["message"]
    assert dead["latency_ms"] is None
    assert all(entry["latency_ms"]["p50"] > 0 for entry in others)
    assert found.comparisons == ()  # the baseline is the one that died
    failure = found.failure()
    assert isinstance(failure, WorkerCrashError)
    assert failure.exit_code == 4
    assert "1 of 3 cells failed" in str(failure)


def test_errors_of_several_kinds_are_a_device_error(result: BenchResult) -> None:
    broken = [
        replace(cell, error=error)
        for cell, error in zip(result.results, (ModelError("x"), DeviceError("y")), strict=True)
    ]
    failure = replace(result, results=tuple(broken)).failure()
    assert type(failure) is DeviceError


def test_no_milliseconds_from_an_emulator(result: BenchResult) -> None:
    cell = result.results[0]
    device = replace(cell.setting.device, evidence=Evidence.EMULATED)
    emulated = replace(cell, setting=replace(cell.setting, device=device))
    document = emulated.document()
    assert document["latency_ms"] is None
    assert document["throughput_per_s"] is None
    assert document["noise"] is None


def test_threads_devices_and_runtimes_are_cells(models: tuple[str, str]) -> None:
    found = bench(models, threads=[1, 2], runtime=["onnxruntime", "litert"], seconds=0.1, workers=1)
    assert [(Path(r.setting.model).stem, r.setting.threads) for r in found.results] == [
        ("light", 1), ("light", 2), ("heavy", 1), ("heavy", 2),
    ]  # fmt: skip
    assert [(c.threads, c.b == models[0]) for c in found.comparisons] == [(1, True), (2, True)]
    document = found.document()
    assert [[point["threads"] for point in curve["points"]] for curve in document["thread_curves"]] == [[1, 2]] * 2
    tables = [part for part in bench_report(found.record) if hasattr(part, "columns")]
    assert [table.columns[2] for table in tables[1:]] == ["speed-up [95%]"] * 2


def test_offline_takes_whole_batches(make_onnx: MakeOnnx, folder: Path, models: tuple[str, str]) -> None:
    free = make_onnx(folder / "free.onnx", 1, batch="batch")
    entry = bench(free, scenario="offline", batch=8, **QUICK).document()["results"][0]
    assert (entry["batch"], entry["scenario"]) == (8, "offline")
    assert entry["throughput_per_s"] == pytest.approx(8 * 1000 / entry["latency_ms"]["mean"])
    shaped = bench(free, scenario="offline", shape=["x=4x64"], **QUICK).document()["results"][0]
    assert shaped["batch"] == 4
    with pytest.raises(UnsupportedError, match="--dynamic x:0=batch"):
        bench(models[1], scenario="offline", batch=8, **QUICK)


def test_real_input(folder: Path, models: tuple[str, str]) -> None:
    path = folder / "sample.npz"
    np.savez(path, x=np.ones((1, WIDTH), np.float32))
    assert bench(models[0], input=str(path), seconds=0.1, workers=1).results[0].timed


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"scenario": "turbo"}, UsageError, "--scenario is 'turbo'; there are: single-stream"),
        ({"seconds": 0}, UsageError, "more than 0"),
        ({"threads": [0]}, UsageError, "give 1 or more"),
        ({"workers": 0}, UsageError, "--workers is 0; give 1 or more and at most 16"),
        ({"batch": 8}, UsageError, "needs --scenario offline"),
        ({"fail_slower": 3.0, "models": 1}, UsageError, "nothing to compare with"),
        ({"runtime": "litert"}, UsageError, "cannot run"),
        ({"runtime": "tensorrt"}, UsageError, "tensorrt"),
        ({"on": "toaster"}, UsageError, "toaster"),
        ({"shape": ["z=3"]}, UsageError, "no input or free dimension"),
        ({"turbo": True}, UsageError, "has no option turbo"),
    ],
)
def test_options_that_make_no_sense(
    models: tuple[str, str], options: dict[str, object], error: type[Exception], said: str
) -> None:
    given = models[: options.pop("models", 2)]
    with pytest.raises(error, match=said):
        bench(given, **{**QUICK, **options})


def test_a_missing_file_ends_before_anything_is_timed(models: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb, "time_interleaved", lambda *args, **more: pytest.fail("timed"))
    with pytest.raises(ModelError, match="does not exist"):
        bench([models[0], "missing.onnx"], **QUICK)


def test_profile_of_onnx(models: tuple[str, str]) -> None:
    profile = bench(models[1], profile=True, **QUICK).document()["results"][0]["profile"]
    kinds = {row["type"]: row["calls"] for row in profile["types"]}
    assert kinds["MatMul"] + kinds.get("FusedMatMul", 0) == 40
    assert sum(row["share"] for row in profile["nodes"]) == pytest.approx(1)


def test_full_delegation_is_a_gate(
    models: tuple[str, str], conv_tflite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gate = ["--require-full-delegation", "--seconds", "0.3", "--workers", "1"]
    assert program(["bench", models[0], *gate]) == 0
    assert program(["bench", str(conv_tflite), *gate, "--profile", "--json", "-"]) == 1
    shown = capsys.readouterr()
    assert "1 of 3 operators were not taken by XNNPACK: CUMSUM" in shown.err
    entry = json.loads(shown.out[shown.out.index("{\n") :])["results"][0]
    assert entry["delegation"]["left"] == [{"name": "net.Net/net.Sum_sum;", "type": "CUMSUM", "by": "TFLite kernels"}]
    shares = {row["by"]: row for row in entry["delegation"]["shares"]}
    assert shares["XNNPACK"]["share_nodes"] == pytest.approx(2 / 3)
    assert shares["XNNPACK"]["share_time"] + shares["TFLite kernels"]["share_time"] == pytest.approx(1)
    assert program(["bench", str(conv_tflite), "--seconds", "0.3", "--workers", "1"]) == 0
    assert "TFLite kernels 1 of 3 operators; left: CUMSUM" in capsys.readouterr().out  # said without being asked


def test_profile_of_what_has_none_is_refused_before_timing(
    conv_tflite: Path, other_python: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verb, "time_interleaved", lambda *args, **more: pytest.fail("timed"))
    with pytest.raises(UnsupportedError, match="tflite-runtime has no operator profiler"):
        bench(str(conv_tflite), on=f"python:{other_python}", profile=True, **QUICK)


def scaled(saved: Path, target: Path, factor: float, **device: str) -> Path:
    """The saved result with every time multiplied, or another device."""
    document = json.loads(saved.read_text())
    for entry in document["results"]:
        entry["samples_ns"] = [round(value * factor) for value in entry["samples_ns"]]
        entry["device"].update(device)
    target.write_text(json.dumps(document))
    return target


FAR = 16.0
"""Beyond doubt: on a loaded machine two workers of so short a run were 1.7 times apart, its interval a factor of 2."""


def test_compare_of_saved_results(saved: Path, tmp_path: Path) -> None:
    found = compare(scaled(saved, tmp_path / "a.json", FAR), saved)
    assert found.verdict is Verdict.SLOWER
    assert [c.ratio for c in found.comparisons] == pytest.approx([FAR, FAR], rel=1e-3)  # rounding to nanoseconds
    document = found.document()
    assert (document["verdict"], document["unmatched"]) == ("slower", [])
    assert compare(scaled(saved, tmp_path / "b.json", 1 / FAR), saved).verdict is Verdict.FASTER


def test_gate_of_compare(saved: Path, tmp_path: Path) -> None:
    slow = compare(scaled(saved, tmp_path / "a.json", FAR), saved, fail_slower=3)
    assert isinstance(slow.failure(), GateError)
    assert slow.document()["gate"] == {"fail_slower": 3, "outcome": "slower"}
    fast = compare(scaled(saved, tmp_path / "b.json", 1 / FAR), saved, fail_slower=3)
    assert fast.failure() is None
    assert fast.document()["gate"]["outcome"] == "passed"


def test_compare_refuses_another_cpu_or_evidence(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="CPU"):
        compare(scaled(saved, tmp_path / "a.json", 1.0, cpu="Z80"), saved)
    with pytest.raises(UnsupportedError, match="evidence"):
        compare(scaled(saved, tmp_path / "b.json", 1.0, evidence="constrained"), saved)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": "edgekit.eval/1"}', '{"schema": "edgekit.bench/1"}'])
def test_compare_of_what_is_not_a_result(saved: Path, tmp_path: Path, text: str) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text(text)
    with pytest.raises(InputError, match=r"bad\.json"):
        compare(bad, saved)
    with pytest.raises(InputError, match="does not exist"):
        compare(tmp_path / "missing.json", saved)


def test_compare_of_edited_samples(saved: Path, tmp_path: Path) -> None:
    document = json.loads(saved.read_text())
    document["results"][0]["samples_ns"].pop()
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps(document))
    with pytest.raises(InputError, match="edited"):
        compare(bad, saved)


def test_baseline_is_checked_before_anything_is_timed(
    models: tuple[str, str], saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verb, "time_interleaved", lambda *args, **more: pytest.fail("timed"))
    with pytest.raises(UnsupportedError, match="CPU"):
        bench(models, baseline=scaled(saved, tmp_path / "a.json", 1.0, cpu="Z80"), **QUICK)


def test_command_line(models: tuple[str, str], saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = [tmp_path / name for name in ("r.json", "r.csv", "r.md")]
    files = ["--json", str(out[0]), "--csv", str(out[1]), "--markdown", str(out[2])]
    slow = scaled(saved, tmp_path / "slow.json", 0.1)
    gate = ["--baseline", str(slow), "--fail-slower", "3"]
    assert program(["bench", *models, "--seconds", "0.3", "--workers", "2", *files, *gate]) == 1
    shown = capsys.readouterr()
    assert "heavy.onnx" in shown.out
    assert "measured on cpu" in shown.out
    assert "slower by more than 3%" in shown.err
    document = json.loads(out[0].read_text())
    assert document["baseline"]["gate"]["outcome"] == "slower"
    record = typed(BenchRecord, document, "it")
    assert out[1].read_text() == bench_csv(record)
    assert out[2].read_text() == bench_markdown(record)
    assert program(["compare", str(out[0]), str(saved), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["schema"] == "edgekit.compare/1"


def test_tables_say_what_is_missing(result: BenchResult) -> None:
    document = result.document()
    document["results"][0]["latency_ms"] |= {"p99": None}
    document["results"][0]["needs"] = {"p99": {"samples": 662, "seconds": 1.0}}
    document["results"][1] |= {"error": {"type": "WorkerCrashError", "message": "signal SIGKILL"}, "latency_ms": None}
    text = bench_markdown(typed(BenchRecord, document, "it"))
    assert "needs 662 runs" in text
    assert "failed" in text
    assert "WorkerCrashError: signal SIGKILL" in text


def test_a_table_that_cannot_be_written_does_not_take_the_times_with_it(
    models: tuple[str, str], tmp_path: Path
) -> None:
    place = tmp_path / "tables"
    place.mkdir()

    def spoiled(device: str, what: str, done: int, total: int) -> None:
        if place.is_dir():
            place.rmdir()
            place.write_text("a file now")

    result = bench(models[0], seconds=0.1, workers=1, csv=place / "t.csv", progress=spoiled)
    assert result.results[0].timed
    failure = result.failure()
    assert isinstance(failure, UsageError) and f"{place} is a file" in str(failure)
