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
from edgekit.devices import open_runner, open_worker, parse_device, with_runtime
from edgekit.devices.device import transport_for
from edgekit.environments import ENVIRONMENTS, Environment
from edgekit.errors import DeviceError, EdgekitError, RuntimeMissingError
from edgekit.leftovers import scratch_folder
from edgekit.options.base import with_options
from edgekit.options.manage import DoctorOptions
from edgekit.results.doctor import Backend, Beside, DoctorResult, Package
from edgekit.runtime import runner_class
from edgekit.runtime.base import Runner
from edgekit.types import DeviceSpec

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
TINY_PTE = zlib.decompress(
    base64.b64decode(
        "eNqtVM1Kw0AQnsRYYw0Sa5AeRELw4KFI6knFg4hCD+LJQ6EWf5qIxRBDm6Iioo/go/gEnj168ODBgw/gMzTObibpJq2C6IbZv+x88+387AYA7OxX"
        "V9wz2zZx/jwGcVPi4UGCtOlQxt7AUQMVD+h8BbCIsivIWz+KmLqgCjKd01BUrqngmMVX+Ddo7Nc8n83BEmqbuCoL9ucIcxUlIHlBeWUcCPtdjm0n"
        "7SiHz+w9RVGkETeD/j3iHlGTprGr+35w3DrfQnF9Z6Cv81kx5VQknE0SKb2zBlN0Z51covKVQv2Ap5TjKAl7Mt1BIY4sIjBeghLMcEsqebJEdykn"
        "PiwUOL8CYckELgt+UJH9JPFJcA2YHcLVRVxE/kAe+o+4sW9UPgfYRllDaVQr5o0VXgeutW76Pc+rmFbrwg/dq1DYOGt7Tsf1D7uB28LtRvO2ibr9"
        "vL510mt7YdvvLoe9wHOtDJbFwKxRaP+m/xv+tyN5O+1WmDPbaFrfQaATJtAHpxedy+OOA39p9ZptLwCrfkfKViTw3fqeXWU1aPIYahh/I84PzABW"
        "g6uo8YljjeLP6rFCsRdrJMmh4uB5yeS7JOTQQVo303hPlXRBiu2W0H6Bc4nfJYPnJdOWSU/EEvNQxDLoTUuQdP62DOPIOZzkThqenyCPaFQLi5ma"
        "L6b1DXB/B5CtQSZ2LhZffZSffg=="
    )
)
"""The same as an ExecuTorch program whose one operator XNNPACK runs."""
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

_ASKED_S = 30
"""Time for an interpreter to say whether it has a package."""
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
    "vl-convert-python": ("pages: report, --html", "report"),
    "mlflow-skinny": ("--log mlflow", "mlflow"),
}
"""Distribution -> what it is for, and the extra that brings it."""


@with_options(DoctorOptions)
def doctor(options: DoctorOptions) -> DoctorResult:
    """Tries every runtime on the device ``on`` with a tiny model, and lists the packages of this environment.

    Raises:
        UsageError: no such device.
    """
    python, packages = f"{platform.python_version()} ({sys.executable})", installed_packages()
    beside = environments_beside()
    try:
        with open_worker(options.on) as client:
            installed = client.hello["runtimes"]
    except DeviceError as error:
        return DoctorResult(
            device=options.on, python=python, packages=packages, environments=beside, backends=(), trouble=str(error)
        )
    backends = listed_backends(options.on, installed) if options.quick else try_backends(options.on, installed)
    return DoctorResult(device=options.on, python=python, packages=packages, environments=beside, backends=backends)


def installed_packages() -> tuple[Package, ...]:
    """Every package edgekit can use, with the version that is installed here."""
    versions = library_versions(*PACKAGES)
    return tuple(
        Package(name, versions.get(name), used_for, f"pip install 'edgekit[{extra}]'")
        for name, (used_for, extra) in PACKAGES.items()
    )


def environments_beside() -> tuple[Beside, ...]:
    """Every environment beside edgekit's own: whether its package can be imported there, asked of its interpreter."""
    return tuple(_beside(one) for one in ENVIRONMENTS)


def _beside(one: Environment) -> Beside:
    state, python, detail = "missing", None, ""
    try:
        python = one.python()
    except RuntimeMissingError as error:
        state, detail = "broken", str(error)
    if python == sys.executable:
        state = "here"
    elif python is not None:
        command = [python, "-c", f"import importlib.util as u, sys; sys.exit(u.find_spec({one.module!r}) is None)"]
        try:
            there = children.run(command, timeout=_ASKED_S).returncode == 0
            state, detail = ("there", "") if there else ("broken", f"{python} has no {one.module}")
        except (OSError, subprocess.SubprocessError) as error:
            state, detail = "broken", f"{python} does not run: {error}"
    return Beside(one.name, state, python, detail, one.used_for, one.variable, one.install)


