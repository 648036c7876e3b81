"""The table of the choices follows from their documents, and a finished network is not run again."""

from __future__ import annotations

import importlib.util
import json
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import edgekit
from edgekit.artifact import sha256_file


@pytest.fixture
def auto_zoo(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("auto_zoo", root / "scripts/auto_zoo.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def trial(name: str, size: int, p50: float, **time: Any) -> dict[str, Any]:
    return {"name": name, "bytes": size, "time": {"p50_ms": p50, **time}}


@pytest.fixture
def document() -> dict[str, Any]:
    best = trial("onnx float", 1000, 0.2)
    chosen = trial("tflite int8", 250, 0.05, ratio_p50=0.25, ci95=[0.24, 0.26], verdict="faster")
    quality = {"metric": "accuracy", "before": 0.9, "after": 0.895, "drop": 0.005, "data": "digits@test"}
    rest = {"best_float": "onnx float", "parent": {"bytes": 1000}, "quality": quality, "seconds": 60.0}
    return {"chosen": chosen, "trials": [best, chosen], **rest}


def test_table(auto_zoo: ModuleType, document: dict[str, Any]) -> None:
    rows = [auto_zoo.row_of("cnn", document), auto_zoo.row_of("gru", {**document, "chosen": document["trials"][0]})]
    assert (rows[1]["ratio_p50"], rows[1]["verdict"], rows[1]["bytes_share"]) == (1.0, "same file", 1.0)
    environment = {"cpu": "a CPU", "cores": 2, "versions": {"onnxruntime": "1"}}
    failed = [{"network": "gan", "error": "DataError: none"}]
    body = {"environment": environment, "max_drop": 0.01, "rows": rows, "failed": failed}
    lines = auto_zoo.markdown(body).splitlines()
    told = "| cnn | onnx float | 0.200 | tflite int8 | 0.0500 | 0.25 (0.24–0.26) | 0.25 | accuracy 90.00% → 89.50% "
    assert f"{told}(lost +0.50), digits@test |" in lines
    assert "| geometric mean | | | | | 0.50 | 0.50 | |" in lines
    assert "gan failed: DataError: none" in lines


def test_a_finished_network_is_not_run_again(
    auto_zoo: ModuleType, document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Namespace(out=tmp_path, max_drop=0.01, on="cpu", seconds=3.0, smaller=False, fresh=False)
    (tmp_path / "cnn").mkdir()
    files = [tmp_path / "cnn" / f"cnn.{suffix}" for suffix in ("onnx", "tflite")]
    for file in files:
        file.write_text(file.suffix)
    asked = {"data": "cifar10", "max_drop": 0.01, "on": "cpu", "seconds": 3.0, "smaller": False}
    key = {**asked, "edgekit": edgekit.__version__, "files": [sha256_file(file) for file in files]}
    (tmp_path / "cnn" / "auto.json").write_text(json.dumps({"key": key, "document": document}))

    def again(*models: object, **given: object) -> None:
        raise RuntimeError("run again")

    monkeypatch.setattr(sys.modules["edgekit.pipeline.quantize"], "quantize", again)
    assert auto_zoo.finished("cnn", options) == document
    files[0].write_text("another network")
    with pytest.raises(RuntimeError, match="run again"):
        auto_zoo.finished("cnn", options)
