"""LiteRT's C interface, as far as a profile needs it: its Python classes have no profiler, its library does.

Sources: litert/c/litert_compiled_model.h, litert_model.h, litert_opaque_options.h, litert_profiler_event.h and
tflite/core/api/profiler.h of LiteRT 2. Options travel as TOML text (``enable_profiling = true``). The size of an event
differs between versions (its two records of memory use have two to four numbers each): it is found from the data.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import DeviceError, RuntimeMissingError, UnsupportedError
from edgekit.types import Array

DEFAULT, OPERATOR, DELEGATE_OPERATOR, DELEGATE_PROFILED = 1, 2, 4, 8
"""tflite::Profiler::EventType: the run itself, an operator of the graph, two kinds of operators inside a delegate."""
_CPU = 1
_WRITE = 1
_EVENT_BYTES = (88, 104, 120)
"""tag, type, start, elapsed (8 each); memory before and after (2, 3 or 4 times 8 each); two metadata; source."""
_LARGEST_EVENT = 256
_RANK_BITS, _DIMS_AT, _TYPE_BYTES = 0x7F, 8, 256
_Handle = ctypes.c_void_p


@dataclass(frozen=True, slots=True)
class Event:
    """One timed event, in the order they began. ``index`` of the operator in its graph, ``graph`` that it is in."""

    tag: str
    type: int
    start_us: int
    elapsed_us: int
    index: int
    graph: int


class CompiledModel:
    """A TFLite file opened through the C interface with its profiler on; a context manager.

    Raises:
        RuntimeMissingError: ai-edge-litert brings no libLiteRt.so here.
        UnsupportedError: the library lacks a function, or does not take the options.
        DeviceError: it does not open the file.
    """

    def __init__(self, path: Path, threads: int) -> None:
        self._library = _open_library()
        self._stack = ExitStack()
        self._environment, self._model, self._options = _Handle(), _Handle(), _Handle()
        self._compiled, self._profiler = _Handle(), _Handle()
        try:
            self._open(path, threads)
        except BaseException:
            self._stack.close()
            raise

    def _open(self, path: Path, threads: int) -> None:
        self._make("LiteRtCreateEnvironment", self._environment, 0, None, destroy="LiteRtDestroyEnvironment")
        name = str(path).encode()
        self._make("LiteRtCreateModelFromFile", self._model, self._environment, name, destroy="LiteRtDestroyModel")
        self._make("LiteRtCreateOptions", self._options, destroy="LiteRtDestroyOptions")
        self._call("LiteRtSetOptionsHardwareAccelerators", self._options, _CPU)
        self._option(b"runtime_options_string", b"enable_profiling = true\n")
        self._option(b"xnnpack", f"num_threads = {threads}\n".encode())
        where = (self._environment, self._model, self._options)
        self._make("LiteRtCreateCompiledModel", self._compiled, *where, destroy="LiteRtDestroyCompiledModel")
        self._call("LiteRtCompiledModelGetProfiler", self._compiled, ctypes.byref(self._profiler))
        if not self._profiler.value:
            raise UnsupportedError("--profile: this ai-edge-litert gives its models no profiler; update it")

    def bind(self, arrays: Sequence[tuple[int, Array]]) -> None:
        """Fills the inputs, of tensor index and values each, and lays out the outputs."""
        signature = _Handle()
        self._call("LiteRtGetModelSignature", self._model, _size(0), ctypes.byref(signature))
        by_index = {index: np.asarray(array, order="C") for index, array in arrays}
        tensors = self._tensors(signature, "Input")
        given = [by_index[self._index(tensor)] for tensor in tensors]
        for place, (tensor, array) in enumerate(zip(tensors, given, strict=True)):
            if self._shape(tensor) != array.shape:
                dims = (ctypes.c_int32 * array.ndim)(*array.shape)
                resize = "LiteRtCompiledModelResizeInputTensor"
                self._call(resize, self._compiled, _size(0), _size(place), dims, _size(array.ndim))
        pairs = enumerate(zip(tensors, given, strict=True))
        self._inputs = [self._buffer("Input", place, tensor, array.shape) for place, (tensor, array) in pairs]
        for buffer, array in zip(self._inputs, given, strict=True):
            self._write(buffer, array)
        results = self._tensors(signature, "Output")
        shapes = self._output_shapes(len(results)) if results else []
        self._outputs = [self._buffer("Output", k, t, shapes[k]) for k, t in enumerate(results)]

    def run(self) -> None:
        """One inference on what :meth:`bind` filled in."""
        ins, outs = self._inputs, self._outputs
        given, results = (_Handle * len(ins))(*ins), (_Handle * len(outs))(*outs)
        counts = _size(len(ins)), _size(len(outs))
        self._call("LiteRtRunCompiledModel", self._compiled, _size(0), counts[0], given, counts[1], results)

    def profiled(self, runs: int) -> list[Event]:
        """Runs ``runs`` times with the profiler on and gives what it noted."""
        self._call("LiteRtResetProfiler", self._profiler)
        self._call("LiteRtStartProfiler", self._profiler)
        for _ in range(runs):
            self.run()
        self._call("LiteRtStopProfiler", self._profiler)
        count = ctypes.c_int()
        self._call("LiteRtGetNumProfilerEvents", self._profiler, ctypes.byref(count))
        data = (ctypes.c_uint8 * (_LARGEST_EVENT * max(count.value, 1)))()
        if count.value:
            self._call("LiteRtGetProfilerEvents", self._profiler, count, data)
        return read_events(bytes(data), count.value)

    def close(self) -> None:
        self._stack.close()

    def _tensors(self, signature: _Handle, kind: str) -> list[_Handle]:
        count = ctypes.c_size_t()
        self._call(f"LiteRtGetNumSignature{kind}s", signature, ctypes.byref(count))
        found = []
        for place in range(count.value):
            tensor = _Handle()
            self._call(f"LiteRtGetSignature{kind}TensorByIndex", signature, _size(place), ctypes.byref(tensor))
            found.append(tensor)
        return found

    def _index(self, tensor: _Handle) -> int:
        index = ctypes.c_uint32()
        self._call("LiteRtGetTensorIndex", tensor, ctypes.byref(index))
        return int(index.value)

    def _type(self, tensor: _Handle) -> Any:
        kind = (ctypes.c_uint8 * _TYPE_BYTES)()
        self._call("LiteRtGetRankedTensorType", tensor, kind)
        return kind

    def _shape(self, tensor: _Handle) -> tuple[int, ...]:
        kind = bytes(self._type(tensor))
        return struct.unpack_from(f"<{kind[4] & _RANK_BITS}i", kind, _DIMS_AT)

    def _output_shapes(self, count: int) -> list[tuple[int, ...]]:
        layout_bytes = 4 + 4 * 8 + 4 * 8  # rank, dimensions, strides
        data = (ctypes.c_uint8 * (layout_bytes * count))()
        name = "LiteRtGetCompiledModelOutputTensorLayouts"
        self._call(name, self._compiled, _size(0), _size(count), data, ctypes.c_bool(True))
        raw = bytes(data)
        starts = range(0, layout_bytes * count, layout_bytes)
        return [struct.unpack_from(f"<{raw[at] & _RANK_BITS}i", raw, at + 4) for at in starts]

    def _buffer(self, kind: str, place: int, tensor: _Handle, shape: tuple[int, ...]) -> _Handle:
        needs, buffer, type_ = _Handle(), _Handle(), self._type(tensor)
        struct.pack_into(f"<{len(shape)}i", type_, _DIMS_AT, *shape)
        name = f"LiteRtGetCompiledModel{kind}BufferRequirements"
        self._call(name, self._compiled, _size(0), _size(place), ctypes.byref(needs))
        make = "LiteRtCreateManagedTensorBufferFromRequirements"
        self._make(make, buffer, self._environment, type_, needs, destroy="LiteRtDestroyTensorBuffer")
        return buffer

    def _write(self, buffer: _Handle, array: Array) -> None:
        size, memory = ctypes.c_size_t(), _Handle()
        self._call("LiteRtGetTensorBufferPackedSize", buffer, ctypes.byref(size))
        if size.value != array.nbytes:
            raise DeviceError(f"--profile: LiteRT wants an input of {size.value:,} bytes, got {array.nbytes:,}")
        self._call("LiteRtLockTensorBuffer", buffer, ctypes.byref(memory), _WRITE)
        ctypes.memmove(memory, array.ctypes.data, array.nbytes)
        self._call("LiteRtUnlockTensorBuffer", buffer)

    def _option(self, identifier: bytes, text: bytes) -> None:
        """Options as text; the library frees its copy with C's own ``free``."""
        c = ctypes.CDLL(None)
        c.strdup.restype = ctypes.c_void_p
        option = _Handle()
        free = ctypes.cast(c.free, _Handle)
        self._call("LiteRtCreateOpaqueOptions", identifier, _Handle(c.strdup(text)), free, ctypes.byref(option))
        self._call("LiteRtAddOpaqueOptions", self._options, option)

    def _make(self, name: str, handle: _Handle, *arguments: Any, destroy: str) -> None:
        self._call(name, *arguments, ctypes.byref(handle))
        end = getattr(self._library, destroy)
        end.restype = None
        self._stack.callback(end, handle)

    def _call(self, name: str, *arguments: Any) -> None:
        try:
            function = getattr(self._library, name)
        except AttributeError as error:
            raise UnsupportedError(f"--profile: this ai-edge-litert has no {name}; update it") from error
        status = function(*arguments)
        if status:
            raise DeviceError(f"--profile: LiteRT's {name} ended with status {status}; leave --profile out")


