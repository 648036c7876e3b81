"""The NVIDIA driver, asked by its own library: how many GPUs there are, what they are called, which version it is."""

from __future__ import annotations

import ctypes
from typing import Any, Final

from edgekit.errors import DeviceError

LIBRARY: Final = "libcuda.so.1"
"""CUDA's runtime and everything on it goes through it."""
_MEANINGS: Final = {
    100: "the driver finds no GPU (CUDA_ERROR_NO_DEVICE): none is built in, none was given to this container, or "
    "CUDA_VISIBLE_DEVICES hides it",
    803: "the driver's library and its kernel module are of different versions (CUDA_ERROR_SYSTEM_DRIVER_MISMATCH): "
    "restart the machine after an update, or the container",
    999: "the driver does not start (CUDA_ERROR_UNKNOWN): see nvidia-smi and dmesg",
}
"""CUresult of cuInit (CUDA Driver API, error handling) -> what to do."""
_NAME_BYTES: Final = 256


def gpu_count(library: str = LIBRARY) -> int:
    """How many GPUs the driver gives this process.

    Raises:
        DeviceError: there is no driver, or it does not start; the message says which.
    """
    count = ctypes.c_int(0)
    _require(int(_started(library).cuDeviceGetCount(ctypes.byref(count))))
    return count.value


def gpu_name(index: int, library: str = LIBRARY) -> str:
    """Name of a GPU, and the CUDA version its driver knows: ``NVIDIA H200, driver for CUDA 13.0``.

    Raises:
        DeviceError: see :func:`gpu_count`; or there is no such GPU.
    """
    driver, device, version = _started(library), ctypes.c_int(0), ctypes.c_int(0)
    name = ctypes.create_string_buffer(_NAME_BYTES)
    _require(int(driver.cuDeviceGet(ctypes.byref(device), index)))
    _require(int(driver.cuDeviceGetName(name, _NAME_BYTES, device)))
    _require(int(driver.cuDriverGetVersion(ctypes.byref(version))))
    return f"{name.value.decode()}, driver for CUDA {version.value // 1000}.{version.value % 1000 // 10}"


def _started(library: str) -> Any:
    try:
        driver = ctypes.CDLL(library)
    except OSError as error:
        raise DeviceError(
            f"no NVIDIA driver on this machine ({error}): install the driver of the GPU; in a container, start it with "
            "the GPU (docker run --gpus all)"
        ) from error
    _require(int(driver.cuInit(0)))
    return driver


def _require(code: int) -> None:
    if code:
        raise DeviceError(_MEANINGS.get(code, f"the NVIDIA driver does not do what it is asked: CUresult {code}"))
