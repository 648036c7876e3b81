"""Counting ARM instructions: the plugin compiles, the counts follow the work, and what is missing is named."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edgekit.devices.instructions import emulator_with_plugins, plugin
from edgekit.errors import DeviceError, RuntimeMissingError
from edgekit.extras.instructions import per_run


def test_from_three_marks() -> None:
    found = per_run([1_000, 1_000 + 10 * 7 + 50, 1_000 + 30 * 7 + 100], 10)  # 7 a run, 50 between two marks
    assert (found.per_run, list(found.counted), found.evidence) == (7, [120, 190], "emulated")
    for marks in ([], [1, 2], [3, 2, 1], [1, 1, 2]):
        with pytest.raises(DeviceError, match="wanted three counts that grow"):
            per_run(marks, 10)


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler: apt-get install gcc")
def test_the_plugin_compiles_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path))
    place = plugin()
    assert place.is_relative_to(tmp_path) and b"qemu_plugin_install" in place.read_bytes()
    monkeypatch.setenv("CC", "no-compiler-of-this-name")
    assert plugin() == place
    place.unlink()
    with pytest.raises(RuntimeMissingError, match="apt-get install gcc"):
        plugin()


def test_a_qemu_that_loads_no_plugins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arm_root: Path, files: ModuleType, edgekit_cli: Callable[..., Any]
) -> None:
    """edgekit's own is static: the real one says so itself."""
    monkeypatch.setenv("EDGEKIT_QEMU", str(arm_root / "qemu-aarch64"))
    with pytest.raises(RuntimeMissingError, match=r"loads no plugins.*apt-get install qemu-user.*EDGEKIT_QEMU"):
        emulator_with_plugins()
    monkeypatch.setenv("EDGEKIT_QEMU", str(tmp_path / "none"))
    with pytest.raises(RuntimeMissingError, match="cannot be run"):
        emulator_with_plugins()
    monkeypatch.delenv("EDGEKIT_QEMU")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeMissingError, match="needs a qemu-aarch64 that loads plugins"):
        emulator_with_plugins()


def test_only_an_emulated_device_counts(files: ModuleType, tmp_path: Path, edgekit_cli: Callable[..., Any]) -> None:
    ended = edgekit_cli("bench", files.dense_tflite(tmp_path / "m.tflite"), "--instructions")
    assert ended.code == 3 and "counts on emulated devices (emulator:CORE); cpu is not emulated" in ended.err


@pytest.fixture(scope="module")
def counting(arm_root: Path) -> dict[str, str]:
    """The environment of a command that counts; skips where no qemu loads plugins."""
    try:
        found = emulator_with_plugins()
    except RuntimeMissingError as error:
        pytest.skip(str(error))
    return {**os.environ, "EDGEKIT_EMULATOR_ROOT": str(arm_root), "EDGEKIT_QEMU": found}


@pytest.mark.slow
def test_counts_follow_the_work(
    model_files: ModuleType, tmp_path: Path, counting: dict[str, str], edgekit_cli: Callable[..., Any]
) -> None:
    """Dense layers of 64 and 512: 64 times the products, at four of them an instruction and a load for each four."""
    for size in (64, 512):
        _dense(model_files, tmp_path / f"{size}.tflite", size)
    given = (tmp_path / "64.tflite", tmp_path / "512.tflite", "--on", "emulator:cortex-a72,tflite-runtime")
    ended = edgekit_cli("bench", *given, "--instructions", "--json", "-", env=counting, timeout=600)
    assert ended.code == 0, ended.err
    small, large = ended.document["results"]
    for result in (small, large):
        assert result["latency_ms"] is None and result["instructions"]["evidence"] == "emulated"
    counted = large["instructions"]["per_run"] - small["instructions"]["per_run"]
    products = 512 * 512 - 64 * 64
    assert products / 4 < counted < products * 2


def _dense(files: ModuleType, path: Path, size: int) -> Path:
    options = files.schema.FullyConnectedOptionsT()
    options.keepNumDims = False
    weights = np.random.default_rng(0).normal(size=(size, size)).astype(np.float32)
    tensors = [
        files.Tensor("x", "float32", (1, size)),
        files.Tensor("w", "float32", (size, size), weights),
        files.Tensor("b", "float32", (size,), np.zeros(size, np.float32)),
        files.Tensor("y", "float32", (1, size)),
    ]
    kind = (files.schema.BuiltinOptions.FullyConnectedOptions, options)
    operators = [files.Operator(files.OPERATORS.FULLY_CONNECTED, [0, 1, 2], [3], kind)]
    made: Path = files.write_tflite(path, tensors, operators, [0], [3], ({"x": 0}, {"y": 3}))
    return made


def test_a_mark_without_a_plugin_does_nothing() -> None:
    from edgekit.devices.instructions import mark

    mark()
    assert ctypes.CDLL(None).getpid() == os.getpid()
