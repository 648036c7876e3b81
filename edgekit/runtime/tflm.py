"""TFLite files on TensorFlow Lite for Microcontrollers, by its interpreter for Python (``tflite-micro``).

What it computes here are the reference kernels that a microcontroller runs; how long that takes says nothing of one.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, ClassVar, Final

import numpy as np

from edgekit import children
from edgekit.environments import TFLM
from edgekit.errors import DeviceError, ModelError, UnsupportedError, UsageError, WorkerMemoryError
from edgekit.flatbuffer_reader import has_outside_buffers
from edgekit.graph import micro
from edgekit.reading import reading
from edgekit.results.loaded import Arena, Budget
from edgekit.runtime.base import Runner
from edgekit.runtime.litert import ports_of
from edgekit.runtime.native_stderr import capture_stderr
from edgekit.runtime.ports import Port
from edgekit.types import Array, Format

BUDGET: Final = "EDGEKIT_MCU_BUDGET"
"""Environment variable of a worker that stands for a microcontroller: bytes of its arena and for a file, 0: any."""
_FIRST, _MOST, _STEP = 1 << 20, 1 << 31, 16
ARENA_S: Final = 600.0
"""Longest search for an arena; it takes a second or two, and longer where a run does."""
_PROBE_S = 60.0
_NO_ROOM = re.compile(r"Failed to (allocate|resize)|Too many buffers|missing: \d+|[Aa]rena size is too small")
_UNKNOWN = re.compile(r"Didn't find op for builtin opcode '(\w+)'|Failed to get registration from op code (\w+)")
_PARTS = re.compile(r"Arena allocation (total|head|tail) (\d+) bytes")
_PROBE: Final = """\
import sys
import numpy as np
from tflite_micro.python.tflite_micro import runtime
path, run, inputs, sizes = sys.argv[1], sys.argv[2] == "run", int(sys.argv[3]), range(*map(int, sys.argv[4:]))
for size in sizes:
    interpreter = runtime.Interpreter.from_file(path, arena_size=size)
    if run:
        for place in range(inputs):
            details = interpreter.get_input_details(place)
            interpreter.set_input(np.zeros(details["shape"], details["dtype"]), place)
        interpreter.invoke()
    print(size, flush=True)