def try_backends(on: str, installed: Mapping[str, str | None]) -> tuple[Backend, ...]:
    """Every runtime, really tried on the device ``on``.

    ``installed``: what a worker there has said it has, with versions; what it has not is not tried. On this machine
    they are tried side by side, since imports take most of the time; another may have the memory for one only.
    """
    device = parse_device(on)
    here = transport_for(device).here
    with (
        scratch_folder() as folder,
        ThreadPoolExecutor(len(os.sched_getaffinity(0)) if here else 1) as pool,
    ):
        runners = _runners()
        there = [name for name in runners if _version(name, runners[name], installed) or _apart(name, device)]
        tried = dict(zip(there, pool.map(lambda name: _try(runners[name], name, on, folder), there), strict=True))
        return tuple(tried.get(name) or _missing(name, runner) for name, runner in runners.items())


def listed_backends(on: str, installed: Mapping[str, str | None]) -> tuple[Backend, ...]:
    """Every runtime, by what a worker on ``on`` has said it has, or by its environment; none is tried."""
    found = []
    for name, runner in _runners().items():
        told = _version(name, runner, installed) or _apart(name, parse_device(on))
        here = Backend(name, str(runner.formats[0]), "installed", f"{told}, not tried", runner.how_to_get())
        found.append(here if told else _missing(name, runner))
    return tuple(found)


def _apart(runtime: str, device: DeviceSpec) -> str:
    """Where on ``device`` another environment runs ``runtime``; empty where none does. One whose variable names no
    program counts: trying it says what is wrong."""
    try:
        place = with_runtime(device, runtime)
    except RuntimeMissingError as error:
        return str(error)
    return "" if place == device else f"in {place.address}"


def _version(name: str, runner: type[Runner], installed: Mapping[str, str | None]) -> str | None:
    """Of a runtime's package, None without it: by what a worker has said, of another package's runtime by what is
    installed here."""
    if name in registry.TABLES["runtimes"]:
        return installed.get(name)
    return runner.installed()


def _runners() -> dict[str, type[Runner]]:
    return {name: runner_class(name) for name in registry.names("runtimes")}


def _missing(name: str, runner: type[Runner]) -> Backend:
    return Backend(name, str(runner.formats[0]), "missing", "not installed there", runner.how_to_get())


def _try(kind: type[Runner], runtime: str, on: str, folder: Path) -> Backend:
    format_, install, where = str(kind.formats[0]), kind.how_to_get(), _apart(runtime, parse_device(on))
    try:
        with_runtime(parse_device(on), runtime)
    except RuntimeMissingError as error:  # a variable that leads nowhere
        return Backend(runtime, format_, "broken", str(error), install)
    try:
        path = _tiny_model(runtime, format_, folder)
        with open_runner(path, device=on, runtime=runtime) as runner:
            (answer,) = runner.run({runner.signature.inputs[0].name: PROBE}).values()
    except RuntimeMissingError as error:
        return Backend(runtime, format_, "missing", str(error), install)
    except (EdgekitError, OSError, subprocess.SubprocessError) as error:
        return Backend(runtime, format_, "broken", f"{type(error).__name__}: {error}", install)
    if not np.array_equal(answer, np.maximum(PROBE, 0)):
        return Backend(runtime, format_, "broken", f"relu of {PROBE.tolist()} came out as {answer.tolist()}", install)
    return Backend(runtime, format_, "works", where, install)


def _tiny_model(runtime: str, format_: str, folder: Path) -> Path:
    path = folder / f"{runtime}.{format_}"
    if format_ == "pt2":
        _make_pt2(path)
    elif format_ == "savedmodel":
        path.mkdir()
        (path / "saved_model.pbtxt").write_text(TINY_SAVED_MODEL)
    else:
        path.write_bytes({"onnx": TINY_ONNX, "tflite": TINY_TFLITE, "pte": TINY_PTE}[format_])
    return path


def _make_pt2(path: Path) -> None:
    """In a process of its own: torch is slow to import, and may be what is broken.

    Raises:
        RuntimeMissingError: torch is not installed here.
        SubprocessError: torch is here and fails.
    """
    if importlib.util.find_spec("torch") is None:
        raise RuntimeMissingError(f"torch is not installed; {runner_class('torch').how_to_get()}")
    command = [sys.executable, "-c", PT2_PROGRAM, str(path)]
    done = children.run(command, timeout=120)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise subprocess.SubprocessError(f"torch.export failed with exit status {done.returncode}: {last}")
