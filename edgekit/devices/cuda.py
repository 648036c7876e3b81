"""``cuda`` and ``cuda:N``: a worker on this machine whose runtime is told to run on an NVIDIA GPU.

What is missing is told apart: the driver is looked for here, before a worker starts; whether torch or onnxruntime were
built for CUDA, and fit the driver, is said by the runtime in the worker.
"""

from __future__ import annotations

from typing import ClassVar

from edgekit.devices.local import LocalTransport
from edgekit.errors import DeviceError, UsageError
from edgekit.runtime.cuda_driver import LIBRARY, gpu_count
from edgekit.types import DeviceSpec


def parse_index(address: str) -> int:
    """``cuda`` is GPU 0, ``cuda:1`` the second.

    Raises:
        UsageError: not a number.
    """
    if address and not (address.isascii() and address.isdigit()):
        raise UsageError(f"device 'cuda:{address}': give cuda, or cuda:N with the number of a GPU from 0")
    return int(address or 0)


class CudaTransport(LocalTransport):
    """A local worker for GPU ``N``.

    Raises:
        DeviceError: no driver, or no such GPU.
    """

    spelling: ClassVar[str] = "cuda[:N]"
    description: ClassVar[str] = "an NVIDIA GPU of this machine, a worker whose runtime runs on it"

    @classmethod
    def check_address(cls, address: str) -> None:
        parse_index(address)

    start_s = 60.0

    def __init__(self, spec: DeviceSpec, library: str = LIBRARY) -> None:
        super().__init__(spec)
        index = parse_index(spec.address)
        try:
            count = gpu_count(library)
        except DeviceError as error:
            raise DeviceError(f"device {spec.name!r} cannot be used: {error}; or use --on cpu") from error
        if index >= count:
            raise DeviceError(f"device {spec.name!r} cannot be used: there are {count} GPUs, counted from cuda:0")
        self.runs_on = f"cuda:{index}"