def read_events(data: bytes, count: int) -> list[Event]:
    """The first ``count`` events in ``data``, whose size is the one for which every event makes sense.

    Raises:
        UnsupportedError: none of the known sizes does: a version of LiteRT that this edgekit does not know.
    """
    for size in _EVENT_BYTES:
        kinds = [struct.unpack_from("<i", data, at + 8)[0] for at in range(0, size * count, size)]
        sources = [struct.unpack_from("<i", data, at + size - 8)[0] for at in range(0, size * count, size)]
        if all(k > 0 and k & (k - 1) == 0 and k < 1 << 12 for k in kinds) and all(0 <= s <= 2 for s in sources):
            return [_event(data, at, size) for at in range(0, size * count, size)]
    raise UnsupportedError("--profile: this ai-edge-litert writes profile events in a form edgekit does not know")


def _event(data: bytes, at: int, size: int) -> Event:
    tag, kind, start, elapsed = struct.unpack_from("<QixxxxQQ", data, at)
    index, graph = struct.unpack_from("<QQ", data, at + size - 24)
    text = ctypes.string_at(tag).decode("utf-8", "replace") if tag else ""
    return Event(text, kind, start, elapsed, index, graph)


def _size(number: int) -> ctypes.c_size_t:
    return ctypes.c_size_t(number)


def _open_library() -> Any:
    from importlib.util import find_spec

    found = find_spec("ai_edge_litert")
    places = list(found.submodule_search_locations or ()) if found is not None else []
    for place in places:
        library = Path(place) / "libLiteRt.so"
        if library.is_file():
            return ctypes.CDLL(str(library))
    raise RuntimeMissingError(
        "--profile of .tflite files needs libLiteRt.so of ai-edge-litert 2, which is not there; "
        "run: pip install 'ai-edge-litert>=2'"
    )
