"""The first words: who is there, and everything that keeps a worker from starting."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edgekit.bench.clock import WarmupRule
from edgekit.devices.archive import OLDEST_PYTHON, worker_main
from edgekit.devices.client import WorkerClient
from edgekit.errors import DeviceError, ProtocolError, RuntimeMissingError

Start = Callable[..., WorkerClient]
Ends = Callable[..., AbstractContextManager[None]]
BLOCK = """\
import importlib.abc
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocker())
"""
"""Hides packages from the worker, as if they were not installed."""


def test_it_says_what_it_is_and_works(start: Start, files: ModuleType, tmp_path: Path) -> None:
    model = files.dense_tflite(tmp_path / "m.tflite")
    feed = {"x": np.array([[1, 2, 3, 4]], np.float32)}
    with start() as client:
        assert client.hello["protocol"] == 1 and client.hello["python"].startswith("3.")
        assert client.environment()["machine"] and client.environment()["cores"] >= 1
        info = client.load(model)
        assert info.load_ns > 0 and info.signature.inputs[0].name == "x"
        wanted = client.run(feed)["y"]
        client.reset()
        assert np.array_equal(client.run(feed)["y"], wanted) and wanted.shape == (1, 3)
        block = client.time_block(feed, warmup=WarmupRule(2, 0, 10**9), min_runs=5, min_ns=0, max_ns=10**10)
        assert block.samples_ns.size >= 5 and block.samples_ns.min() > 0


def test_another_version_of_the_protocol(start: Start, ends_in: Ends) -> None:
    early = "from edgekit.devices import worker\nworker.VERSION = 99"
    with ends_in(ProtocolError, "speaks protocol 99, wanted 1"):
        start(early)


def test_a_python_that_is_too_old(start: Start, ends_in: Ends) -> None:
    """The program refuses before it imports what an old Python could not read."""
    needed = (OLDEST_PYTHON[0], 99)
    with ends_in(RuntimeMissingError, "needs Python 3.99 or newer, there is 3.", "install"):
        start(main=worker_main(needed).replace("{", "{{").replace("}", "}}"))


def test_an_interpreter_of_another_architecture(place: Any, tmp_path: Path) -> None:
    program = tmp_path / "python"
    riscv = 0xF3
    header = (
        b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, riscv, 1, 0, 64, 0, 0, 64, 56, 0, 64, 0, 0)
    )
    program.write_bytes(header + bytes(64))
    program.chmod(0o755)
    transport = place.foreign(program)
    with pytest.raises(DeviceError, match=r"[Ee]xec format error|Invalid ELF image for this architecture") as caught:
        WorkerClient(transport)
    assert caught.value.exit_code == 4


def test_numpy_is_missing(start: Start, ends_in: Ends, place: Any) -> None:
    brings_it = "it brings numpy" if place.name == "emulator" else "-m pip install numpy"
    with ends_in(RuntimeMissingError, "numpy is not installed there; run: ", brings_it):
        start(BLOCK.format(names=("numpy",)))


def test_every_runtime_is_missing(start: Start, ends_in: Ends, files: ModuleType, tmp_path: Path, place: Any) -> None:
    model = files.dense_tflite(tmp_path / "m.tflite")
    early = "sys.modules.update(ai_edge_litert=None, tflite_runtime=None, tensorflow=None, tflite_micro=None)"
    package = "tflite-micro" if place.name == "mcu" else "ai-edge-litert"
    with start(early) as client, ends_in(RuntimeMissingError, f"package {package}", "pip install"):
        client.load(model)


def test_a_runtime_of_another_architecture(
    start: Start, ends_in: Ends, files: ModuleType, tmp_path: Path, place: Any
) -> None:
    """It is installed and cannot be loaded: to call that missing would send the user round in a circle."""
    broken = (
        "import types, importlib.abc, importlib.machinery\n"
        "class Wrong(importlib.abc.MetaPathFinder, importlib.abc.Loader):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        wrong = name in ('onnxruntime', 'tflite_micro')\n"
        "        return importlib.machinery.ModuleSpec(name, self) if wrong else None\n"
        "    def exec_module(self, module):\n"
        "        raise ImportError('libonnx.so: wrong ELF class: ELFCLASS32')\n"
        "sys.meta_path.insert(0, Wrong())"
    )
    micro = place.name == "mcu"
    model = files.dense_tflite(tmp_path / "m.tflite") if micro else files.dense_onnx(tmp_path / "m.onnx")
    package = "tflite-micro" if micro else "onnxruntime"
    with start(broken) as client, ends_in(RuntimeMissingError, package, "cannot be loaded", "wrong ELF class"):
        client.load(model)


def test_a_clock_that_is_wrong(start: Start, files: ModuleType, tmp_path: Path) -> None:
    """A board without a battery starts in 1970; nothing compares its clock with ours."""
    model = files.dense_tflite(tmp_path / "m.tflite")
    with start("time.time = lambda: 0.0\ntime.time_ns = lambda: 0") as client:
        client.send(model)
        client.load(model)
        feed = {"x": np.ones((1, 4), np.float32)}
        block = client.time_block(feed, warmup=WarmupRule(0, 0, 0), min_runs=3, min_ns=0, max_ns=10**10)
        assert block.samples_ns.min() > 0
