"""``doctor``: what is installed, which runtimes really run a model, what is missing and how to get it."""

from __future__ import annotations

import base64
import importlib.util
import os
import platform
import subprocess
import sys
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from edgekit import children, registry
from edgekit.artifact import library_versions
from edgekit.devices import open_runner, open_worker, parse_device
from edgekit.devices.device import transport_for
from edgekit.errors import DeviceError, EdgekitError, RuntimeMissingError
from edgekit.leftovers import scratch_folder
from edgekit.options.base import with_options
from edgekit.options.manage import DoctorOptions
from edgekit.results.doctor import Backend, DoctorResult, Package

TINY_ONNX = base64.b64decode(
    "CAgSADo+CgwKAXgSAXkiBFJlbHUSBHRpbnlaEwoBeBIOCgwIARIICgIIAQoCCARiEwoBeRIOCgwIARIICgIIAQoCCARCBAoAEA0="
)
"""y = Relu(x), both float32 (1, 4), opset 13."""
TINY_TFLITE = zlib.decompress(
    base64.b64decode(
        "eNptUDsKwkAQfdElLBpUMIVFbqGltViksLCXgFECGsQfyS08gIVH8ybx7e4EluDAY2bezpvPJgC2q3QeI8EMMSaIoGFMMQM54EW8iQ9xCYA+PR"
        "1rjQ1EoxiBEdgJWBJj4pZfn0V53O3zQ/Y43a3O1GjRaOmlxNfiI9s7tDWh916J15ZTlm/N8LGNRt4tipnjzV5rIiU20vOcFSU697j93D1adgk8"
        "4E/eIxbS89s0ja+r5b29M/L+OOrMqDq17V5GM/Q0Uzd2+gPcShYG"
    )
)
"""The same as a TFLite file with one RELU."""
PT2_PROGRAM = (
    "import sys, torch\ntorch.export.save(torch.export.export(torch.nn.ReLU(), (torch.zeros(1, 4),)), sys.argv[1])\n"
)
"""The same as a .pt2, whose format follows torch's version: made by the torch that is there."""
_SHAPE = "shape { dim { size: 1 } dim { size: 4 } }"
_INFO = f"dtype: DT_FLOAT tensor_{_SHAPE}"
TINY_SAVED_MODEL = (
    'saved_model_schema_version: 1 meta_graphs { meta_info_def { tags: "serve" } graph_def { '
    f'node {{ name: "x" op: "Placeholder" attr {{ key: "dtype" value {{ type: DT_FLOAT }} }} '
    f'attr {{ key: "shape" value {{ {_SHAPE} }} }} }} '
    'node { name: "y" op: "Relu" input: "x" attr { key: "T" value { type: DT_FLOAT } } } versions { producer: 1882 } } '
    'signature_def { key: "serving_default" value { method_name: "tensorflow/serving/predict" '
    f'inputs {{ key: "x" value {{ name: "x:0" {_INFO} }} }} outputs {{ key: "y" value {{ name: "y:0" {_INFO} }} }} '
    "} } }"
)
"""The same as the saved_model.pbtxt of a SavedModel folder."""
PROBE = np.array([[-1.0, 2.0, -3.0, 4.0]], np.float32)

FORMATS = {
    "onnxruntime": "onnx",
    "litert": "tflite",
    "tflite-runtime": "tflite",
    "torch": "pt2",
    "tensorflow": "savedmodel",
}
GET_RUNTIME = {
    "onnxruntime": "pip install 'edgekit[onnx]'",
    "litert": "pip install 'edgekit[litert]'",
    "tflite-runtime": "an environment of its own with Python 3.11 and numpy 1: python3.11 -m venv .venv-tflite && "
    ".venv-tflite/bin/pip install tflite-runtime==2.14.0 'numpy<2', then --on python:.venv-tflite/bin/python",
    "torch": "pip install 'edgekit[torch]'",
    "tensorflow": "pip install 'edgekit[tensorflow]'",
}
PACKAGES = {
    "onnxruntime": ("run .onnx", "onnx"),
    "ai-edge-litert": ("run .tflite", "litert"),
    "tflite-runtime": ("run .tflite with numpy 1", "tflite-runtime"),
    "torch": ("networks, train, export", "torch"),
    "tensorflow-cpu": ("run and convert SavedModel folders", "tensorflow"),
    "keras": (".keras files", "keras"),
    "timm": ("timm:NAME", "timm"),
    "transformers": ("hf:NAME", "hf"),
    "lightning-fabric": ("train, finetune", "torch"),
    "safetensors": ("checkpoints", "torch"),
    "torch-pruning": ("prune", "torch"),
    "onnx": ("export to .onnx, inspect, quantize", "host"),
    "onnxscript": ("export to .onnx", "host"),
    "onnxslim": ("export to .onnx", "host"),
    "litert-torch": ("export to .tflite", "host"),
    "ai-edge-quantizer": ("quantize .tflite", "host"),
    "scikit-learn": ("data: digits, breast-cancer", "host"),
    "pillow": ("images", "host"),
}
"""Distribution -> what it is for, and the extra that brings it."""