"""
"""Opens a file in smaller and smaller arenas. One that is too small is an error or the end of the process. It runs on
zeros: what memory holds may be no row of a table."""


class TflmRunner(Runner):
    """TFLite on ``tflite_micro.python.tflite_micro.runtime.Interpreter``. A size that the file leaves free is the one
    that it holds: nothing is resized on a microcontroller."""

    name = "tflm"
    formats: ClassVar[tuple[Format, ...]] = (Format.TFLITE,)
    package = "tflite-micro"
    module = "tflite_micro.python.tflite_micro.runtime"
    environment = TFLM
    timed = False

    @classmethod
    def check_request(cls, variant: str, device: str, threads: int) -> None:
        super().check_request(variant, device, threads)
        if threads != 1:
            raise UsageError(f"threads is {threads}; tflm computes in one thread, as a microcontroller does: give 1")

    def _open(self) -> tuple[Sequence[Port], Sequence[Port]]:
        path = self.artifact.path
        self._content = path.read_bytes()
        if has_outside_buffers(self._content):
            raise UnsupportedError(
                f"{path} has weights behind its flatbuffer, where {self.name} does not look: it would compute with "
                "whatever is in memory; convert or quantize the file again with edgekit"
            )
        unpacked = self._library.convert_bytearray_to_object
        with reading(path, ModelError, "a TFLite model"):
            self._model: Any = unpacked(bytearray(self._content))
            self._graph: Any = self._model.subgraphs[0]
            self._operators = self._listed()
        self._open_interpreter()
        self._check_budget(os.environ.get(BUDGET, "0,0"))
        return ports_of(_Described(self._interpreter, self._model), str(path))

    def _listed(self) -> tuple[str, ...]:
        """The file's operators, each once, in the order of its list."""
        enumeration = self._library.schema_fb.BuiltinOperator
        names = {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}
        found = []
        for code in self._model.operatorCodes or ():
            custom = (code.customCode or b"").decode("utf-8", "replace")
            number = self._library.get_builtin_code_from_operator_code(code)
            found.append(custom or names.get(number, f"operator {number}"))
        return tuple(dict.fromkeys(found))

    def _open_interpreter(self) -> None:
        """With as much memory as it needs: what is too little is said, and twice as much is tried."""
        size = max(_FIRST, 2 * len(self._content))
        while True:
            said: list[bytes] = []
            try:
                with capture_stderr() as said:
                    self._interpreter = self._library.Interpreter.from_bytes(self._content, arena_size=size)
                return
            except (RuntimeError, ValueError, MemoryError) as error:
                words = b"".join(said).decode("utf-8", "replace")
                if not _NO_ROOM.search(words):
                    raise self._refusal(words or str(error)) from error
                if size >= _MOST:
                    raise WorkerMemoryError(
                        f"{self.artifact.path}: {self.name} {self.version} has not enough with {size:,} bytes: {words}"
                    ) from error
                size *= 2

    def _refusal(self, words: str) -> ModelError | UnsupportedError:
        path, runtime = self.artifact.path, f"{self.name} {self.version}"
        named = [one or other for one, other in _UNKNOWN.findall(words)]
        lacking = micro.missing(self._operators) or tuple(dict.fromkeys(named))
        if named:
            return UnsupportedError(
                f"{path}: {runtime} does not have {', '.join(lacking)}; write these layers with others, or run the "
                "file with --runtime litert"
            )
        told = "; ".join(dict.fromkeys(line.strip() for line in words.splitlines() if line.strip()))[:400]
        return UnsupportedError(f"{path}: {runtime} does not accept it: {told}; quantize it with --for mcu")

    def _check_budget(self, spelled: str) -> None:
        arena, flash = (int(size) or None for size in spelled.split(","))
        budget = Budget(arena_bytes=arena, flash_bytes=flash)
        if budget == Budget():
            return
        found = budget.spent(self.arena(), len(self._content))
        if found.exceeded:
            raise WorkerMemoryError(f"{self.artifact.path} does not fit: {found.exceeded}; use a smaller model")

    def _ready(self) -> None:
        places = list(map(int, self._graph.inputs)), list(map(int, self._graph.outputs))
        self._in = [places[0].index(int(port.key)) for port in self._inputs]
        self._out = [places[1].index(int(port.key)) for port in self._outputs]
        self._resources = "VAR_HANDLE" in self._operators
        variables = any(tensor.isVariable for graph in self._model.subgraphs for tensor in graph.tensors)
        card = self.artifact.card
        anew = card is not None and card.stateful is False  # every call starts from zeros by itself
        self._forgets = (self._resources or variables) and not self.stateful and not anew

    def _call(self, arrays: list[Array]) -> list[Array]:
        self._copy_in(arrays)
        return self._copy_out(self._run_staged(arrays))

    def _copy_in(self, arrays: list[Array]) -> None:
        if self._forgets:
            self.reset()
        for place, array in zip(self._in, arrays, strict=True):
            self._interpreter.set_input(array, place)

    def _run_staged(self, arrays: list[Array]) -> list[Array]:
        try:
            self._interpreter.invoke()
        except RuntimeError as error:
            with capture_stderr() as said, suppress(RuntimeError):  # once more, to hear why
                self._interpreter.invoke()
            words = " ".join(b"".join(said).decode("utf-8", "replace").split())
            raise DeviceError(
                f"{self.artifact.path.name}: {self.name} {self.version} failed while running: {words or error}"
            ) from error
        return []

    def _copy_out(self, made: list[Array]) -> list[Array]:
        return [np.asarray(self._interpreter.get_output(place)) for place in self._out]

    def reset(self) -> None:
        """Variable tensors go back to zero; a graph that assigns resource variables is opened anew, since its own reset
        makes zeros of them, whatever they begin with."""
        if self._resources:
            self._open_interpreter()
        else:
            self._interpreter.reset()

    def arena_bytes(self) -> int:
        return self.arena().bytes

    def arena(self) -> Arena:
        """The arena the file needs, found by opening it in smaller and smaller ones (in processes of their own).

        Raises:
            DeviceError: it does not run in any of them.
        """
        total, head, tail = self._allocated()
        high, step = 2 * total + 1024, max(total // 32, _STEP) // _STEP * _STEP
        while step:
            found = self._enough("open", high, total - step, -step)
            if not found:
                raise DeviceError(f"{self.artifact.path}: {self.name} does not open it again in {high:,} bytes")
            high, step = found[-1], 0 if step == _STEP else max(step // 32, _STEP) // _STEP * _STEP
        size = next((n for n in range(high, 2 * high + 4096, 256) if self._enough("run", n, n + 1, 1)), None)
        if size is None:
            raise DeviceError(f"{self.artifact.path}: {self.name} opens it in {high:,} bytes and does not run it there")
        operators = tuple(micro.method(name) for name in self._operators)
        return Arena(bytes=size, persistent_bytes=tail, non_persistent_bytes=head, operators=operators)

    def _allocated(self) -> tuple[int, int, int]:
        """Bytes in all, non-persistent and persistent, as the interpreter records them."""
        with capture_stderr() as said:
            self._interpreter.print_allocations()
        found = {name: int(count) for name, count in _PARTS.findall(b"".join(said).decode("utf-8", "replace"))}
        if len(found) != 3:
            raise DeviceError(f"{self.artifact.path}: {self.name} {self.version} does not say what memory it took")
        return found["total"], found["head"], found["tail"]

    def _enough(self, what: str, first: int, last: int, step: int) -> list[int]:
        """The sizes from ``first`` on in which the file can be opened or run, up to the first that is too small."""
        words = [
            sys.executable,
            "-c",
            _PROBE,
            str(self.artifact.path.absolute()),
            what,
            str(len(self._graph.inputs)),
            str(first),
            str(last),
            str(step),
        ]
        try:
            done = children.run(words, timeout=_PROBE_S)
        except subprocess.TimeoutExpired as error:
            raise DeviceError(f"{self.artifact.path}: {self.name} did not {what} it within {_PROBE_S:g} s") from error
        return [int(line) for line in done.stdout.split()]

    def close(self) -> None:
        self._interpreter = self._model = self._graph = None
        self._content = b""


class _Described:
    """The interpreter under the methods of TensorFlow Lite's, by which :func:`ports_of` reads one."""

    def __init__(self, interpreter: Any, model: Any) -> None:
        self._model, self._graph = model, model.subgraphs[0]
        self._rows: dict[str, list[dict[str, Any]]] = {
            "inputs": [self._row(t, interpreter.get_input_details(k)) for k, t in enumerate(self._graph.inputs)],
            "outputs": [self._row(t, interpreter.get_output_details(k)) for k, t in enumerate(self._graph.outputs)],
        }

    def _row(self, index: int, details: Mapping[str, Any]) -> dict[str, Any]:
        name = self._graph.tensors[index].name
        return {**details, "name": (name or b"").decode(), "index": int(index), "shape_signature": ()}

    def get_input_details(self) -> list[dict[str, Any]]:
        return self._rows["inputs"]

    def get_output_details(self) -> list[dict[str, Any]]:
        return self._rows["outputs"]

    def get_signature_list(self) -> list[Any]:
        """The signatures of the main graph."""
        return [one for one in self._model.signatureDefs or () if one.subgraphIndex == 0]

    def get_signature_runner(self, signature: Any) -> Any:
        rows = {row["index"]: row for side in self._rows.values() for row in side}
        named = [
            {one.name.decode(): rows.get(one.tensorIndex, {"index": one.tensorIndex}) for one in side or ()}
            for side in (signature.inputs, signature.outputs)
        ]
        return SimpleNamespace(get_input_details=lambda: named[0], get_output_details=lambda: named[1])
