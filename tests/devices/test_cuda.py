"""``--on cuda``: each thing that can be missing told apart. The driver's answers come from a stand-in library that the
test compiles, since a driver cannot be installed without a GPU; the runtimes in the worker are real."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from edgekit.devices import parse_device
from edgekit.devices.client import WorkerClient
from edgekit.devices.cuda import CudaTransport
from edgekit.errors import DeviceError, RuntimeMissingError, UsageError
from edgekit.runtime.cuda_driver import gpu_count, gpu_name

DRIVER = """
#include <string.h>
int cuInit(unsigned flags) { return STATE; }
int cuDeviceGetCount(int *count) { *count = 2; return 0; }
int cuDeviceGet(int *device, int index) { *device = index; return index < 2 ? 0 : 101; }
int cuDeviceGetName(char *name, int size, int device) { strncpy(name, device ? "Second" : "First", size); return 0; }
int cuDriverGetVersion(int *version) { *version = 13020; return 0; }
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], str]:
    """The path of a stand-in for libcuda.so.1 whose cuInit gives ``state``."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler for the stand-in of NVIDIA's driver: apt-get install gcc")
    folder = tmp_path_factory.mktemp("driver")

    def made(state: int) -> str:
        source, library = folder / "driver.c", folder / f"libcuda-{state}.so"
        source.write_text(DRIVER)
        subprocess.run([compiler, f"-DSTATE={state}", "-shared", "-fPIC", "-o", library, source], check=True)
        return str(library)

    return made


def test_a_driver_that_is_not_there_or_does_not_start(driver: Callable[[int], str]) -> None:
    with pytest.raises(DeviceError, match=r"no NVIDIA driver on this machine .*docker run --gpus all"):
        gpu_count("libcuda-of-nobody.so.1")
    for state, said in ((100, "finds no GPU"), (803, "different versions"), (999, "nvidia-smi"), (3, "CUresult 3")):
        with pytest.raises(DeviceError, match=said):
            gpu_count(driver(state))


def test_what_the_driver_tells(driver: Callable[[int], str]) -> None:
    library = driver(0)
    assert gpu_count(library) == 2
    assert gpu_name(1, library) == "Second, driver for CUDA 13.2"
    with pytest.raises(DeviceError, match="CUresult 101"):
        gpu_name(2, library)


def test_spellings(driver: Callable[[int], str]) -> None:
    assert parse_device("cuda").kind == "cuda" and parse_device("cuda:1").address == "1"
    with pytest.raises(UsageError, match="cuda:N"):
        parse_device("cuda:one")
    assert CudaTransport(parse_device("cuda"), library=driver(0)).runs_on == "cuda:0"
    assert CudaTransport(parse_device("cuda:1"), library=driver(0)).runs_on == "cuda:1"
    with pytest.raises(DeviceError, match="'cuda:2' cannot be used: there are 2 GPUs, counted from cuda:0"):
        CudaTransport(parse_device("cuda:2"), library=driver(0))


@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch is built with CUDA")
def test_runtimes_without_cuda_in_the_worker(driver: Callable[[int], str], files: ModuleType, tmp_path: Path) -> None:
    """The driver is there as far as anyone can tell, and the runtimes are built for the CPU."""
    program = tmp_path / "m.pt2"
    torch.export.save(torch.export.export(torch.nn.ReLU(), (torch.zeros(1, 4),)), program)
    with WorkerClient(CudaTransport(parse_device("cuda"), library=driver(0))) as client:
        with pytest.raises(RuntimeMissingError, match="is built without CUDA"):
            client.load(program)
        with pytest.raises(RuntimeMissingError, match="onnxruntime-gpu"):
            client.load(files.dense_onnx(tmp_path / "m.onnx"))
        with pytest.raises(UsageError, match="litert does not run on cuda:0"):
            client.load(files.dense_tflite(tmp_path / "m.tflite"))


@pytest.mark.skipif(os.path.exists("/dev/nvidiactl"), reason="this machine has an NVIDIA GPU")
def test_the_command_line_ends_with_4(files: ModuleType, tmp_path: Path, edgekit_cli: Callable[..., Any]) -> None:
    path = files.dense_onnx(tmp_path / "m.onnx")
    ended = edgekit_cli("bench", path, "--on", "cuda")
    assert ended.code == 4 and "no NVIDIA driver" in ended.err and "--on cpu" in ended.err


@pytest.mark.gpu
def test_a_bench_on_a_gpu(tmp_path: Path, edgekit_cli: Callable[..., Any]) -> None:
    """Every way of torch on a zoo network: the self-test of the card holds, copies stand beside the time."""
    assert edgekit_cli("export", "cnn", "--to", "pt2", "-o", tmp_path).code == 0
    ways = "torch:eager,torch:compile,torch:cudagraph,torch:cudagraph:fp16,torch:cudagraph:bf16"
    given = ("--on", "cuda", "--runtime", ways, "--seconds", "1", "--timeout", "300", "--json", "-")
    ended = edgekit_cli("bench", tmp_path / "cnn.pt2", *given, timeout=900)
    assert ended.code == 0, ended.err
    results = ended.document["results"]
    assert [result["runtime"] for result in results] == ways.split(",")
    for result in results:
        assert result["device"]["kind"] == "cuda" and "driver for CUDA" in result["device"]["chip"]
        assert result["latency_ms"]["p50"] > 0 and result["selftest"]["passed"]
        p50 = result["transfer"]["p50_ms"]
        assert min(p50["copy_in"], p50["copy_out"], p50["device"]) > 0
    assert [result["selftest"].get("precision") for result in results] == [None, None, None, "fp16", "bf16"]


@pytest.mark.gpu
def test_a_gpu_gives_what_the_cpu_gives(tmp_path: Path) -> None:
    import edgekit

    edgekit.export("transformer", to=["pt2"], out=tmp_path)
    path = tmp_path / "transformer.pt2"
    with edgekit.load(path, device="cuda") as there, edgekit.load(path) as here:
        (spec,) = here.signature.inputs
        feed = {spec.name: np.ones(spec.resolved(), spec.dtype)}
        for name, array in here.run(feed).items():
            # float32 sums in another order: edgekit.quality.parity.RELATIVE
            assert np.abs(there.run(feed)[name] - array).max() <= 1e-4 * np.abs(array).max() + 1e-6
