"""``mcu``: what it runs, what fits there, and what is said of memory."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import edgekit
from edgekit.devices import parse_device
from edgekit.devices.mcu import parse_size
from edgekit.environments import TFLM
from edgekit.errors import GateError, UsageError, WorkerMemoryError
from edgekit.types import Evidence

ONCE = {"seconds": 0.1, "workers": 1}


@pytest.fixture(autouse=True)
def _there(tflm_python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TFLM.variable, tflm_python)


@pytest.fixture
def dense(model_files: ModuleType, tmp_path: Path) -> Path:
    """It needs 1,200 bytes."""
    path: Path = model_files.dense_tflite(tmp_path / "dense.tflite")
    return path


def test_spellings() -> None:
    assert parse_device("mcu").evidence is Evidence.EMULATED
    assert parse_device("mcu:256k,1m").address == "256k,1m"
    board = parse_device("class:mcu-256k")
    assert (board.name, board.kind, board.address) == ("class:mcu-256k", "mcu", "256k,1m")
    assert board.evidence is Evidence.EMULATED
    assert [parse_size(text) for text in ("65536", "64k", "64KB", "1m")] == [65536, 65536, 65536, 1 << 20]


@pytest.mark.parametrize("spelled", ["mcu:none", "mcu:0", "mcu:1k,2k,3k", "mcu:-4", "mcu:64g"])
def test_what_is_no_size(spelled: str) -> None:
    with pytest.raises(UsageError, match=r"is not a size; give bytes, or 64k|has 3 sizes"):
        parse_device(spelled)


def test_it_runs_its_own_runtime_alone(dense: Path) -> None:
    feed = {"x": np.ones((1, 4), np.float32)}
    with edgekit.load(dense, device="mcu") as runner:
        assert runner.name == "tflm"
        assert runner.run(feed)["y"].tolist() == [[7, 23, 39]]
    with pytest.raises(UsageError, match="mcu runs tflm alone, not litert; leave --runtime out"):
        edgekit.load(dense, device="mcu", runtime="litert")


def test_another_format_is_refused(model_files: ModuleType, tmp_path: Path) -> None:
    path = model_files.dense_onnx(tmp_path / "m.onnx")
    with pytest.raises(UsageError, match=r"'tflm' runs \.tflite files, m\.onnx is \.onnx"):
        edgekit.load(path, device="mcu")


def test_what_does_not_fit_does_not_run(dense: Path) -> None:
    with edgekit.load(dense, device="mcu:1200"):
        pass
    with pytest.raises(WorkerMemoryError, match=r"does not fit: it needs an arena of 1,200 bytes.*there are 1,184"):
        edgekit.load(dense, device="mcu:1184")
    with pytest.raises(WorkerMemoryError, match=r"the file has .* bytes, there are 512 for it"):
        edgekit.load(dense, device="mcu:64k,512")


def test_bench_measures_the_arena_and_no_time(dense: Path) -> None:
    result = edgekit.bench(dense, on=["mcu"], **ONCE)
    (entry,) = result.document()["results"]
    assert (entry["runtime"], entry["device"]["evidence"]) == ("tflm", "emulated")
    assert entry["latency_ms"] is None and entry["cold_start_ms"] == {"load": None, "first": None}
    assert entry["peak_memory_bytes"] == entry["arena_bytes"] == entry["arena"]["bytes"] == 1200
    assert entry["arena"]["operators"] == ["AddFullyConnected"]
    assert entry["arena"]["persistent_bytes"] > 0 and entry["arena"]["non_persistent_bytes"] > 0
    assert "budget" not in entry and result.failure() is None


@pytest.mark.parametrize(
    ("asked", "fits"),
    [
        ({"on": ["mcu"], "arena": "1200"}, True),
        ({"on": ["mcu"], "arena": "1199"}, False),
        ({"on": ["mcu:2k"]}, True),
        ({"on": ["mcu:1k"]}, False),
        ({"on": ["mcu:2k,600"]}, False),
        ({"class_": ["mcu-64k"]}, True),
    ],
)
def test_the_gate(asked: dict[str, object], fits: bool, dense: Path) -> None:
    result = edgekit.bench(dense, **asked, **ONCE)  # type: ignore[arg-type]
    (entry,) = result.document()["results"]
    assert entry["budget"]["fits"] is fits and bool(entry["budget"]["exceeded"]) is not fits
    assert entry["arena"]["bytes"] == 1200, "it is measured all the same"
    failure = result.failure()
    assert (failure is None) is fits
    assert failure is None or (isinstance(failure, GateError) and "does not fit" in str(failure))


def test_the_command_line_says_so(dense: Path, edgekit_here: Callable[..., object]) -> None:
    ended = edgekit_here("bench", dense, "--on", "mcu", "--arena", "1k", "--seconds", "0.1", "--json", "b.json")
    assert ended.code == 1  # type: ignore[attr-defined]
    assert "an arena of 1,200 bytes" in ended.out and "register AddFullyConnected" in ended.out  # type: ignore[attr-defined]
    assert "does not fit" in ended.err  # type: ignore[attr-defined]
    assert json.loads((dense.parent / "b.json").read_text())["results"][0]["budget"]["arena_bytes"] == 1024


def test_arena_belongs_to_microcontrollers(dense: Path) -> None:
    with pytest.raises(UsageError, match="--arena 64k is about microcontrollers; give --on mcu"):
        edgekit.bench(dense, arena="64k", **ONCE)
    with pytest.raises(UsageError, match="tflm stands for another device, whose time cpu cannot tell; take --on mcu"):
        edgekit.bench(dense, runtime="tflm", **ONCE)
    with pytest.raises(UsageError, match="--arena 64k and mcu:1k both limit the arena"):
        edgekit.bench(dense, on=["mcu:1k"], arena="64k", **ONCE)
    with pytest.raises(UsageError, match="'much' is not a size"):
        edgekit.bench(dense, on=["mcu"], arena="much", **ONCE)


def test_inspect_says_what_a_microcontroller_needs(
    dense: Path, model_files: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = edgekit.inspect(dense).document()["micro"]
    assert (found["runs"], found["arena"]["bytes"], found["register"]) == (True, 1200, ["AddFullyConnected"])
    other = edgekit.inspect(model_files.recurrent_tflite(tmp_path / "r.tflite")).document()["micro"]
    assert (other["runs"], other["missing"]) == (False, ["UNIDIRECTIONAL_SEQUENCE_RNN"])
    monkeypatch.delenv(TFLM.variable)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    without = edgekit.inspect(dense).document()["micro"]
    assert (without["runs"], without["arena"]) == (None, None)
    assert "pip install tflite-micro" in without["note"]