@with_options(DoctorOptions)
def doctor(options: DoctorOptions) -> DoctorResult:
    """Tries every runtime on the device ``on`` with a tiny model, and lists the packages of this environment.

    Raises:
        UsageError: no such device.
    """
    python, packages = f"{platform.python_version()} ({sys.executable})", installed_packages()
    try:
        with open_worker(options.on) as client:
            installed = client.hello["runtimes"]
    except DeviceError as error:
        return DoctorResult(device=options.on, python=python, packages=packages, backends=(), trouble=str(error))
    backends = listed_backends(installed) if options.quick else try_backends(options.on, installed)
    return DoctorResult(device=options.on, python=python, packages=packages, backends=backends)


def installed_packages() -> tuple[Package, ...]:
    """Every package edgekit can use, with the version that is installed here."""
    versions = library_versions(*PACKAGES)
    return tuple(
        Package(name, versions.get(name), used_for, f"pip install 'edgekit[{extra}]'")
        for name, (used_for, extra) in PACKAGES.items()
    )


def try_backends(on: str, installed: Mapping[str, str | None]) -> tuple[Backend, ...]:
    """Every known runtime, really tried on the device ``on``; those of third parties are left out.

    ``installed``: what a worker there has said it has, with versions; what it has not is not tried. On this machine
    they are tried side by side, since imports take most of the time; another may have the memory for one only.
    """
    here = transport_for(parse_device(on)).here
    with (
        scratch_folder() as folder,
        ThreadPoolExecutor(len(os.sched_getaffinity(0)) if here else 1) as pool,
    ):
        there = [name for name in _known() if installed.get(name) is not None]
        tried = dict(zip(there, pool.map(lambda name: _try(name, on, folder), there), strict=True))
        return tuple(tried.get(name) or _missing(name) for name in _known())


def listed_backends(installed: Mapping[str, str | None]) -> tuple[Backend, ...]:
    """Every known runtime, by what a worker has said it has; none is tried."""
    return tuple(
        Backend(name, FORMATS[name], "installed", f"{installed[name]}, not tried", GET_RUNTIME[name])
        if installed.get(name) is not None
        else _missing(name)
        for name in _known()
    )


def _known() -> tuple[str, ...]:
    return tuple(name for name in registry.names("runtimes") if name in FORMATS)


def _missing(name: str) -> Backend:
    return Backend(name, FORMATS[name], "missing", "not installed there", GET_RUNTIME[name])


def _try(runtime: str, on: str, folder: Path) -> Backend:
    format_ = FORMATS[runtime]
    install = GET_RUNTIME[runtime]
    try:
        path = _tiny_model(runtime, folder)
        with open_runner(path, device=on, runtime=runtime) as runner:
            (answer,) = runner.run({runner.signature.inputs[0].name: PROBE}).values()
    except RuntimeMissingError as error:
        return Backend(runtime, format_, "missing", str(error), install)
    except (EdgekitError, OSError, subprocess.SubprocessError) as error:
        return Backend(runtime, format_, "broken", f"{type(error).__name__}: {error}", install)
    if not np.array_equal(answer, np.maximum(PROBE, 0)):
        return Backend(runtime, format_, "broken", f"relu of {PROBE.tolist()} came out as {answer.tolist()}", install)
    return Backend(runtime, format_, "works", "", install)


def _tiny_model(runtime: str, folder: Path) -> Path:
    format_ = FORMATS[runtime]
    path = folder / f"{runtime}.{format_}"
    if format_ == "pt2":
        _make_pt2(path)
    elif format_ == "savedmodel":
        path.mkdir()
        (path / "saved_model.pbtxt").write_text(TINY_SAVED_MODEL)
    else:
        path.write_bytes(TINY_ONNX if format_ == "onnx" else TINY_TFLITE)
    return path


def _make_pt2(path: Path) -> None:
    """In a process of its own: torch is slow to import, and may be what is broken.

    Raises:
        RuntimeMissingError: torch is not installed here.
        SubprocessError: torch is here and fails.
    """
    if importlib.util.find_spec("torch") is None:
        raise RuntimeMissingError(f"torch is not installed; {GET_RUNTIME['torch']}")
    command = [sys.executable, "-c", PT2_PROGRAM, str(path)]
    done = children.run(command, timeout=120)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise subprocess.SubprocessError(f"torch.export failed with exit status {done.returncode}: {last}")
