"""Numbers too small for a normalised float: how many weights are such, and a CPU that takes them for zero.

An x86 core may take a hundred cycles longer for an operation on them (Intel, Optimization Reference Manual, 3.8.3.3),
and the weights of trained or pruned networks have them where random weights have none.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import platform
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import UnsupportedError
from edgekit.flatbuffer_reader import constants
from edgekit.protobuf_reader import fields
from edgekit.runtime import Runner
from edgekit.types import Array, Format

_ENVIRONMENT_BYTES = 64
_CONTROL = {"x86_64": (28, 0x8040), "aarch64": (0, 1 << 24)}
"""Machine -> place of the control word in C's ``fenv_t``, bits: MXCSR FTZ (15) and DAZ (6); FPCR FZ (24)."""
_GRAPH, _INITIALIZER, _DTYPE, _FLOATS, _RAW = 7, 5, 2, 4, 9
_ONNX_FLOAT, _ONNX_DOUBLE, _ONNX_HALF = 1, 11, 10
_ONNX_TYPES = {_ONNX_FLOAT: "<f4", _ONNX_DOUBLE: "<f8", _ONNX_HALF: "<f2"}


def flush_to_zero() -> None:
    """Makes this thread, and those it starts from now on, take denormal numbers for zero.

    Raises:
        UnsupportedError: a machine whose control word edgekit does not know.
    """
    known = _CONTROL.get(platform.machine())
    if known is None:
        raise UnsupportedError(f"flush-to-zero cannot be set on {platform.machine()}; there are: {', '.join(_CONTROL)}")
    place, bits = known
    library = ctypes.CDLL(ctypes.util.find_library("m"))
    environment = (ctypes.c_uint8 * _ENVIRONMENT_BYTES)()
    library.fegetenv(environment)
    word = int.from_bytes(bytes(environment[place : place + 4]), "little") | bits
    environment[place : place + 4] = list(word.to_bytes(4, "little"))
    library.fesetenv(environment)


def counts(arrays: Iterable[Array]) -> dict[str, int]:
    """``{"weights", "denormal"}`` of floating-point arrays."""
    weights = denormal = 0
    for array in arrays:
        smallest = np.finfo(array.dtype).tiny
        weights += array.size
        with np.errstate(all="ignore"):
            denormal += int(((np.abs(array) < smallest) & (array != 0)).sum())
    return {"weights": weights, "denormal": denormal}


def float_weights(runner: Runner) -> Iterator[Array]:
    """The floating-point weights of the runner's file, flat; weights that lie outside an ONNX file are left out."""
    path = runner.artifact.path
    if runner.artifact.format is Format.ONNX:
        return _onnx_weights(path)
    if runner.artifact.format is Format.TFLITE:
        return (np.frombuffer(data, dtype) for dtype, data in constants(path.read_bytes()) if dtype.startswith("<f"))
    return _torch_weights(runner)


def _onnx_weights(path: Path) -> Iterator[Array]:
    data = path.read_bytes()
    for number, _, _, begin, close in fields(data):
        if number != _GRAPH:
            continue
        for inner, _, _, b, c in fields(data, begin, close):
            if inner == _INITIALIZER:
                yield from _onnx_tensor(data, b, c)


def _onnx_tensor(data: bytes, begin: int, close: int) -> Iterator[Array]:
    dtype, raw, floats = 0, b"", b""
    for number, wire, _, b, c in fields(data, begin, close):
        if number == _DTYPE and wire == 0:
            dtype = data[b]
        elif number == _RAW:
            raw = data[b:c]
        elif number == _FLOATS and wire == 2:
            floats += data[b:c]
    if dtype in _ONNX_TYPES and raw:
        yield np.frombuffer(raw, _ONNX_TYPES[dtype])
    elif dtype == _ONNX_FLOAT and floats:
        yield np.frombuffer(floats, "<f4")


def _torch_weights(runner: Runner) -> Iterator[Array]:
    module: Any = getattr(runner, "graph_module", None)
    for tensor in module.state_dict().values() if module is not None else ():
        array = tensor.detach().cpu()
        if array.is_floating_point():
            yield array.float().numpy().reshape(-1)
