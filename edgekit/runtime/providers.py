"""Execution providers of onnxruntime by name: ``onnxruntime:openvino``, ``onnxruntime:cuda`` and the rest.

One wheel of onnxruntime brings some of them, and onnxruntime itself goes on without one that it cannot start: it lists
what was built, not what works, and falls back to the CPU (issues 17801 and 23372 of microsoft/onnxruntime). So a
provider is asked for three times here: is it in the wheel, is it in the session, did it take any operator.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from edgekit.errors import DeviceError, RuntimeMissingError

CPU: Final = "CPUExecutionProvider"


@dataclass(frozen=True, slots=True)
class Provider:
    """One execution provider.

    Attributes:
        name: what onnxruntime calls it.
        package: distribution whose wheel has it; empty where no wheel on the package index does.
        source: how to get it where ``package`` is empty.
        options: what it is started with; ``{threads}`` and ``{index}`` (of the accelerator) are filled in.
        before: providers that take what it leaves, before the CPU.
        takes_place: the wheel takes the place of ``onnxruntime`` and cannot lie beside it.
        plugin: module of a wheel that lies beside onnxruntime and brings a library to register.
    """

    name: str
    package: str = ""
    source: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    before: tuple[str, ...] = ()
    takes_place: bool = True
    plugin: str = ""


_GPU: Final = "'onnxruntime-gpu[cuda,cudnn]'"
_BUILD: Final = (
    "no wheel has it: build onnxruntime with {flag} on the device (build.sh --build_wheel) and install that wheel"
)
PROVIDERS: Final[Mapping[str, Provider]] = {
    # num_of_threads and use_tf32: the threads edgekit was given, and float32 that is float32
    "openvino": Provider(
        "OpenVINOExecutionProvider",
        "onnxruntime-openvino",
        options={"device_type": "CPU", "num_of_threads": "{threads}"},
    ),
    "xnnpack": Provider(
        "XnnpackExecutionProvider",
        source=_BUILD.format(flag="--use_xnnpack"),
        options={"intra_op_num_threads": "{threads}"},
    ),
    "acl": Provider("ACLExecutionProvider", source=_BUILD.format(flag="--use_acl")),
    "nnapi": Provider("NnapiExecutionProvider", source=_BUILD.format(flag="--use_nnapi --android")),
    "coreml": Provider("CoreMLExecutionProvider", "onnxruntime", takes_place=False),
    "qnn": Provider("QNNExecutionProvider", "onnxruntime-qnn", takes_place=False, plugin="onnxruntime_qnn"),
    "cuda": Provider("CUDAExecutionProvider", _GPU, options={"device_id": "{index}", "use_tf32": "0"}),
    "tensorrt": Provider("TensorrtExecutionProvider", _GPU, options={"device_id": "{index}"}, before=("cuda",)),
    "tensorrt:fp16": Provider(
        "TensorrtExecutionProvider",
        _GPU,
        options={"device_id": "{index}", "trt_fp16_enable": "True"},
        before=("cuda",),
    ),
}
"""What follows ``onnxruntime:`` -> the provider."""
ON_CUDA: Final = ("cuda", "tensorrt", "tensorrt:fp16")
"""Those that run on an NVIDIA GPU."""


def prepare(name: str, library: Any, options: Any, *, threads: int, index: int = 0) -> dict[str, Any]:
    """Gets a session ready for the provider ``name``: what ``options`` do not hold is what ``InferenceSession`` takes.

    The CPU comes last by onnxruntime's own rule and is not named.

    Raises:
        DeviceError: the provider has no device to run on.
    """
    chosen = PROVIDERS[name]
    if name in ON_CUDA and hasattr(library, "preload_dlls"):
        with redirect_stdout(sys.stderr):  # it prints what it does not find
            library.preload_dlls()  # those of NVIDIA's wheels in this environment, which the linker does not see
    if chosen.plugin:
        options.add_provider_for_devices([_plugin_device(chosen, library)], _plugin_options(chosen))
        return {}
    rows = [(chosen.name, chosen.options), *((PROVIDERS[k].name, PROVIDERS[k].options) for k in chosen.before)]
    filled = [
        (provider, {key: value.format(threads=threads, index=index) for key, value in given.items()})
        for provider, given in rows
    ]
    return {"providers": filled}


def require_built(name: str, library: Any, path: str) -> None:
    """Raises RuntimeMissingError where the installed onnxruntime has no provider ``name``."""
    chosen, there = PROVIDERS[name], list(library.get_available_providers())
    if chosen.name in there or (chosen.plugin and find_spec(chosen.plugin) is not None):
        return
    if name == "coreml" and sys.platform != "darwin":
        way = "it runs on macOS only, where every wheel of onnxruntime has it"
    else:
        way = f"it comes with {chosen.package}: {_install(chosen, name)}" if chosen.package else chosen.source
    raise RuntimeMissingError(
        f"{path} was to run on onnxruntime's {chosen.name}, and onnxruntime {library.__version__} in {sys.executable} "
        f"has {', '.join(there)}; {way}"
    )


def require_started(name: str, session: Any, path: str, said: str = "") -> None:
    """Raises DeviceError where onnxruntime went on without the provider ``name``. ``said``: its log of the start."""
    active = list(session.get_providers())
    if PROVIDERS[name].name not in active:
        raise not_started(name, path, said or f"onnxruntime started {', '.join(active)} in its place")


def not_started(name: str, path: str, said: str) -> DeviceError:
    """The error of a provider that is installed and did not start, with onnxruntime's reason."""
    told = " ".join(re.sub(r"\x1b\[[\d;]*m", "", said).split())
    return DeviceError(
        f"{path} was to run on onnxruntime's {PROVIDERS[name].name}, which is installed in {sys.executable} and did "
        f"not start: {told[:400]}; run it on the CPU with --runtime onnxruntime, or repair that"
    )


def _plugin_device(chosen: Provider, library: Any) -> Any:
    """The NPU that a plugin drives.

    Raises:
        DeviceError: there is no NPU. Qualcomm's library would then simulate one on the CPU, whose times are nobody's.
    """
    plugin = import_module(chosen.plugin)
    if chosen.name not in library.get_available_providers():
        library.register_execution_provider_library(chosen.name, plugin.get_library_path())
    offered = [device for device in library.get_ep_devices() if device.ep_name == chosen.name]
    for device in offered:
        if device.device.type == library.OrtHardwareDeviceType.NPU:
            return device
    kinds = ", ".join(device.device.type.name for device in offered) or "no device"
    raise DeviceError(f"it finds no NPU on this machine, only: {kinds}, on which it would simulate one")


def _plugin_options(chosen: Provider) -> dict[str, str]:
    """Qualcomm's HTP is the NPU; its wheel says where the library lies."""
    return {"backend_path": str(import_module(chosen.plugin).get_qnn_htp_path())}


def _install(chosen: Provider, name: str) -> str:
    if not chosen.takes_place:
        return f"pip install {chosen.package}"
    place = f".venv-ort-{name.partition(':')[0]}"
    return (
        f"its wheel takes the place of onnxruntime, so give it an environment of its own: python3 -m venv {place} && "
        f"{place}/bin/pip install {chosen.package} numpy, then --on python:{place}/bin/python"
    )
