"""Classes of devices: what fits in their memory, for real, and what the result says it proves."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edgekit.devices import open_worker, parse_device
from edgekit.devices.classes import CLASSES, DeviceClass
from edgekit.errors import UnsupportedError, UsageError, WorkerMemoryError
from edgekit.types import Evidence


@pytest.fixture
def one_core(monkeypatch: pytest.MonkeyPatch) -> str:
    """``board-1core``, which every machine has the cores for."""
    return "class:board-1core"


def test_a_class_is_constrained_and_is_known() -> None:
    assert parse_device("class:phone-2gb").evidence is Evidence.CONSTRAINED
    with pytest.raises(UsageError, match="there are: phone-2gb"):
        parse_device("class:toaster")


def test_its_memory_and_its_cores(one_core: str, files: ModuleType, tmp_path: Path) -> None:
    """11,000 x 11,000 floats are 484 MB: they fit this machine and not a board with 512."""
    model = files.huge_tflite(tmp_path / "m.tflite", 11_000)
    with open_worker("cpu") as plain:
        plain.load(model)
    with open_worker(one_core) as held:
        assert len(held.environment()["affinity"]) == 1
        with pytest.raises(WorkerMemoryError, match="ran out of memory"):
            held.load(model)
            held.run({"x": np.ones((11_000, 1), np.float32), "z": np.ones((1, 11_000), np.float32)})
        small = files.dense_tflite(tmp_path / "small.tflite")
        held.load(small)
        assert held.run({"x": np.ones((1, 4), np.float32)})["y"].shape == (1, 3)


def test_more_cores_than_this_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    many = DeviceClass(1 << 30, len(os.sched_getaffinity(0)) + 1, "many cores")
    monkeypatch.setitem(CLASSES, "many", many)  # type: ignore[misc, arg-type]
    with pytest.raises(UnsupportedError, match="take a class with fewer cores"):
        open_worker("class:many")


def test_bench_says_what_it_proves(edgekit_cli: Callable[..., Any], files: ModuleType, tmp_path: Path) -> None:
    model = files.dense_tflite(tmp_path / "m.tflite")
    done = edgekit_cli(
        "bench", model, "--class", "board-1core", "--seconds", "0.3", "--workers", "1", "--json", "b.json"
    )
    assert done.code == 0, done.err
    assert "constrained on class:board-1core" in done.out and "what fits in that memory" in done.out
