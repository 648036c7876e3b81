"""The page of results says of each bar whether it holds; each can be missed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def results_page(root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("results_page", root / "scripts/results_page.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(__import__("sys").modules, "results_page", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def row(file: str, format_: str, drop: float = 0.0, size: int = 100, ratio: float | None = None) -> dict[str, Any]:
    ratio_of = {"ratio_p50": ratio, "ci95": [ratio, ratio], "verdict": "faster" if ratio and ratio < 1 else "slower"}
    return {
        "file": file, "format": format_, "metric": "accuracy", "quality": 0.9 - drop, "total": 100, "drop": drop,
        "bytes": size, "p50_ms": 1.0 if ratio is None else ratio, "against_best_float": ratio_of if ratio else None,
    }  # fmt: skip


def network(name: str) -> dict[str, Any]:
    rows = [
        row("float onnx", "onnx"), row("float tflite", "tflite", ratio=1.5),
        row("int8 onnx", "onnx", 0.001, 30, 0.6), row("int8 tflite", "tflite", 0.001, 30, 0.5),
        row("pruned onnx", "onnx", 0.002, 50, 0.6), row("pruned tflite", "tflite", 0.002, 50, 0.6),
        row("auto", "tflite", 0.001, 30, 0.5), row("recipe", "tflite", 0.003, 15, 0.4),
    ]  # fmt: skip
    return {"network": name, "data": "digits", "best_float": "float onnx", "rows": rows}


@pytest.fixture
def document() -> dict[str, Any]:
    names = ("mlp", "cnn", "rnn", "lstm", "gru", "transformer", "gan", "autoencoder", "detector", "segmenter")
    environment = {"cpu": "a CPU", "cores": 2, "versions": {"numpy": "2"}, "load": [0.1, 0.1, 0.1]}
    return {"environment": environment, "networks": [network(name) for name in names]}


def test_all_bars_hold(results_page: ModuleType, document: dict[str, Any]) -> None:
    text, held = results_page.page(document)
    assert held and "missed" not in text and "not measured" not in text
    assert "| recipe | accuracy 89.70% | -0.30 points | 15 | 0.400 | 0.40 (0.40–0.40) | faster |" in text
    assert "0.40× the time, 0.15× the bytes of 10 networks" in text


def _change(file: str, **values: Any) -> Callable[[dict[str, Any]], None]:
    def change(network: dict[str, Any]) -> None:
        next(one for one in network["rows"] if one["file"] == file).update(values)

    return change


SLOWER = {"ratio_p50": 1.2, "ci95": [1.1, 1.3], "verdict": "slower"}


@pytest.mark.parametrize(
    ("change", "bar"),
    [
        (_change("int8 tflite", drop=0.02), "cnn: int8 loses"),
        (_change("pruned onnx", drop=0.011), "cnn, half of its"),
        (_change("pruned tflite", p50_ms=1.2), "cnn, half of its"),
        (_change("auto", against_best_float=SLOWER), "`auto` is never slower"),
        (_change("auto", drop=0.02), "`auto` is never slower"),
        (_change("recipe", bytes=100_000), "shipped recipes"),
        (_change("recipe", against_best_float=SLOWER | {"ratio_p50": 100.0}), "shipped recipes"),
        (_change("recipe", drop=0.02), "shipped recipes"),
        (_change("int8 onnx", bytes=101), "no int8 file"),
    ],
)
def test_each_bar_can_be_missed(
    results_page: ModuleType, document: dict[str, Any], change: Callable[[dict[str, Any]], None], bar: str
) -> None:
    change(document["networks"][1])
    text, held = results_page.page(document)
    missed = [line for line in text.splitlines() if "**missed**" in line]
    assert not held and len(missed) == 1 and missed[0].startswith(f"| {bar}")


def test_what_is_not_measured_does_not_hold(results_page: ModuleType, document: dict[str, Any]) -> None:
    del document["networks"][1:]
    text, held = results_page.page(document)
    assert not held and text.count("not measured") == 10
