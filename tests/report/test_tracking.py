"""``--log mlflow``: options, figures and files in MLflow's stores, and what becomes of a result that is not logged."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgekit.errors import DeviceError, RuntimeMissingError
from edgekit.report.tracking import check_tracker, log_to_mlflow, metrics, published

pytest.importorskip("mlflow", reason="needs edgekit[mlflow]")
BENCH = {
    "schema": "edgekit.bench/1", "edgekit": "0", "environment": {"cpu": "one", "cores": 2}, "command": ["edgekit"],
    "results": [
        {"model": "a/net.onnx", "runtime": "onnxruntime", "latency_ms": {"p50": 1.0, "p99": None}, "samples_ns": [1]},
        {"model": "a/net.onnx", "runtime": "openvino:f32", "latency_ms": {"p50": 2.0}, "samples_ns": [1]},
    ],
    "protocol": {"seconds": 2},
}  # fmt: skip


def test_names_of_metrics() -> None:
    assert metrics(BENCH) == {
        "results/net.onnx onnxruntime/latency_ms.p50": 1.0,
        "results/net.onnx openvino:f32/latency_ms.p50": 2.0,
    }
    assert metrics({"metric": "accuracy", "value": 0.5, "passed": True, "per_class": {"a|b": 1}}) == {
        "accuracy": 0.5, "passed": 1.0, "per_class.a_b": 1.0,
    }  # fmt: skip


def test_files_of_a_result(tmp_path: Path) -> None:
    """What it published, not what it was made from."""
    for name in ("q.tflite", "parent.tflite", "a.csv"):
        (tmp_path / name).write_bytes(b"x")
    made, parent = ({"path": str(tmp_path / name), "sha256": "0"} for name in ("q.tflite", "parent.tflite"))
    document = {"artifact": made, "parent": parent, "model": str(tmp_path / "parent.tflite")}
    found = published(document, [tmp_path / "a.csv", tmp_path / "q.tflite", tmp_path / "gone.csv"])
    assert [path.name for path in found] == ["a.csv", "q.tflite"]


def test_of_a_search_the_recommended_file_and_its_recipe(tmp_path: Path) -> None:
    for name in ("net-003.tflite", "net-003.toml", "net-004.tflite"):
        (tmp_path / name).write_bytes(b"x")
    rows = [{"path": str(tmp_path / f"{name}.tflite"), "recipe": str(tmp_path / f"{name}.toml"), "sha256": "0"}
            for name in ("net-003", "net-004")]  # fmt: skip
    found = published({"front": rows, "recommended": rows[0]}, [])
    assert [path.name for path in found] == ["net-003.tflite", "net-003.toml"]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as MLflow's store of files, which it wants to be asked for."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "phones")
    return tmp_path / "store"


def logged(store: Path) -> Any:
    """The one run of the experiment, as MLflow's own client reads it."""
    from mlflow import MlflowClient

    client = MlflowClient(store.as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("phones").experiment_id])
    files = {
        item.path: client.download_artifacts(run.info.run_id, item.path)
        for item in client.list_artifacts(run.info.run_id)
    }
    return run, files


def test_a_command(edgekit_program: str, model_files: ModuleType, store: Path, tmp_path: Path) -> None:
    import numpy as np

    model = model_files.dense_onnx(tmp_path / "net.onnx")
    np.savez(tmp_path / "d.npz", x=np.ones((8, 4), np.float32), labels=np.zeros(8, np.int64))
    words = ["eval", str(model), "--data", f"npz:{tmp_path / 'd.npz'}", "--log", "mlflow", "--json", "-"]
    done = subprocess.run([edgekit_program, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    run, files = logged(store)
    assert run.info.status == "FINISHED" and run.info.run_name == "eval net.onnx"
    assert run.data.params["model"] == str(model) and "threads" in run.data.params
    assert run.data.metrics["accuracy"] == document["value"] and run.data.metrics["total"] == 8
    assert run.data.tags["edgekit.verb"] == "eval" and run.data.tags["edgekit.cpu"] == document["environment"]["cpu"]
    assert json.loads(Path(files["result.json"]).read_text())["value"] == document["value"]
    assert run.info.run_id in done.stderr


def test_a_gate_that_says_no_is_logged(
    edgekit_program: str, model_files: ModuleType, store: Path, tmp_path: Path
) -> None:
    import onnx

    model = model_files.dense_onnx(tmp_path / "a.onnx")
    changed = onnx.load(model)
    weights = onnx.numpy_helper.to_array(changed.graph.initializer[0])
    changed.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weights + 1, changed.graph.initializer[0].name))
    other = tmp_path / "b.onnx"
    onnx.save(changed, other)
    words = ["verify", str(model), "--against", str(other), "--log", "mlflow"]
    assert subprocess.run([edgekit_program, *words], capture_output=True, check=False).returncode == 1
    run, _ = logged(store)
    assert run.data.metrics["passed"] == 0


def test_a_store_that_fails_costs_no_result(
    edgekit_program: str, model_files: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The document and the table are there; exit code 4 says that they were not logged."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nosuch://store")
    model = model_files.dense_onnx(tmp_path / "net.onnx")
    words = [
        "bench",
        str(model),
        "--seconds",
        "0.1",
        "--workers",
        "1",
        "--log",
        "mlflow",
        "--json",
        str(tmp_path / "b.json"),
    ]
    done = subprocess.run([edgekit_program, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 4 and "net.onnx" in done.stdout
    assert "was not logged to MLflow at nosuch://store" in done.stderr and "Traceback" not in done.stderr
    assert json.loads((tmp_path / "b.json").read_text())["results"]


def test_mlflow_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setattr("edgekit.report.tracking.find_spec", lambda name: None)
    with pytest.raises(RuntimeMissingError, match=r"pip install 'edgekit\[mlflow\]'") as error:
        check_tracker("mlflow")
    assert error.value.exit_code == 4
    with pytest.raises(DeviceError, match="was not logged to MLflow"):
        log_to_mlflow("bench", BENCH, {}, [])


def test_missing_is_said_before_the_work(edgekit_here: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.report.tracking.find_spec", lambda name: None)
    done = edgekit_here("train", "mlp", "--data", "breast-cancer", "--log", "mlflow", "-o", "x.safetensors")
    assert done.code == 4 and "edgekit[mlflow]" in done.err


def test_a_run_that_is_there_already(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``MLFLOW_RUN_ID`` is gone on with, as by any program that uses MLflow."""
    monkeypatch.setenv("MLFLOW_RUN_NAME", "mine")
    number = log_to_mlflow("bench", BENCH, {"models": ("a", "b"), "empty": None}, [])
    monkeypatch.setenv("MLFLOW_RUN_ID", number)
    assert log_to_mlflow("eval", {"metric": "accuracy", "value": 0.5}, {}, []) == number
    run, _ = logged(store)
    assert run.data.metrics["accuracy"] == 0.5 and run.data.params == {"models": "a, b"} and run.info.run_name == "mine"
