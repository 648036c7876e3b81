"""TFLite files on ai-edge-litert, or on tflite-runtime where that is what a board has: one implementation for both."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from edgekit.environments import TFLITE
from edgekit.errors import ModelError, RuntimeMissingError, UnsupportedError, WorkerMemoryError
from edgekit.flatbuffer_reader import custom_operators
from edgekit.reading import reading
from edgekit.results.loaded import Delegation, Operator
from edgekit.runtime.base import Runner
from edgekit.runtime.native_stderr import filter_stderr
from edgekit.runtime.ports import INTEGERS, Port, natural, unnamed
from edgekit.types import Array, Format, QuantizedTensor, TensorSpec

XNNPACK, TFLITE_KERNELS, FLEX = "XNNPACK", "TFLite kernels", "TensorFlow (Flex)"
GET_FLEX = (
    "TensorFlow up to 2.19 does, in an environment of its own: python3.11 -m venv .venv-flex && "
    ".venv-flex/bin/pip install tensorflow-cpu==2.18.1, then --on python:.venv-flex/bin/python (for the proof "
    "of an export: EDGEKIT_FLEX_PYTHON=.venv-flex/bin/python)"
)
"""Where Flex operators run (google-ai-edge/LiteRT#6458: later releases of TensorFlow do not bring them)."""
_NEEDS_FLEX = re.compile(r"Select TensorFlow op|[Uu]nresolved custom op: Flex[A-Z]")
_DELEGATE, _ASSIGN = "DELEGATE", "ASSIGN_VARIABLE"
_REASONS = (
    (
        r"[Ee]ncountered unresolved custom op: ([^.\s]+)",
        "the custom operator {0} is unknown to {runtime}; convert without it",
    ),
    (
        r"Didn't find op for builtin opcode '(STABLEHLO_\w+)'",
        "{runtime} has no kernel for {0}, which the conversion left over; write that step with other operators",
    ),
    (
        r"Didn't find op for builtin opcode '(\w+)' version '(\d+)'",
        "{runtime} has no {0} in version {1}: the file is newer than the runtime; use --runtime litert, or a newer one",
    ),
    (
        r"not a valid Flatbuffer|[Cc]ould not open|is not a flatbuffer",
        "it is cut short or damaged; copy or convert it again",
    ),
)


@dataclass(frozen=True, slots=True)
class FileOperator:
    """An operator of a TFLite file: its place, type, the name of its first output, and who runs it."""

    index: int
    type: str
    output: str
    by: str


_Seen = tuple[tuple[int, ...], int, bool]
"""Shape, bytes of an element, whether it is a constant."""


class InterpreterRunner(Runner):
    """What both packages share: the Interpreter class of TensorFlow Lite."""

    formats: ClassVar[tuple[Format, ...]] = (Format.TFLITE,)

    @property
    def _interpreter_class(self) -> Any:
        return self._library.Interpreter

    def _open(self) -> tuple[Sequence[Port], Sequence[Port]]:
        self._open_interpreter()
        return ports_of(self._interpreter, str(self.artifact.path))

    def _open_interpreter(self) -> None:
        try:
            with filter_stderr():
                self._interpreter = self._interpreter_class(
                    model_path=str(self.artifact.path), num_threads=self.threads, **self._kernels()
                )
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            if not str(error).strip():  # the planner of the tensors' memory is the one part that fails without a word
                raise WorkerMemoryError(
                    f"{self.artifact.path}: {self.name} {self.version} ran out of memory when it laid out the tensors; "
                    "use a smaller model or batch, or allow it more"
                ) from error
            if _NEEDS_FLEX.search(str(error)):
                raise self._without_flex() from error
            raise ModelError(f"{self.artifact.path}: {self._reason(str(error))}") from error

    def _kernels(self) -> dict[str, Any]:
        """Options of the Interpreter that choose its kernels; none: XNNPACK's, and its own where that has none."""
        return {}

    def _without_flex(self) -> RuntimeMissingError:
        content = self.artifact.path.read_bytes()
        needed = ", ".join(name for name in custom_operators(content) if name.startswith("Flex"))
        return RuntimeMissingError(
            f"{self.artifact.path} needs TensorFlow's own operators ({needed}), which {self.name} {self.version} does "
            f"not bring; {GET_FLEX}"
        )

    def _ready(self) -> None:
        self._in = [int(port.key) for port in self._inputs]
        self._out = [int(port.key) for port in self._outputs]
        with reading(self.artifact.path, ModelError, "a TFLite model"):  # the names of all tensors are decoded
            operators = self._interpreter._get_ops_details()
        self._resources = any(op["op_name"] == _ASSIGN for op in operators)
        self._lay_out()

    def _lay_out(self) -> None:
        self._shapes = [tuple(self._interpreter.get_tensor(index).shape) for index in self._in]
        self._set, self._get = self._interpreter.set_tensor, self._interpreter.get_tensor
        self._invoke = self._interpreter.invoke
        forget = self.reset if self._resources else self._interpreter.reset_all_variables
        card = self.artifact.card
        anew = card is not None and card.stateful is False  # every call starts from zeros by itself
        self._forget = None if self.stateful or anew else forget

    def _bind(self, shapes: list[tuple[int, ...]]) -> None:
        if shapes == self._shapes:
            return
        self._shapes = []  # unknown, should the runtime refuse
        for index, shape in zip(self._in, shapes, strict=True):
            self._interpreter.resize_tensor_input(index, shape)
        self._interpreter.allocate_tensors()
        self._shapes = shapes

    def _call(self, arrays: list[Array]) -> list[Array]:
        if self._forget is not None:
            self._forget()
        for index, array in zip(self._in, arrays, strict=True):
            self._set(index, array)
        self._invoke()
        return [self._get(index) for index in self._out]

    def _copy_in(self, arrays: list[Array]) -> None:
        if self._forget is not None:
            self._forget()
        for index, array in zip(self._in, arrays, strict=True):
            self._set(index, array)

    def _run_staged(self, arrays: list[Array]) -> list[Array]:
        self._invoke()
        return []

    def _copy_out(self, made: list[Array]) -> list[Array]:
        return [self._get(index) for index in self._out]

    def save_compiled(self, target: str) -> None:
        raise UnsupportedError(f"the Interpreter class of {self.package} offers no cache of XNNPACK's packed weights")

    def arena_bytes(self) -> int:
        """From the first to the last byte of the tensors that TFLite has laid out itself: constants lie in the file,
        and what is inside XNNPACK lies in a memory of its own."""
        constant = self._constant_tensors()
        places = []
        for row in self._interpreter.get_tensor_details():
            index = int(row["index"])
            if index in constant:
                continue
            try:
                view = self._interpreter.tensor(index)()
            except (ValueError, RuntimeError):  # inside the delegate, or not laid out
                continue
            if isinstance(view, np.ndarray):  # of a scalar numpy gives a copy, which lies anywhere
                places.append((view.ctypes.data, view.ctypes.data + view.nbytes))
        return max((end for _, end in places), default=0) - min((start for start, _ in places), default=0)

    def _constant_tensors(self) -> set[int]:
        """Tensors that no operator makes and the user does not give: weights, shapes, axes."""
        operators = self._interpreter._get_ops_details()
        made = {int(tensor) for op in operators for tensor in op["outputs"]}
        return {int(row["index"]) for row in self._interpreter.get_tensor_details()} - made - set(self._in)

    def reset(self) -> None:
        """Variable tensors go back to zero; a graph that assigns resource variables, which
        ``reset_all_variables`` leaves as they are, is opened anew."""
        if not self._resources:
            self._interpreter.reset_all_variables()
            return
        shapes = self._shapes
        self._open_interpreter()
        self._lay_out()
        self._bind(shapes)

    def delegation(self) -> Delegation:
        operators = self.operators()
        left = tuple(Operator(name=op.output, type=op.type, by=op.by) for op in operators if op.by != XNNPACK)
        taken = len(operators) - len(left)
        return Delegation(len(operators), taken, XNNPACK if taken else "", left)

    def operators(self) -> list[FileOperator]:
        """The operators of the file's main graph, each with who runs it.

        XNNPACK took those between a DELEGATE node's outputs and its inputs, but for Flex operators, which TensorFlow's
        own delegate takes and no other can.
        """
        operators = self._interpreter._get_ops_details()  # the only way either package offers
        delegates = [op for op in operators if op["op_name"] == _DELEGATE]
        own = [op for op in operators if op["op_name"] != _DELEGATE]
        taken = _between(own, delegates)
        names = {int(row["index"]): str(row["name"]) for row in self._interpreter.get_tensor_details()}
        made = []
        for op in own:
            flex = str(op["op_name"]).startswith("Flex")
            by = FLEX if flex else XNNPACK if op["index"] in taken else TFLITE_KERNELS
            output = names.get(int(op["outputs"][0]), "") if len(op["outputs"]) else ""
            made.append(FileOperator(int(op["index"]), str(op["op_name"]), output, by))
        return made

    def operator_shapes(self) -> list[tuple[str, list[_Seen], list[_Seen]]]:
        """Type, inputs and outputs of each operator of the main graph, with the shapes of the last run."""
        tensors = {int(row["index"]): row for row in self._interpreter.get_tensor_details()}
        constant = self._constant_tensors()

        def seen(indices: Iterable[int]) -> list[_Seen]:
            rows = [tensors[int(index)] for index in indices if int(index) in tensors]
            return [
                (tuple(map(int, row["shape"])), np.dtype(row["dtype"]).itemsize, int(row["index"]) in constant)
                for row in rows
            ]

        own = [op for op in self._interpreter._get_ops_details() if op["op_name"] != _DELEGATE]
        return [(str(op["op_name"]), seen(op["inputs"]), seen(op["outputs"])) for op in own]

    def close(self) -> None:
        self._set = self._get = self._invoke = self._forget = self._interpreter = None

    def _reason(self, text: str) -> str:
        runtime = f"{self.name} {self.version}"
        for pattern, words in _REASONS:
            found = re.search(pattern, text)
            if found:
                return words.format(*found.groups(), runtime=runtime)
        return f"{runtime} does not accept it: {' '.join(text.split())[:300]}; convert it again"


class LiteRtRunner(InterpreterRunner):
    """TFLite on ai-edge-litert."""

    name = "litert"
    package = "ai-edge-litert"
    module = "ai_edge_litert.interpreter"
    extra = "litert"
    variants = ("cpu", "cpu:fp16", "gpu", "gpu:fp16", "npu", "reference")


class ReferenceRunner(LiteRtRunner):
    """``litert:reference``: TensorFlow Lite's reference kernels. They are slow, and round as the scales of a file say:
    kernels of microcontrollers give the same integers, XNNPACK's are a step off here and there."""

    def _kernels(self) -> dict[str, Any]:
        return {"experimental_op_resolver_type": self._library.OpResolverType.BUILTIN_REF}


class TfliteRuntimeRunner(InterpreterRunner):
    """TFLite on tflite-runtime (last release 2.14: Python 3.11 and numpy 1 only)."""

    name = "tflite-runtime"
    package = "tflite-runtime"
    module = "tflite_runtime.interpreter"
    extra = "tflite-runtime"
    environment = TFLITE

    @classmethod
    def _missing(cls, path: str, error: ImportError | AttributeError) -> RuntimeMissingError:
        if cls.installed() is not None:
            return super()._missing(path, error)
        return RuntimeMissingError(
            f"{path} was to run on tflite-runtime, which is not installed in {sys.executable}; it needs Python 3.11 "
            "and numpy 1, so give it an environment of its own: python3.11 -m venv .venv-tflite && "
            ".venv-tflite/bin/pip install tflite-runtime==2.14.0 'numpy<2', then --on python:.venv-tflite/bin/python"
        )


def ports_of(interpreter: Any, path: str) -> tuple[list[Port], list[Port]]:
    """Inputs and outputs of the main graph of the file that an Interpreter has opened.

    Raises:
        UnsupportedError: one holds something else than numbers.
        ModelError: a name is damaged.
    """
    with reading(path, ModelError, "a TFLite model"):
        inputs, outputs = _details(interpreter)
    alone = len(inputs) == 1
    return [_port(n, d, alone, path) for n, d in inputs], [_port(n, d, alone, path) for n, d in outputs]


def _details(interpreter: Any) -> tuple[list[tuple[str, Any]], list[tuple[str, Any]]]:
    """Names and details of the inputs and outputs: the SignatureDef's where it describes the main graph."""
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    for key in interpreter.get_signature_list():
        signature = interpreter.get_signature_runner(key)
        named_in, named_out = signature.get_input_details(), signature.get_output_details()
        if _indices(named_in.values()) == _indices(inputs) and _indices(named_out.values()) == _indices(outputs):
            return _ordered(named_in), _ordered(named_out)
    return [(d["name"], d) for d in inputs], [(d["name"], d) for d in outputs]


def _port(name: str, details: Mapping[str, Any], alone: bool, path: str) -> Port:
    dtype = np.dtype(details["dtype"])
    if dtype.kind not in "biuf":
        raise UnsupportedError(f"{path}: {name!r} holds {dtype.name}; edgekit runs tensors of numbers only")
    sizes = details["shape_signature"] if len(details["shape_signature"]) else details["shape"]
    shape = tuple(int(size) if size >= 0 else unnamed(name, axis, alone) for axis, size in enumerate(sizes))
    parameters = details["quantization_parameters"]
    scales, zero_points = parameters["scales"], parameters["zero_points"]
    how = None
    if dtype.name in INTEGERS and len(scales) == 1 and scales[0] > 0:
        how = QuantizedTensor(dtype.name, float(scales[0]), int(zero_points[0]))
    return Port(TensorSpec(name, dtype.name, shape), int(details["index"]), how)


def _indices(details: Iterable[Mapping[str, Any]]) -> list[int]:
    return sorted(int(row["index"]) for row in details)


def _ordered(named: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """By name: a SignatureDef has no order of its own, and exporters number their arguments and results."""
    return sorted(named.items(), key=lambda item: natural(item[0]))


def _between(operators: Sequence[Mapping[str, Any]], delegates: Sequence[Mapping[str, Any]]) -> set[int]:
    """Indices of the operators reached backwards from the delegates' outputs, up to their inputs."""
    producer = {int(tensor): op for op in operators for tensor in op["outputs"]}
    taken: set[int] = set()
    for delegate in delegates:
        stop = {int(tensor) for tensor in delegate["inputs"]}
        waiting = [int(tensor) for tensor in delegate["outputs"]]
        while waiting:
            op = producer.get(waiting.pop())
            if op is None or op["index"] in taken:
                continue
            taken.add(op["index"])
            waiting += [int(tensor) for tensor in op["inputs"] if int(tensor) not in stop]
    return taken
