"""The ARM emulator for real: cores that differ, ARM runtimes against those of this machine, and no time anywhere."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edgekit.devices import open_runner, open_worker, parse_device
from edgekit.devices.archive import floor_archive
from edgekit.devices.client import WorkerClient
from edgekit.devices.emulator import EmulatorTransport
from edgekit.errors import RuntimeMissingError, UnsupportedError, UsageError, WorkerCrashError
from edgekit.runtime import load
from edgekit.runtime.precision import allowance
from edgekit.types import Evidence

DOT_PRODUCT = """\
import ctypes, mmap, sys
from edgekit.devices import protocol, worker
def reset(self, message):
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(bytes.fromhex("0094804e") + bytes.fromhex("c0035fd6"))  # sdot v0.4s, v0.16b, v0.16b; ret
    ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
    return protocol.Message({})
worker.Worker.reset = reset
sys.exit(worker.main())
"""
"""A worker whose ``reset`` runs one instruction of ARMv8.2, as a runtime built for newer cores would."""


@pytest.fixture
def arm(arm_root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("EDGEKIT_EMULATOR_ROOT", str(arm_root))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return arm_root


def test_names() -> None:
    spec = parse_device("emulator:cortex-a76")
    assert spec.evidence is Evidence.EMULATED and spec.address == "cortex-a76"
    assert parse_device("emulator:cortex-a53,tflite-runtime").kind == "emulator"
    for text in ("emulator:", "emulator:cortex-m4", "emulator:cortex-a72,torch", "emulator:cortex-a72,"):
        if text.endswith(","):
            continue
        with pytest.raises(UsageError, match="there are emulator:cortex-a53"):
            parse_device(text)


def test_without_its_root_it_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEKIT_EMULATOR_ROOT", str(tmp_path))
    with pytest.raises(RuntimeMissingError, match="run: edgekit device add arm emulator:cortex-a72"):
        open_worker("emulator:cortex-a72")


def test_arm_gives_what_this_machine_gives(arm: Path, files: ModuleType, tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    with open_worker("emulator:cortex-a72") as worker:
        there = worker.environment()
        assert there["machine"] == "aarch64" and "asimd" in there["isa"] and "asimddp" not in there["isa"]
        for model in (files.dense_onnx(tmp_path / "m.onnx"), files.dense_tflite(tmp_path / "m.tflite")):
            worker.load(model)
            with load(model) as here:
                x = generator.standard_normal((1, 4), dtype=np.float32)
                # 4 products of at most 11 x 4: a few units in the last place of 100
                assert np.abs(worker.run({"x": x})["y"] - here.run({"x": x})["y"]).max() < 1e-4
        integer = files.conv_int8_tflite(tmp_path / "int8.tflite")
        worker.load(integer)
        image = generator.uniform(-3, 3, (1, 8, 8, 3)).astype(np.float32)
        # one step of the output's scale: a rounding that falls the other way
        assert np.abs(worker.run({"image": image})["features"] - files.conv_int8_by_hand(image)).max() <= 0.25


def test_an_instruction_that_this_core_does_not_have(arm: Path) -> None:
    """cortex-a76 has dot products; on cortex-a72 the same program dies of SIGILL, which is told as such."""

    def worker(core: str) -> WorkerClient:
        transport = EmulatorTransport(parse_device(f"emulator:{core}"))
        transport.archive = lambda: floor_archive(DOT_PRODUCT)
        return WorkerClient(transport)

    with worker("cortex-a76") as newer:
        newer.reset()
    with worker("cortex-a72") as older, pytest.raises(WorkerCrashError, match="died during 'reset': signal SIGILL"):
        older.reset()


@pytest.mark.slow
def test_fewer_bits_only_where_the_core_has_them(arm: Path, files: ModuleType, tmp_path: Path) -> None:
    """bfloat16 on a core of 2022, float16 on a Raspberry Pi 5's: other values than float32's, within what these bits
    allow; on a core without them they are refused, where the runtime would go on in float32."""
    products, dense = files.product_onnx(tmp_path / "m.onnx"), files.dense_tflite(tmp_path / "m.tflite")
    x = np.random.default_rng(0).standard_normal((8, 64), dtype=np.float32)
    with (
        load(products) as here,
        open_runner(products, device="emulator:cortex-a710", runtime="onnxruntime:bf16") as there,
    ):
        wanted, found = here.run({"x": x})["y"], there.run({"x": x})["y"]
        off = np.abs(wanted - found).max() / np.abs(wanted).max()
        assert 1e-4 < off < allowance("bf16") and there.delegation() is not None
    refused = ((products, "onnxruntime:bf16", "needs bf16"), (dense, "litert:cpu:fp16", "needs asimdhp, fphp"))
    for model, runtime, why in refused:
        with pytest.raises(UnsupportedError, match=why):
            open_runner(model, device="emulator:cortex-a72", runtime=runtime)
    with pytest.raises(UnsupportedError, match="bfloat16 takes none of its 1 operators"):
        open_runner(
            files.concat_onnx(tmp_path / "concat.onnx"), device="emulator:cortex-a710", runtime="onnxruntime:bf16"
        )
    with open_runner(dense, device="emulator:cortex-a76", runtime="litert:cpu:fp16") as there:
        values = np.array([[0.1, 0.2, 0.3, 1000.7]], np.float32)
        wanted, found = load(dense).run({"x": values})["y"], there.run({"x": values})["y"]
        assert 1e-5 < np.abs(wanted - found).max() / np.abs(wanted).max() < allowance("fp16")


@pytest.mark.slow
def test_tflite_runtime_with_numpy_1(arm: Path, files: ModuleType, tmp_path: Path) -> None:
    model = files.dense_tflite(tmp_path / "m.tflite")
    with open_runner(model, device="emulator:cortex-a53,tflite-runtime") as there, load(model) as here:
        assert (there.name, there.version) == ("tflite-runtime", "2.14.0")
        x = np.array([[1, 2, 3, 4]], np.float32)
        assert np.array_equal(there.run({"x": x})["y"], here.run({"x": x})["y"])


def test_no_milliseconds_anywhere(
    arm: Path, edgekit_cli: Callable[..., Any], files: ModuleType, tmp_path: Path
) -> None:
    model = files.dense_tflite(tmp_path / "m.tflite")
    done = edgekit_cli("bench", model, "--on", "emulator:cortex-a72", "--json", "bench.json")
    assert done.code == 0, done.err
    (row,) = json.loads((tmp_path / "bench.json").read_text())["results"]
    assert row["device"]["evidence"] == "emulated" and row["runtime"] == "litert"
    for key in ("latency_ms", "throughput_per_s", "noise", "peak_memory_bytes"):
        assert row[key] is None, key
    assert row["cold_start_ms"] == {"load": None, "first": None}
    assert row["samples_ns"] == [] and row["warmup"]["ms"] is None and row["samples"] == 0
    assert "latency is not measured under emulation" in done.out and not re.search(
        r"\d\.\d+", done.out.split("emulated on")[0]
    )
    refused = edgekit_cli("bench", model, "--on", "emulator:cortex-a72", "--scenario", "server", "--rate", "10")
    assert refused.code == 3 and "has no time to measure: leave out --scenario server" in refused.err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pi4", pytest.param("arm", marks=pytest.mark.sweep)])
def test_the_root_is_there_and_is_named(arm: Path, edgekit_cli: Callable[..., Any], name: str) -> None:
    """A second ``device add`` builds nothing; the manifest says what the root was made of."""
    done = edgekit_cli("device", "add", name, "emulator:cortex-a72", "--json", "-")
    assert done.code == 0, done.err
    found = done.document["check"]
    assert found["evidence"] == "emulated" and {"onnxruntime", "litert"} <= found["facts"]["runtimes"].keys()
    files = json.loads((arm / "manifest.json").read_text())["files"]
    assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in files.values()) and len(files) > 30
